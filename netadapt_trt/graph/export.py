"""PyTorch to ONNX, quietly, in one canonical form: batch norm folded, global means as GlobalAveragePool.

TensorRT before 10 reads reduction axes given as inputs wrongly, so a mean over height and width is always written as
GlobalAveragePool. Where the exporter writes the number of channels into a constant (reshapes, the sizes of a resize, the
repetition before a product) the canonical form says the same without it, and so holds at any width.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper, shape_inference, version_converter

from netadapt_trt.errors import SpecError, TraceError
from netadapt_trt.graph.trace import export_program, quiet_export
from netadapt_trt.plan.reshape import relative_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

__all__ = ["canonical", "export_onnx"]

_EXPORTER_OPSET = 18
"""The oldest opset that PyTorch's exporter writes by itself."""

_BROADCASTING = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow")


def export_onnx(model: nn.Module, input_shape: Sequence[int], *, opset: int | None = None) -> onnx.ModelProto:
    """``model`` in eval mode as an optimised ONNX model for inputs of ``input_shape``, named ``input`` and ``output``.

    Raises:
        TraceError: the network or one of its operators has no ONNX form.
        SpecError: it has one, but not in ``opset``.
    """
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    program = export_program(model, torch.randn(tuple(input_shape)).to(device))
    try:
        with quiet_export(), _silence(), torch.no_grad():
            written = None if opset is None else max(opset, _EXPORTER_OPSET)
            exported = torch.onnx.export(program, dynamo=True, optimize=True, verbose=False, opset_version=written)
            proto = exported.model_proto if exported is not None else None
    except Exception as error:  # the exporter raises many kinds of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TraceError(f"the network has no ONNX form: {' | '.join(lines[:3])}") from error
    if proto is None:
        raise TraceError("the ONNX exporter returned nothing")
    return canonical(proto) if opset is None else _in_opset(canonical(proto), opset)


