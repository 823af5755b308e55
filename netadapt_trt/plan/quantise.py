"""fp32 ONNX -> int8 ONNX by QuantizeLinear and DequantizeLinear: scales, zero points, and the rewriting of the graph.

The integer arithmetic is that of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018): value = scale * (integer - zero point), zero exactly representable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.placement import RECIPES, GraphView, Recipe, default_range, place, require_unquantised

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from netadapt_trt.plan.placement import Placement

__all__ = ["Quantisation", "Ranges", "activation_quantisation", "calibrated_tensors", "to_int8", "weight_scales"]

Ranges = dict[str, tuple[float, float]]
"""Tensor -> (lowest, highest value to represent); values beyond saturate."""

_MIN_OPSET = 13  # the first whose QuantizeLinear takes an axis
_INT32_MAX = 2.0**31 - 1


@dataclass(frozen=True, slots=True)
class Quantisation:
    """One tensor's scale (float32) and zero point."""

    scale: np.float32
    zero_point: int


def activation_quantisation(low: float, high: float, recipe: Recipe) -> Quantisation:
    """What represents [low, high], widened to hold 0.

    ``qdq-ort-x86``: uint8, 255 steps over the range. ``qdq-trt``: int8, 127 steps to the end that is further from zero, zero
    point 0. A range of one point gets scale 1. Raises SpecError for an end that is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SpecError(f"an activation ranges from {low} to {high}; look for a weight or an input that is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    reach, steps = (max(-low, high), 127) if recipe == "qdq-trt" else (high - low, 255)
    scale = np.float32(reach / steps)
    # Below a normal float32 the division by it is meaningless, and slow.
    if scale < np.finfo(np.float32).tiny:
        return Quantisation(np.float32(1.0), 0)
    if recipe == "qdq-trt":
        return Quantisation(scale, 0)
    # Rounded towards zero: ONNX Runtime drops a Clip only where the highest code does not reach beyond its bound.
    if float(scale) * steps > reach:
        scale = np.nextafter(scale, np.float32(0))
    return Quantisation(scale, min(max(round(-low / float(scale)), 0), 255))


def weight_scales(weight: np.ndarray, axis: int) -> np.ndarray:
    """float32 scale of each slice along ``axis``, its largest magnitude being 127 steps; 1 for a slice of zeros."""
    if not np.isfinite(weight).all():
        raise SpecError("a weight is not finite; int8 has no code for it")
    others = tuple(at for at in range(weight.ndim) if at != axis)
    scales: np.ndarray = (np.abs(weight).max(axis=others, initial=0.0) / 127.0).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return scales


def calibrated_tensors(model: onnx.ModelProto, recipe: str, keep: Collection[str] = ()) -> list[str]:
    """The activations whose ranges :func:`to_int8` asks for, in order. Raises SpecError as that does."""
    placement = _placed(model, _known(recipe), edges=False, keep=keep)[1]
    return list(dict.fromkeys(placement.tensors.values()))


def to_int8(
    model: onnx.ModelProto,
    *,
    recipe: str,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    io: Literal["fp32", "int8"] = "fp32",
    keep: Collection[str] = (),
) -> onnx.ModelProto:
    """A copy of the fp32 ``model`` quantised by ``recipe``; names of operators, inputs and outputs stay.

    ``qdq-trt``: int8 activations and weights, all zero points 0, float weights behind a Q/DQ pair and float biases, as every
    TensorRT from 8.6 on reads them. ``qdq-ort-x86``: uint8 activations, int8 weights, int32 biases, the operands that the
    kernels for VNNI processors take. Weights have a scale per output channel in both.

    ``ranges`` must cover :func:`calibrated_tensors`; None takes fixed ones, for models that are only timed. ``io="int8"``
    makes inputs and outputs 8 bits wide, as the neighbours of a layer inside a quantised network hand them over; what a
    Gemm returns stays float, as the result of a classifier is. The layers in ``keep``, by the name of their weight without
    its ``.weight``, stay as they are.

    Raises:
        SpecError: unknown recipe or layer, opset below 13, a model that is quantised, fp16 or has nothing to quantise, a
            missing or infinite range.
    """
    known = _known(recipe)
    view, placement = _placed(model, known, edges=io == "int8", keep=keep)
    return _Rewriting(model, view, placement, known, io == "int8").run(ranges)


def _known(recipe: str) -> Recipe:
    for known in RECIPES:
        if recipe == known:
            return known
    raise SpecError(f"int8 needs a quantisation recipe, {recipe!r} is none; known: {', '.join(RECIPES)}")


def _placed(model: onnx.ModelProto, recipe: Recipe, *, edges: bool, keep: Collection[str]) -> tuple[GraphView, Placement]:
    require_unquantised(model, "quantised again")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if opset < _MIN_OPSET:
        raise SpecError(
            f"the model has opset {opset}; quantised weights with a scale per channel need {_MIN_OPSET} or later: "
            "export it again with --opset 17"
        )
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    if TensorProto.FLOAT16 in kinds:
        raise SpecError("the model is fp16; int8 starts from the fp32 model")
    view = GraphView(model.graph)
    placement = place(view, recipe, edges=edges, keep=keep)
    if not placement.tensors:
        raise SpecError("the model has nothing that is computed in int8: no convolution, no Gemm, no pooling")
    return view, placement


class _Rewriting:
    """One model on its way to int8. Q and DQ nodes are named after their tensor."""

    def __init__(self, model: onnx.ModelProto, view: GraphView, placement: Placement, recipe: Recipe, edges: bool) -> None:
        self._model, self._view, self._placement, self._recipe, self._edges = model, view, placement, recipe, edges
        self._trt = recipe == "qdq-trt"
        self._integer = np.int8 if self._trt else np.uint8
        self._taken = set(view.weights) | set(view.makers) | {value.name for value in model.graph.input}
        self._nodes: list[onnx.NodeProto] = []
        self._new: list[onnx.TensorProto] = []
        self._dequantised: dict[str, str] = {}  # quantised tensor -> the name its readers read now
        self._renamed: dict[str, str] = {}  # graph output -> the name its maker gives it now
        self._scales: dict[str, tuple[Quantisation, str, str]] = {}  # range's tensor -> values, names of scale and zero
        self._weights: dict[tuple[str, int], tuple[str, np.ndarray]] = {}

    def run(self, ranges: Mapping[str, tuple[float, float]] | None) -> onnx.ModelProto:
        for root in dict.fromkeys(self._placement.tensors.values()):
            self._scales[root] = self._scale(root, ranges)
        outputs = {value.name for value in self._model.graph.output}
        for name in self._placement.tensors:
            if name in outputs:
                self._renamed[name] = self._fresh(f"{name}_float")
        for value in self._model.graph.input:
            if value.name in self._placement.tensors:
                self._pair(value.name)
        for node in self._view.graph.node:
            self._nodes.append(self._rewritten(node))
            for name in node.output:
                if name in self._placement.tensors:
                    self._pair(name)
        return self._assembled()

    def _scale(self, root: str, ranges: Mapping[str, tuple[float, float]] | None) -> tuple[Quantisation, str, str]:
        if ranges is not None and root not in ranges:
            raise SpecError(f"there is no range for {root!r}; calibrate again on the model that is quantised")
        low, high = default_range(self._view, root) if ranges is None else ranges[root]
        try:
            found = activation_quantisation(low, high, self._recipe)
        except SpecError as error:
            raise SpecError(f"{root}: {error}") from error
        scale = self._constant(f"{root}_scale", np.asarray(found.scale))
        return found, scale, self._constant(f"{root}_zero_point", np.array(found.zero_point, self._integer))

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        fresh = self._fresh(name)
        self._new.append(numpy_helper.from_array(values, fresh))
        return fresh

    def _pair(self, name: str) -> None:
        """Q and DQ behind a tensor that has just been made; at 8-bit ends of the graph one of the two is outside."""
        _, scale, zero = self._scales[self._placement.tensors[name]]
        returned = name in self._renamed
        codes = name
        if not (self._edges and name in self._view.inputs):
            codes = name if returned and self._edges else self._fresh(f"{name}_quantized")
            source = self._renamed.get(name, name)
            self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [codes], f"{name}_QuantizeLinear"))
        if self._edges and not self._view.readers[name]:
            return
        values = name if returned and not self._edges else self._fresh(f"{name}_dequantized")
        self._nodes.append(helper.make_node("DequantizeLinear", [codes, scale, zero], [values], f"{name}_DequantizeLinear"))
        self._dequantised[name] = values

    def _rewritten(self, node: onnx.NodeProto) -> onnx.NodeProto:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for at, name in enumerate(node.input):
            new.input[at] = self._dequantised.get(name, name)
        for at, name in enumerate(node.output):
            new.output[at] = self._renamed.get(name, name)
        if node.output[0] in self._placement.weighted:
            self._quantise_weight(node, new)
        return new

    def _quantise_weight(self, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
        axis = _output_axis(node)
        bias = node.input[2] if len(node.input) > 2 else ""
        if self._trt:
            new.input[1] = self._weight(node.input[1], axis, None)[0]
            return
        data = self._scales[self._placement.tensors[node.input[0]]][0]
        values = numpy_helper.to_array(self._view.weights[bias]).astype(np.float64) if bias else None
        # The product of both scales is the bias's: a nearly dead channel's may be too small for it to fit 32 bits.
        floor = None if values is None else np.abs(values) / (float(data.scale) * _INT32_MAX) * (1 + 1e-6)
        new.input[1], scales = self._weight(node.input[1], axis, floor)
        if values is not None:
            new.input[2] = self._bias(bias, values, scales * data.scale)

    def _weight(self, name: str, axis: int, floor: np.ndarray | None) -> tuple[str, np.ndarray]:
        """(name of the dequantised weight, its scales); once for all operators that share it."""
        weight = numpy_helper.to_array(self._view.weights[name])
        try:
            scales = weight_scales(weight, axis)
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error
        if floor is not None:
            scales = np.maximum(scales, floor.astype(np.float32))
        known = self._weights.get((name, axis))
        if known is not None and np.array_equal(known[1], scales):
            return known
        scale = self._constant(f"{name}_scale", scales)
        zero = self._constant(f"{name}_zero_point", np.zeros(scales.shape, np.int8))
        if self._trt:
            # TensorRT 8.6 wants weights in float with a Q of their own.
            codes = self._fresh(f"{name}_quantized")
            quantise = helper.make_node("QuantizeLinear", [name, scale, zero], [codes], f"{name}_QuantizeLinear", axis=axis)
            self._nodes.append(quantise)
        else:
            shape = [-1 if at == axis else 1 for at in range(weight.ndim)]
            integers = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
            codes = self._constant(f"{name}_quantized", integers)
        found = self._fresh(f"{name}_dequantized"), scales
        self._nodes.append(
            helper.make_node("DequantizeLinear", [codes, scale, zero], [found[0]], f"{name}_DequantizeLinear", axis=axis)
        )
        self._weights[name, axis] = found
        return found

    def _bias(self, name: str, values: np.ndarray, scales: np.ndarray) -> str:
        scales = scales.astype(np.float32)
        integers = np.clip(np.rint(values / scales), -_INT32_MAX, _INT32_MAX).astype(np.int32)
        operands = [
            self._constant(f"{name}_quantized", integers),
            self._constant(f"{name}_scale", scales),
            self._constant(f"{name}_zero_point", np.zeros(scales.shape, np.int32)),
        ]
        made = self._fresh(f"{name}_dequantized")
        self._nodes.append(helper.make_node("DequantizeLinear", operands, [made], f"{made}_DequantizeLinear", axis=0))
        return made

    def _assembled(self) -> onnx.ModelProto:
        source = self._model.graph
        model = onnx.ModelProto(ir_version=self._model.ir_version, producer_name=self._model.producer_name)
        model.opset_import.extend(self._model.opset_import)
        model.metadata_props.extend(self._model.metadata_props)
        graph = model.graph
        graph.name = source.name
        graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in read)
        graph.initializer.extend(self._new)
        gone = set(self._view.weights) - read
        graph.input.extend(value for value in source.input if value.name not in gone)
        graph.output.extend(source.output)
        graph.value_info.extend(value for value in source.value_info if value.name in read)
        if self._edges:
            kind = TensorProto.INT8 if self._trt else TensorProto.UINT8
            for value in (*graph.input, *graph.output):
                if value.name in self._placement.tensors:
                    value.type.tensor_type.elem_type = kind
        return model


def _output_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Conv":
        return 0
    transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
    return 0 if node.op_type == "Gemm" and transposed else 1
