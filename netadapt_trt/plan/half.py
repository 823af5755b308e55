"""fp32 ONNX -> fp16 ONNX: the same graph with half-precision weights and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.placement import require_unquantised

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["to_fp16"]

# (operator, input) that ONNX types float32 whatever the data are.
_FLOAT_INPUTS = frozenset({("Resize", 2), ("Upsample", 1)})


def to_fp16(model: onnx.ModelProto, *, io: Literal["fp16", "fp32"] = "fp32") -> onnx.ModelProto:
    """A copy of ``model`` whose float32 weights, constants and tensors are float16.

    With ``io="fp32"`` inputs and outputs stay float32 behind casts: that is what callers hold, the file serves programs that
    know nothing of its precision, and TensorRT merges the cast into the copy it makes of an input anyway. ``"fp16"`` is for
    a layer that is timed alone: inside a network its neighbours hand it fp16.

    Raises:
        SpecError: the model is quantised, has no fp32 weights or tensors, has branches, or a weight is too large for fp16.
    """
    require_unquantised(model, "turned into fp16")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _require_fp32(graph)
    kept = _float_operands(graph.node)
    bounds = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half(tensor, saturate=tensor.name in bounds))
    for node in graph.node:
        _convert_attributes(node, kept, bounds)
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in kept:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    ends = [value for value in (*graph.input, *graph.output) if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    if io == "fp32":
        _cast_ends(graph)
    else:
        for value in ends:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return result


def _require_fp32(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise SpecError(f"{node.op_type} {node.name} has branches of its own, which are not turned into fp16; use fp32")
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    if TensorProto.FLOAT not in (*ends, *(tensor.data_type for tensor in graph.initializer)):
        raise SpecError("the model has no fp32 tensors: it is fp16 already, or does not compute in floating point")


def _float_operands(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {node.input[at] for node in nodes for op, at in _FLOAT_INPUTS if node.op_type == op and at < len(node.input)}


def _half(tensor: onnx.TensorProto, *, saturate: bool) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.finfo(np.float16).max)
    if saturate:
        # An open bound is written as the largest float32; in fp16 the largest fp16 says the same.
        values = np.clip(values, -largest, largest)
    elif values.size and not float(np.abs(values).max()) <= largest:
        raise SpecError(f"{tensor.name or 'a constant'} has values beyond {largest:.0f}, the largest of fp16; use fp32")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _convert_attributes(node: onnx.NodeProto, kept: set[str], bounds: set[str]) -> None:
    """What an operator holds itself: the target of a cast, the value of a constant."""
    outside = node.op_type == "Constant" and node.output[0] in kept
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT and not outside:
            attribute.t.CopyFrom(_half(attribute.t, saturate=node.output[0] in bounds))
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats") and not outside:
            values = np.float32(attribute.f) if attribute.name == "value_float" else np.array(attribute.floats, np.float32)
            tensor = numpy_helper.from_array(np.asarray(values, np.float32))
            attribute.CopyFrom(helper.make_attribute("value", _half(tensor, saturate=node.output[0] in bounds)))


def _cast_ends(graph: onnx.GraphProto) -> None:
    """Casts behind float32 inputs and before float32 outputs, whose names stay."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    weights = {tensor.name for tensor in graph.initializer}
    before, after = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in weights:
            inner = _fresh(f"{value.name}_fp16", taken)
            for node in graph.node:
                _replace(node.input, value.name, inner)
            before.append(helper.make_node("Cast", [value.name], [inner], inner, to=TensorProto.FLOAT16))
    made = {name for node in graph.node for name in node.output}
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name in made:
            inner = _fresh(f"{value.name}_fp16", taken)
            for node in graph.node:
                _replace(node.input, value.name, inner)
                _replace(node.output, value.name, inner)
            after.append(helper.make_node("Cast", [inner], [value.name], f"{value.name}_fp32", to=TensorProto.FLOAT))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _replace(names: onnx.NodeProto, old: str, new: str) -> None:
    for at, name in enumerate(names):
        if name == old:
            names[at] = new
