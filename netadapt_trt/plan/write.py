"""Writes a plan, or one layer of it, as ONNX at any widths: random weights, in well under a millisecond for a layer.

Weights are slices of one pool of random numbers made once, scaled so that activations neither vanish nor overflow: a
runtime's time must not depend on denormals. Equal layer keys at equal axis values give equal bytes.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import helper

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.fragment import fragment_of
from netadapt_trt.plan.schema import Dim
from netadapt_trt.plan.store import plan_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.plan.schema import Layer, Plan, Tensor, Widths
    from netadapt_trt.spec import Precision

__all__ = ["op_shapes", "write_layer", "write_network"]

_POOL_SIZE = 1 << 20


def write_network(
    plan: Plan,
    widths: Widths,
    *,
    opset: int,
    ir_version: int,
    precision: Precision = "fp32",
    recipe: str = "none",
    seed: int = 0,
) -> bytes:
    """The whole network at ``widths`` (missing groups at full size), serialised.

    Its metadata carry ``netadapt.plan_hash`` and ``netadapt.widths``. Inputs and outputs are fp32 in any ``precision``;
    int8 takes the LUT's ``recipe`` and fixed ranges. Raises SpecError for a width out of range, or int8 without a recipe.
    """
    complete = {**plan.full_widths(), **widths}
    for group in plan.groups:
        if not 1 <= complete[group.name] <= group.size:
            raise SpecError(f"width {complete[group.name]} of {group.name} is not between 1 and {group.size}")
    unknown = sorted(set(complete) - {group.name for group in plan.groups})
    if unknown:
        raise SpecError(f"the plan has no channel group {unknown[0]!r}")
    metadata = {"netadapt.plan_hash": plan_hash(plan), "netadapt.widths": json.dumps(complete)}
    model = _model(plan, complete, opset, ir_version, seed, metadata)
    return _serialised(model, precision, recipe, "network")


def write_layer(
    plan: Plan,
    layer: Layer,
    axis_widths: Sequence[int],
    *,
    opset: int,
    ir_version: int,
    precision: Precision = "fp32",
    recipe: str = "none",
    seed: int = 0,
) -> bytes:
    """One layer of ``plan`` with its axes at ``axis_widths``, serialised.

    In fp16 and int8 its inputs and outputs have that precision too, as inside a network. Raises SpecError unless all widths
    are positive, or for int8 without a ``recipe``.
    """
    fragment, _ = fragment_of(plan, layer.ops)
    if len(axis_widths) != len(layer.axes) or any(width < 1 for width in axis_widths):
        raise SpecError(f"layer {layer.key} takes {len(layer.axes)} positive widths, not {tuple(axis_widths)}")
    widths = {group.name: width for group, width in zip(fragment.groups, axis_widths, strict=True)}
    model = _model(fragment, widths, opset, ir_version, seed, {"netadapt.layer": layer.key})
    return _serialised(model, precision, recipe, "layer")


def _serialised(model: onnx.ModelProto, precision: Precision, recipe: str, context: Literal["layer", "network"]) -> bytes:
    if precision != "fp32":
        from netadapt_trt.plan.precision import for_timing

        model = for_timing(model, precision, recipe, context=context)
    serialised: bytes = model.SerializeToString()
    return serialised


def _model(plan: Plan, widths: Widths, opset: int, ir_version: int, seed: int, metadata: dict[str, str]) -> onnx.ModelProto:
    graph = onnx.GraphProto(name="netadapt")
    norms = {name for op in plan.ops if op.op_type == "BatchNormalization" for name in op.inputs[1:]}
    for op in plan.ops:
        plain = {key: value.value(widths) if isinstance(value, Dim) else value for key, value in op.attributes.items()}
        graph.node.append(helper.make_node(op.op_type, op.inputs, op.outputs, op.name, None, None, None, **plain))
    for index, weight in enumerate(plan.weights.values()):
        shape = [size.value(widths) for size in weight.shape]
        graph.initializer.append(_weight(weight, shape, seed + index, positive=weight.name in norms))
    for constant in plan.constants.values():
        values = np.array(constant.values, dtype=constant.dtype).reshape(constant.shape)
        graph.initializer.append(onnx.numpy_helper.from_array(values, constant.name))
    for name in plan.inputs:
        graph.input.append(_value(plan.tensors[name], widths))
    for name in plan.outputs:
        graph.output.append(_value(plan.tensors[name], widths))
    model = onnx.ModelProto(ir_version=ir_version, producer_name="netadapt-trt", graph=graph)
    model.opset_import.append(helper.make_opsetid("", opset))
    for key, text in metadata.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=text))
    return model


def _value(tensor: Tensor, widths: Widths) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, kind, [size.value(widths) for size in tensor.shape])


@lru_cache(maxsize=4)
def _pool(seed: int, positive: bool) -> np.ndarray:
    generator = np.random.default_rng(seed)
    # Bounded away from zero: a product of many tiny numbers is a denormal sooner or later.
    pool = generator.uniform(0.5, 1.5, _POOL_SIZE)
    if not positive:
        pool *= generator.choice((-1.0, 1.0), _POOL_SIZE)
    numbers: np.ndarray = pool.astype(np.float32)
    return numbers


def _weight(weight: Tensor, shape: Sequence[int], index: int, *, positive: bool) -> onnx.TensorProto:
    count = math.prod(shape)
    pool = _pool(0, positive)
    start = (index * 4099) % (_POOL_SIZE // 2)
    values = pool[start : start + count] if start + count <= _POOL_SIZE else np.resize(pool[start:], count)
    if not positive:
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 64
        values = values * np.float32(1.3 / math.sqrt(max(fan_in, 1)))
    tensor = onnx.TensorProto(name=weight.name, dims=shape)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(np.dtype(weight.dtype))
    tensor.raw_data = values.astype(weight.dtype, copy=False).tobytes()
    return tensor


def op_shapes(model: onnx.ModelProto) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """(operator, shapes of its weights of rank 2 and more) in order, for comparing two exports of one network."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [
        (node.op_type, tuple(shapes[name] for name in node.input if len(shapes.get(name, ())) > 1))
        for node in model.graph.node
    ]