def _opset_of(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def _in_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """``model`` in this very opset. The exporter writes the nearest one it can and says nothing, so it is converted here."""
    if _opset_of(model) == opset:
        return model
    converted = _converted(model, opset)
    if not isinstance(converted, str):
        return converted
    between = range(opset + 1, _opset_of(model))
    lowest = next((each for each in between if not isinstance(_converted(model, each), str)), _opset_of(model))
    bound = "lowest" if opset < _opset_of(model) else "highest"
    raise SpecError(
        f"the network cannot be written in ONNX opset {opset}: {converted}; the {bound} it has a form in is {lowest}"
    )


def _without_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which no attribute says what would hold without it: older operators may not know it, and mean the same."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for node in copied.graph.node:
        known = onnx.defs.get_schema(node.op_type, _opset_of(model), node.domain).attributes
        for entry in [entry for entry in node.attribute if entry.name in known]:
            default = onnx.AttributeProto()
            default.CopyFrom(known[entry.name].default_value)
            if default.type and helper.get_attribute_value(default) == helper.get_attribute_value(entry):
                node.attribute.remove(entry)
    return copied


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | str:
    """In ``opset``, checked; or why not."""
    try:
        with _silence():
            converted = version_converter.convert_version(_without_defaults(model), opset)
        onnx.checker.check_model(converted, full_check=True)
    except (RuntimeError, onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        reason = str(error).strip() or type(error).__name__
        return reason.splitlines()[0].split("failed: ")[-1]
    return converted if _opset_of(converted) == opset else f"its conversion gives opset {_opset_of(converted)}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints and logs about its own steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with global means, flattening reshapes and names in one form, and no node that does nothing."""
    shapes = _shapes(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    outputs = {value.name for value in model.graph.output}
    needless = _needless_expansions(model, shapes)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if (node.op_type in ("Identity", "Dropout") or node.output[0] in needless) and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            shapes.setdefault(node.input[0], shapes.get(node.output[0], ()))
            continue
        for written in _rewritten(node, shapes, constants):
            nodes.append(written)
            _free_of_channels(model, written, shapes, constants)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _name_ends(model)
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    return model


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}


def _rewritten(
    node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    before = shapes.get(node.input[0]) if node.input else None
    after = shapes.get(node.output[0])
    if before is None or after is None:
        return [node]
    if node.op_type == "ReduceMean" and len(before) == 4 and _axes(node, constants, 4) == {2, 3}:
        if len(after) == 4:
            return [helper.make_node("GlobalAveragePool", [node.input[0]], [node.output[0]], name=node.name)]
        middle = f"{node.output[0]}_pooled"
        return [
            helper.make_node("GlobalAveragePool", [node.input[0]], [middle], name=f"{node.name}_pool"),
            helper.make_node("Flatten", [middle], [node.output[0]], name=node.name, axis=1),
        ]
    if node.op_type in ("Reshape", "Squeeze") and len(before) > 2 and len(after) == 2 and before[0] == after[0]:
        return [helper.make_node("Flatten", [node.input[0]], [node.output[0]], name=node.name, axis=1)]
    return [node]


def _needless_expansions(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Outputs of Expand that are read only by element-wise operators which would repeat the input themselves."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def repeats(node: onnx.NodeProto, name: str) -> bool:
        others = [other for other in node.input if other != name]
        return node.op_type in _BROADCASTING and any(shapes.get(other) == shapes.get(name) for other in others)

    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Expand"
        and readers.get(node.output[0])
        and all(repeats(reader, node.output[0]) for reader in readers[node.output[0]])
    }


def _free_of_channels(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, onnx.TensorProto],
) -> None:
    """Give ``node`` a constant that says the same without counting channels, where there is one."""
    if node.op_type == "Reshape" and node.input[1] in constants:
        index, values = 1, _target(shapes.get(node.input[0]), shapes.get(node.output[0]))
    elif node.op_type == "Resize" and len(node.input) == 4 and node.input[3] in constants:
        index, values = 2, _factors(shapes.get(node.input[0]), shapes.get(node.output[0]))
    else:
        return
    if values is None:
        return
    for entry in [entry for entry in node.attribute if entry.name == "allowzero"]:
        node.attribute.remove(entry)  # here a zero stands for the input's size
    name = f"{node.output[0]}_{'shape' if index == 1 else 'scales'}"
    tensor = numpy_helper.from_array(values, name)
    model.graph.initializer.append(tensor)
    constants[name] = tensor
    del node.input[index:]
    node.input.append(name)


def _target(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> np.ndarray | None:
    if before is None or after is None or 0 in (*before, *after):
        return None
    return np.array(relative_shape(before, after), dtype=np.int64)


def _factors(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> np.ndarray | None:
    """Scales of a Resize that give exactly the sizes it had; None where rounding would not."""
    if before is None or after is None or 0 in before or len(before) != len(after):
        return None
    scales = np.array(after, dtype=np.float32) / np.array(before, dtype=np.float32)
    exact = np.floor(np.array(before, dtype=np.float32) * scales).astype(np.int64).tolist() == list(after)
    return scales if exact else None


def _axes(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], rank: int) -> set[int]:
    for attribute in node.attribute:
        if attribute.name == "axes":
            return {axis % rank for axis in attribute.ints}
    if len(node.input) > 1 and node.input[1] in constants:
        return {int(axis) % rank for axis in np.atleast_1d(numpy_helper.to_array(constants[node.input[1]]))}
    return set()


def _name_ends(model: onnx.ModelProto) -> None:
    """Input and output by the names that people look for: ``input`` and ``output``, numbered where there are several."""
    initialised = {tensor.name for tensor in model.graph.initializer}
    names: dict[str, str] = {}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        real = [value for value in values if value.name not in initialised]
        for index, value in enumerate(real):
            names[value.name] = kind if len(real) == 1 else f"{kind}{index}"
            value.name = names[value.name]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
