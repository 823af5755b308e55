"""Makes a plan from an optimised ONNX export: which sizes follow which channel groups is found by asking ONNX itself.

Every size of a convolutional network is linear in the widths of its channel groups. So weights are reduced to their shapes,
ONNX shape inference runs once at full widths and once with each group one channel narrower, and the differences are the
coefficients. A random draw then checks the expressions; what is not linear, or does not fit together, is refused.
No operator needs a rule of its own here, and the probe and the plan cannot disagree.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.schema import Constant, Dim, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Attribute, FrozenChannels, Group, Widths

__all__ = ["Layouts", "plan_from_onnx"]

Layouts = "Mapping[str, tuple[tuple[tuple[str | None, int, int], ...], ...]]"
"""Parameter -> for each dimension its segments (group or None, channels, inner); length is the sum of channels * inner."""

# A constant bigger than this is weights in disguise.
_LARGEST_CONSTANT = 4096


def plan_from_onnx(
    model: onnx.ModelProto,
    layouts: Mapping[str, tuple[tuple[tuple[str | None, int, int], ...], ...]],
    groups: Sequence[Group],
    frozen: Sequence[FrozenChannels],
    *,
    model_name: str,
    args: Mapping[str, str],
    notices: Sequence[str] = (),
) -> Plan:
    """The plan of ``model``, an optimised export whose initialisers are named after the parameters in ``layouts``.

    Values of weights are not read. Raises TraceError when an initialiser cannot be matched to a parameter, or a size does
    not follow the groups linearly.
    """
    weights = _weights(model, layouts)
    constants = {tensor.name: _constant(tensor) for tensor in model.graph.initializer if tensor.name not in weights}
    ops = tuple(_op(index, node, weights) for index, node in enumerate(model.graph.node))
    used = {name for op in ops for name in op.inputs}
    constants = {name: constant for name, constant in constants.items() if name in used}
    inputs = tuple(value for value in model.graph.input if value.name not in weights and value.name not in constants)
    probe = _Probe(ops, weights, constants, inputs, [value.name for value in model.graph.output], model)
    full = {group.name: group.size for group in groups}
    return Plan(
        model=model_name,
        args=dict(args),
        notices=tuple(notices),
        inputs=tuple(value.name for value in inputs),
        outputs=tuple(value.name for value in model.graph.output),
        groups=tuple(groups),
        frozen=tuple(frozen),
        tensors=_expressions(probe, full),
        weights={name: weight for name, weight in weights.items() if name in used},
        constants=constants,
        ops=ops,
    )


def _dim(segments: Sequence[tuple[str | None, int, int]]) -> Dim:
    const, terms = 0, dict[str, int]()
    for group, channels, inner in segments:
        if group is None:
            const += channels * inner
        else:
            terms[group] = terms.get(group, 0) + inner
    return Dim(const, tuple(sorted(terms.items())))


def _weights(
    model: onnx.ModelProto, layouts: Mapping[str, tuple[tuple[tuple[str | None, int, int], ...], ...]]
) -> dict[str, Tensor]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    dtypes = {tensor.name: _dtype(tensor.data_type) for tensor in model.graph.initializer}
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name not in layouts:
            continue
        dims = tuple(_dim(segments) for segments in layouts[name])
        lengths = tuple(sum(channels * inner for _, channels, inner in segments) for segments in layouts[name])
        if lengths != shape:
            raise TraceError(f"the export gives parameter {name} the shape {shape}, its channels say {lengths}")
        found[name] = Tensor(name, dtypes[name], dims)
    for node in model.graph.node:
        # Folding a batch norm makes a bias that no parameter is named after; it has the length of its convolution's output.
        if node.op_type != "Conv" or len(node.input) < 3 or node.input[1] not in found:
            continue
        bias = node.input[2]
        if bias in shapes and bias not in found:
            found[bias] = Tensor(bias, dtypes[bias], found[node.input[1]].shape[:1])
    return found


def _dtype(data_type: int) -> str:
    return helper.tensor_dtype_to_np_dtype(data_type).name


def _constant(tensor: onnx.TensorProto) -> Constant:
    values = numpy_helper.to_array(tensor)
    if values.size > _LARGEST_CONSTANT:
        raise TraceError(
            f"the export holds {tensor.name} of shape {tuple(tensor.dims)}, which is no parameter of the network; "
            f"channel groups cannot be followed through it"
        )
    kind = int if values.dtype.kind in "iub" else float
    return Constant(tensor.name, values.dtype.name, tuple(values.shape), tuple(kind(value) for value in values.ravel()))


def _op(index: int, node: onnx.NodeProto, weights: Mapping[str, Tensor]) -> Op:
    attributes: dict[str, Attribute] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list):
            value = tuple(value)
        if not isinstance(value, int | float | str | tuple):
            raise TraceError(f"operator {node.op_type} carries the attribute {attribute.name}, which a plan cannot hold")
        attributes[attribute.name] = value
    if node.domain not in ("", "ai.onnx"):
        raise TraceError(f"operator {node.domain}::{node.op_type} is not a standard ONNX operator")
    if node.op_type == "Conv" and node.input[1] in weights:
        weight, groups = weights[node.input[1]], attributes.get("group", 1)
        # Depthwise: one input channel a filter, so there are as many convolution groups as input channels.
        if isinstance(groups, int) and groups > 1 and weight.shape[1] == Dim(1) and not weight.shape[0].fixed:
            size = next(iter(node.input))  # only for the message below
            attributes["group"] = _conv_groups(weight.shape[0], groups, size)
    return Op(f"{index}_{node.op_type}", node.op_type, tuple(node.input), tuple(node.output), attributes)


def _conv_groups(filters: Dim, groups: int, where: str) -> Dim:
    """The expression of ``group``: filters divided by filters per input channel."""
    factors = [factor for _, factor in filters.terms]
    smallest = min(factors)
    for multiplier in {1, smallest}:
        if all(factor % multiplier == 0 for factor in factors) and filters.const % multiplier == 0:
            dim = Dim(filters.const // multiplier, tuple((group, factor // multiplier) for group, factor in filters.terms))
            if multiplier == 1 or groups != 0:
                return dim
    raise TraceError(f"the depthwise convolution of {where} has channels that do not divide evenly")


class _Probe:
    """Shape inference of the network at any widths."""

    def __init__(
        self,
        ops: Sequence[Op],
        weights: Mapping[str, Tensor],
        constants: Mapping[str, Constant],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[str],
        model: onnx.ModelProto,
    ) -> None:
        self._ops, self._weights, self._outputs = ops, weights, outputs
        self._inputs = list(inputs)
        self._constants = [tensor for tensor in model.graph.initializer if tensor.name in constants]
        self._opsets, self._ir = model.opset_import, model.ir_version

    def shapes(self, widths: Widths) -> dict[str, tuple[str, tuple[int, ...]]]:
        """(dtype, shape) of every value. Raises TraceError when the sizes do not fit together."""
        nodes = []
        for op in self._ops:
            plain = {key: value.value(widths) if isinstance(value, Dim) else value for key, value in op.attributes.items()}
            nodes.append(helper.make_node(op.op_type, op.inputs, op.outputs, None, None, None, None, **plain))
        declared = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(_np(weight.dtype)),
                [size.value(widths) for size in weight.shape],
            )
            for name, weight in self._weights.items()
        ]
        graph = helper.make_graph(
            nodes,
            "probe",
            [*self._inputs, *declared],
            [onnx.ValueInfoProto(name=name) for name in self._outputs],
            initializer=self._constants,
        )
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir)
        try:
            inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except Exception as error:  # onnx raises its own and protobuf's errors
            raise TraceError(f"the network's sizes do not fit together when channels are cut: {error}") from error
        found = {}
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
            if value.name in self._weights:
                continue
            kind = value.type.tensor_type
            if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
                raise TraceError(f"ONNX cannot infer the shape of {value.name}; only fixed input shapes are supported")
            found[value.name] = (_dtype(kind.elem_type), tuple(d.dim_value for d in kind.shape.dim))
        return found


def _np(name: str) -> np.dtype[Any]:
    return np.dtype(name)


def _expressions(probe: _Probe, full: Widths) -> dict[str, Tensor]:
    base = probe.shapes(full)
    terms: dict[str, list[dict[str, int]]] = {name: [{} for _ in shape] for name, (_, shape) in base.items()}
    for group, size in full.items():
        if size < 2:
            continue
        changed = probe.shapes({**full, group: size - 1})
        for name, (_, shape) in changed.items():
            for axis, (before, after) in enumerate(zip(base[name][1], shape, strict=True)):
                if before != after:
                    terms[name][axis][group] = before - after
    tensors = {}
    for name, (dtype, shape) in base.items():
        dims = []
        for size, factors in zip(shape, terms[name], strict=True):
            const = size - sum(factor * full[group] for group, factor in factors.items())
            dims.append(Dim(const, tuple(sorted(factors.items()))))
        tensors[name] = Tensor(name, dtype, tuple(dims))
    _verify(probe, full, tensors)
    return tensors


def _verify(probe: _Probe, full: Widths, tensors: Mapping[str, Tensor]) -> None:
    draw = random.Random(0)
    for _ in range(2):
        widths = {group: draw.randint(1, size) for group, size in full.items()}
        for name, (_, shape) in probe.shapes(widths).items():
            expected = tuple(size.value(widths) for size in tensors[name].shape)
            if shape != expected:
                raise TraceError(f"the size of {name} does not follow its channel groups linearly: {shape} for {expected}")
