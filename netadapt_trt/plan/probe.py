"""Which sizes of a network follow which channel groups: found by asking ONNX's own shape inference.

Every size of a convolutional network is linear in the widths of its channel groups. Inference runs once at full widths and
once with each group one channel narrower; the differences are the coefficients. Random draws then check the expressions, and
what ONNX does not check (that a convolution's weight has its input's channels) is checked on the expressions themselves.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, shape_inference

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.axes import scaled
from netadapt_trt.plan.schema import Dim, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Constant, Op, Widths

__all__ = ["find_sizes"]

_NORMS = ("BatchNormalization", "InstanceNormalization")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Min", "Max")


def find_sizes(
    model: onnx.ModelProto,
    ops: Sequence[Op],
    weights: Mapping[str, Tensor],
    constants: Mapping[str, Constant],
    full: Widths,
) -> dict[str, Tensor]:
    """Every activation of ``model`` (input and output included) with its size as an expression of the groups in ``full``.

    Args:
        model: gives the inputs and outputs, the constants' values and the opset.
        ops: its nodes; attributes may follow widths.
        weights: their shapes in widths; values are not needed.
        constants: what is no weight.
        full: every group at its uncut size.

    Raises:
        TraceError: a size that is not linear, or sizes that do not fit together when channels are cut.
    """
    probe = _Probe(model, ops, weights, constants)
    base = probe.shapes(full)
    factors: dict[str, list[dict[str, int]]] = {name: [{} for _ in shape] for name, (_, shape) in base.items()}
    for group, size in full.items():
        if size < 2:
            continue  # it cannot shrink
        for name, (_, shape) in probe.shapes({**full, group: size - 1}, group).items():
            for axis, (before, after) in enumerate(zip(base[name][1], shape, strict=True)):
                if before != after:
                    factors[name][axis][group] = before - after
    tensors = {}
    for name, (dtype, shape) in base.items():
        dims = []
        for size, terms in zip(shape, factors[name], strict=True):
            const = size - sum(factor * full[group] for group, factor in terms.items())
            dims.append(Dim(const, tuple(sorted(terms.items()))))
        tensors[name] = Tensor(name, dtype, tuple(dims))
    _verify(probe, full, tensors)
    for op in ops:
        _check_operands(op, tensors, weights, constants)
    return tensors


def _verify(probe: _Probe, full: Widths, tensors: Mapping[str, Tensor]) -> None:
    draw = random.Random(0)
    for _ in range(2):
        widths = {group: draw.randint(1, size) for group, size in full.items()}
        for name, (_, shape) in probe.shapes(widths).items():
            expected = tuple(size.value(widths) for size in tensors[name].shape)
            if shape != expected:
                raise TraceError(f"the size of {name} does not follow its channel groups linearly: {shape} for {expected}")


class _Probe:
    """Shape inference of one network at any widths; the model is built once and its sizes are overwritten."""

    def __init__(
        self,
        model: onnx.ModelProto,
        ops: Sequence[Op],
        weights: Mapping[str, Tensor],
        constants: Mapping[str, Constant],
    ) -> None:
        outputs = [onnx.ValueInfoProto(name=value.name) for value in model.graph.output]
        initialised = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in initialised]
        kept = [tensor for tensor in model.graph.initializer if tensor.name in constants]
        graph = helper.make_graph([], "probe", inputs, outputs, initializer=kept)
        self._model = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        self._weights = weights
        self._varying: list[tuple[onnx.TensorShapeProto.Dimension, Dim]] = []
        for weight in weights.values():
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(weight.dtype))
            value = self._model.graph.input.add()
            value.CopyFrom(helper.make_tensor_value_info(weight.name, kind, [0] * len(weight.shape)))
            self._varying.extend(zip(value.type.tensor_type.shape.dim, weight.shape, strict=True))
        self._attributes: list[tuple[onnx.AttributeProto, Dim]] = []
        for op in ops:
            plain = {key: 1 if isinstance(value, Dim) else value for key, value in op.attributes.items()}
            node = self._model.graph.node.add()
            node.CopyFrom(helper.make_node(op.op_type, op.inputs, op.outputs, None, None, None, None, **plain))
            for attribute in node.attribute:
                value = op.attributes[attribute.name]
                if isinstance(value, Dim):
                    self._attributes.append((attribute, value))

    def shapes(self, widths: Widths, narrowed: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
        """(dtype, shape) of every value; ``narrowed`` names the group to blame when the sizes do not fit together."""
        for dimension, size in self._varying:
            dimension.dim_value = size.value(widths)
        for attribute, size in self._attributes:
            attribute.i = size.value(widths)
        try:
            inferred = shape_inference.infer_shapes(self._model, strict_mode=True, data_prop=True)
        except Exception as error:  # onnx raises its own and protobuf's errors
            where = f"group {narrowed} is" if narrowed else "channels are"
            lines = [line for line in str(error).splitlines() if line and " null" not in line]
            raise TraceError(f"the network's sizes do not fit together when {where} cut: {' | '.join(lines[:2])}") from error
        found = {}
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
            if value.name in self._weights:
                continue
            kind = value.type.tensor_type
            if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
                raise TraceError(f"ONNX cannot infer the shape of {value.name}; only fixed input shapes are supported")
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            found[value.name] = (dtype, tuple(d.dim_value for d in kind.shape.dim))
        return found


def _check_operands(
    op: Op, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor], constants: Mapping[str, Constant]
) -> None:
    """The equations between operands that shape inference leaves unchecked. Raises TraceError."""
    shapes = {**{name: t.shape for name, t in tensors.items()}, **{name: t.shape for name, t in weights.items()}}
    shapes |= {name: tuple(Dim(size) for size in constant.shape) for name, constant in constants.items()}
    operands = [shapes.get(name, ()) for name in op.inputs]
    equal: list[tuple[Dim, Dim]] = []
    if op.op_type == "Conv":
        groups, weight = op.attributes.get("group", 1), operands[1]
        if isinstance(groups, Dim):
            equal.extend([(operands[0][1], groups), (weight[1], Dim(1))])
        elif isinstance(groups, int):
            equal.append((operands[0][1], scaled(weight[1], groups)))
        equal.extend((bias[0], weight[0]) for bias in operands[2:] if bias)
    elif op.op_type == "ConvTranspose":
        equal.append((operands[0][1], operands[1][0]))
        equal.extend((bias[0], tensors[op.outputs[0]].shape[1]) for bias in operands[2:] if bias)
    elif op.op_type == "Gemm":
        inner = operands[0][0 if op.attributes.get("transA", 0) else 1]
        equal.append((inner, operands[1][1 if op.attributes.get("transB", 0) else 0]))
        made = tensors[op.outputs[0]].shape[1]
        equal.extend((bias[-1], made) for bias in operands[2:] if bias and bias[-1] != Dim(1))
    elif op.op_type in _NORMS:
        equal.extend((statistic[0], operands[0][1]) for statistic in operands[1:])
    elif op.op_type in _ELEMENTWISE:
        made_sizes = tensors[op.outputs[0]].shape
        for shape in operands:
            pairs = zip(reversed(shape), reversed(made_sizes), strict=False)
            equal.extend((mine, made) for mine, made in pairs if mine != Dim(1))
    for mine, other in equal:
        if mine != other:
            raise TraceError(
                f"{op.op_type} {op.name} has {_text(mine)} channels where {_text(other)} are needed; the channel groups "
                f"do not agree with the exported network"
            )


def _text(size: Dim) -> str:
    return " + ".join([*(f"{factor} x {group}" for group, factor in size.terms), str(size.const)])
