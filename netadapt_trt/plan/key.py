"""The text that names a layer in a LUT: one readable line that says everything but the widths of its axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.plan.schema import Dim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.plan.schema import Attribute, Plan

__all__ = ["layer_key", "letters", "told_attributes"]

# Attributes of Conv, Gemm and the pools that say nothing at these values.
_DEFAULTS: dict[str, Attribute] = {
    "auto_pad": "NOTSET", "group": 1, "alpha": 1.0, "beta": 1.0, "transA": 0, "ceil_mode": 0, "count_include_pad": 0,
    "storage_order": 0,
}  # fmt: skip
# Here alpha and beta have other defaults.
_ACTIVATIONS = ("HardSigmoid", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu")
_ONES = ("dilations", "strides")


def layer_key(fragment: Plan) -> str:
    """The key of a fragment whose names are canonical, for example::

        x0[1,a,32,32] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1)=y0 Relu(y0)=y1

    Shapes of results are left out: inputs, weights and attributes determine them. So are float32 and what ONNX assumes.
    """
    parts = [
        f"{name}{_shape(fragment.tensors[name].shape)}{_kind(fragment.tensors[name].dtype)}" for name in fragment.inputs
    ]
    for op in fragment.ops:
        attributes = "".join(f" {key}={_attribute(value)}" for key, value in sorted(op.attributes.items()))
        operands = " ".join(_operand(fragment, name) for name in op.inputs)
        parts.append(f"{op.op_type}({operands}{attributes})={' '.join(op.outputs)}")
    return " ".join(parts)


def letters(index: int) -> str:
    """a, b, ... z, aa, ab, ... in an order that sorts like numbers within one length."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def told_attributes(op_type: str, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Without what ONNX assumes anyway, so that exporters that write defaults and those that don't share rows."""
    return {
        key: value
        for key, value in sorted(attributes.items())
        if not (key == "kernel_shape" and op_type == "Conv")  # the weight says it
        if not (key in _DEFAULTS and value == _DEFAULTS[key] and op_type not in _ACTIVATIONS)
        if not (key in _ONES and isinstance(value, tuple) and set(value) == {1})
        if not (key == "pads" and isinstance(value, tuple) and not any(value))
    }


def _operand(fragment: Plan, name: str) -> str:
    if not name:
        return "-"
    if name in fragment.weights:
        return _shape(fragment.weights[name].shape) + _kind(fragment.weights[name].dtype)
    if name in fragment.constants:
        constant = fragment.constants[name]
        values = ",".join(_number(value, constant.dtype) for value in constant.values)
        shape = "x".join(str(size) for size in constant.shape) + ":" if constant.shape else ""
        return "{" + shape + values + "}" + _kind(constant.dtype)
    return name


def _shape(sizes: Sequence[Dim]) -> str:
    return "[" + ",".join(_size(size) for size in sizes) + "]"


def _kind(dtype: str) -> str:
    return "" if dtype == "float32" else dtype


def _size(size: Dim) -> str:
    terms = [axis if factor == 1 else f"{factor}{axis}" for axis, factor in size.terms]
    return "+".join([*terms, *([str(size.const)] if size.const or not terms else [])])


def _attribute(value: Attribute) -> str:
    if isinstance(value, Dim):
        return _size(value)
    if isinstance(value, tuple):
        return ",".join(_number(item) for item in value)
    return value if isinstance(value, str) else _number(value)


def _number(value: float, dtype: str = "float32") -> str:
    """The shortest text that reads back as the same number: two slopes that differ anywhere are two layers."""
    return str(value) if isinstance(value, int) else str(np.dtype(dtype).type(value)).removesuffix(".0")
