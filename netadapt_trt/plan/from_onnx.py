"""Makes a plan from an optimised ONNX export and the channel layouts of the parameters its initialisers are named after.

Weights are reduced to their shapes; what their sizes make of every activation is found by :mod:`netadapt_trt.plan.probe`, so
no operator needs a rule of its own here and the probe and the plan cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx
from onnx import helper, numpy_helper

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.axes import divided
from netadapt_trt.plan.probe import find_sizes
from netadapt_trt.plan.schema import Constant, Dim, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.plan.schema import Attribute, FrozenChannels, Group

__all__ = ["Layouts", "plan_from_onnx"]

Layouts = Mapping[str, tuple[tuple[tuple[str | None, int, int], ...], ...]]
"""Parameter -> for each dimension its segments (group or None, channels, inner); length is the sum of channels * inner."""

# A constant of more numbers than this is not kept by value.
_LARGEST_CONSTANT = 4096


def plan_from_onnx(
    model: onnx.ModelProto,
    layouts: Layouts,
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
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    ops = tuple(_op(index, node, weights, sizes) for index, node in enumerate(model.graph.node))
    used = {name for op in ops for name in op.inputs}
    values = [tensor for tensor in model.graph.initializer if tensor.name in used and tensor.name not in weights]
    constants = {tensor.name: _constant(tensor) for tensor in values}
    inputs = tuple(value for value in model.graph.input if value.name not in weights and value.name not in constants)
    full = {group.name: group.size for group in groups}
    return Plan(
        model=model_name,
        args=dict(args),
        notices=tuple(notices),
        inputs=tuple(value.name for value in inputs),
        outputs=tuple(value.name for value in model.graph.output),
        groups=tuple(groups),
        frozen=tuple(frozen),
        tensors=find_sizes(model, ops, weights, constants, full),
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


def _weights(model: onnx.ModelProto, layouts: Layouts) -> dict[str, Tensor]:
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
        # Folding a batch norm makes a bias that no parameter is named after; it has the length of its layer's output.
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.input) < 3 or node.input[1] not in found:
            continue
        bias, weight = node.input[2], found[node.input[1]]
        made = weight.shape[0 if node.op_type == "Conv" or _is_set(node, "transB") else 1]
        if bias in shapes and bias not in found and len(shapes[bias]) == 1:
            found[bias] = Tensor(bias, dtypes[bias], (made,))
    for name, shape in shapes.items():
        # Too much to keep as values: what follows a group in it would be found out by the checks of the sizes.
        if name not in found and math.prod(shape) > _LARGEST_CONSTANT and dtypes[name].startswith("float"):
            found[name] = Tensor(name, dtypes[name], tuple(Dim(size) for size in shape))
    return found


def _is_set(node: onnx.NodeProto, attribute: str) -> bool:
    return any(entry.name == attribute and entry.i for entry in node.attribute)


def _dtype(data_type: int) -> str:
    return helper.tensor_dtype_to_np_dtype(data_type).name


def _constant(tensor: onnx.TensorProto) -> Constant:
    if math.prod(tensor.dims) > _LARGEST_CONSTANT:
        raise TraceError(
            f"the export holds {tensor.name} of shape {tuple(tensor.dims)}, which is no parameter of the network; "
            f"channel groups cannot be followed through it"
        )
    try:
        values = numpy_helper.to_array(tensor)
    except ValueError as error:
        raise TraceError(
            f"{tensor.name} is no parameter of the network, and its values are missing from the export"
        ) from error
    kind = int if values.dtype.kind in "iub" else float
    return Constant(tensor.name, values.dtype.name, tuple(values.shape), tuple(kind(value) for value in values.ravel()))


def _op(index: int, node: onnx.NodeProto, weights: Mapping[str, Tensor], sizes: Mapping[str, tuple[int, ...]]) -> Op:
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
            attributes["group"] = _conv_groups(weight, filters_per_group=sizes[weight.name][0] // groups)
    return Op(f"{index}_{node.op_type}", node.op_type, tuple(node.input), tuple(node.output), attributes)


def _conv_groups(weight: Tensor, *, filters_per_group: int) -> Dim:
    """The expression of ``group``: filters divided by filters per input channel."""
    channels = divided(weight.shape[0], filters_per_group)
    if channels is None:
        raise TraceError(f"the depthwise convolution of {weight.name} has channels that do not divide evenly")
    return channels
