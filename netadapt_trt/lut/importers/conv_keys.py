"""Keys and widths of single convolutions and linear layers, made as the planner makes them: from a plan of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from netadapt_trt.plan.fragment import make_layer
from netadapt_trt.plan.schema import Dim, Group, Op, Plan, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.plan.schema import Layer

__all__ = ["Convolution", "convolution_cell", "linear_cell"]

_IN, _OUT = Dim(0, (("in", 1),)), Dim(0, (("out", 1),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A 2-D convolution with bias, all but its channels; sizes are (height, width), ``padding`` is on either side.

    ``depthwise``: as many groups as channels. ``residual``: another tensor is added to the result. ``activation``: "none" or
    the ONNX operator behind it, such as "Relu".
    """

    batch: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    depthwise: bool = False
    residual: bool = False
    activation: str = "none"

    def result_size(self) -> tuple[int, int]:
        """Height and width of the result; below 1 where the kernel does not fit."""
        height, width = (
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip(self.size, self.padding, self.kernel, self.stride, strict=True)
        )
        return height, width


def convolution_cell(convolution: Convolution, channels_in: int, channels_out: int) -> tuple[str, tuple[int, ...]]:
    """Key and widths of a cell. Raises ValueError where no such layer exists."""
    if min(convolution.result_size()) < 1:
        raise ValueError("the kernel is larger than the picture")
    if convolution.depthwise and channels_in != channels_out:
        raise ValueError(f"a depthwise convolution has {channels_in} channels in and {channels_out} out")
    layer = _convolution(convolution)
    return layer.key, layer.widths({"in": channels_in, "out": channels_out})


def linear_cell(batch: int, features_in: int, features_out: int) -> tuple[str, tuple[int, ...]]:
    """Key and widths of a linear layer with bias over [batch, features]."""
    layer = _linear(batch)
    return layer.key, layer.widths({"in": features_in, "out": features_out})


@lru_cache(maxsize=4096)
def _convolution(conv: Convolution) -> Layer:
    made = _IN if conv.depthwise else _OUT
    height, width = conv.result_size()
    result = (Dim(conv.batch), made, Dim(height), Dim(width))
    attributes = {"pads": (*conv.padding, *conv.padding), "strides": conv.stride, "group": _IN if conv.depthwise else 1}
    ops = [Op("conv", "Conv", ("x", "w", "b"), ("y",), attributes)]
    tensors: dict[str, tuple[Dim, ...]] = {"x": (Dim(conv.batch), _IN, Dim(conv.size[0]), Dim(conv.size[1])), "y": result}
    inputs = ["x"]
    if conv.residual:
        ops.append(Op("add", "Add", (ops[-1].outputs[0], "other"), ("sum",)))
        tensors |= {"other": result, "sum": result}
        inputs.append("other")
    if conv.activation != "none":
        ops.append(Op("act", conv.activation, (ops[-1].outputs[0],), ("z",)))
        tensors["z"] = result
    filters = (made, Dim(1) if conv.depthwise else _IN, Dim(conv.kernel[0]), Dim(conv.kernel[1]))
    return _only_layer(inputs, tensors, {"w": filters, "b": (made,)}, ops)


@lru_cache(maxsize=64)
def _linear(batch: int) -> Layer:
    op = Op("linear", "Gemm", ("x", "w", "b"), ("y",), {"transB": 1})
    return _only_layer(["x"], {"x": (Dim(batch), _IN), "y": (Dim(batch), _OUT)}, {"w": (_OUT, _IN), "b": (_OUT,)}, [op])


def _only_layer(
    inputs: list[str], tensors: dict[str, tuple[Dim, ...]], weights: Mapping[str, tuple[Dim, ...]], ops: list[Op]
) -> Layer:
    plan = Plan(
        model="",
        args={},
        inputs=tuple(inputs),
        outputs=ops[-1].outputs,
        groups=(Group("in", 1, ()), Group("out", 1, ())),
        frozen=(),
        tensors={name: Tensor(name, "float32", shape) for name, shape in tensors.items()},
        weights={name: Tensor(name, "float32", shape) for name, shape in weights.items()},
        constants={},
        ops=tuple(ops),
    )
    return make_layer(plan, [op.name for op in ops])
