"""PyTorch to ONNX, quietly, in one canonical form: batch norm folded, global means as GlobalAveragePool.

TensorRT before 10 reads reduction axes given as inputs wrongly, so a mean over height and width is always written as
GlobalAveragePool; a reshape that flattens is written as Flatten, which holds at any width.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper, shape_inference

from netadapt_trt.errors import TraceError
from netadapt_trt.graph.trace import export_program, quiet_export

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

__all__ = ["canonical", "export_onnx"]


def export_onnx(model: nn.Module, input_shape: Sequence[int], *, opset: int | None = None) -> onnx.ModelProto:
    """``model`` in eval mode as an optimised ONNX model for inputs of ``input_shape``, named ``input`` and ``output``.

    Raises:
        TraceError: the network or one of its operators has no ONNX form.
    """
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    program = export_program(model, torch.randn(tuple(input_shape)).to(device))
    try:
        with quiet_export(), _silence(), torch.no_grad():
            exported = torch.onnx.export(program, dynamo=True, optimize=True, verbose=False, opset_version=opset)
            proto = exported.model_proto if exported is not None else None
    except Exception as error:  # the exporter raises many kinds of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TraceError(f"the network has no ONNX form: {' | '.join(lines[:3])}") from error
    if proto is None:
        raise TraceError("the ONNX exporter returned nothing")
    return canonical(proto)


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
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type in ("Identity", "Dropout") and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            continue
        nodes.extend(_rewritten(node, shapes, constants))
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
