"""A residual network small enough to count by hand, as ONNX text with hand-written channel layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
import onnx.parser
import pytest

from netadapt_trt.plan.from_onnx import Layouts, plan_from_onnx
from netadapt_trt.plan.schema import FrozenChannels, Group

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Plan

NETWORK = """
<ir_version: 9, opset_import: ["" : 20]>
residual (float[1,3,8,8] input) => (float[1,10] output)
<float[6,3,3,3] c1_w, float[6] folded, float[6,1,3,3] dw_w, float[6] dw_b, float[4,6,1,1] c2_w, float[4] c2_b,
 float[4,4,1,1] c3_w, float[4] c3_b, float[10,4] fc_w, float[10] fc_b, float low = {0}, float high = {6}>
{
  a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (input, c1_w, folded)
  b = Clip (a, low, high)
  c = Conv <group = 6, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (b, dw_w, dw_b)
  d = Conv (c, c2_w, c2_b)
  e = Conv (d, c3_w, c3_b)
  f = Add (e, d)
  g = Relu (f)
  h = GlobalAveragePool (g)
  i = Flatten <axis = 1> (h)
  output = Gemm <transB = 1> (i, fc_w, fc_b)
}
"""
_ONE, _TWO = ("one", 6), ("two", 4)
# `folded` is what folding a batch norm leaves behind: a bias that no parameter is named after.
_DIMS: Dims = {
    "c1_w": [_ONE, 3, 3, 3],
    "dw_w": [_ONE, 1, 3, 3],
    "dw_b": [_ONE],
    "c2_w": [_TWO, _ONE, 1, 1],
    "c2_b": [_TWO],
    "c3_w": [_TWO, _TWO, 1, 1],
    "c3_b": [_TWO],
    "fc_w": [10, _TWO],
    "fc_b": [10],
}

Segment = int | tuple[str, int] | tuple[str, int, int]
"""A size that stays; or (group, channels) or (group, channels, inner)."""
Dims = Mapping[str, Sequence[Segment | list[Segment]]]
FromText = Callable[..., "Plan"]


def parsed(text: str) -> onnx.ModelProto:
    """The model of an ONNX text; weights that are only declared there become initialisers without values."""
    model = onnx.parser.parse_model(text)
    known = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.value_info:
        if value.name not in known:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            kind = value.type.tensor_type.elem_type
            model.graph.initializer.append(onnx.TensorProto(name=value.name, dims=dims, data_type=kind))
    del model.graph.value_info[:]
    return model


def layouts_of(dims: Dims) -> Layouts:
    def segment(entry: Segment) -> tuple[str | None, int, int]:
        if isinstance(entry, int):
            return (None, entry, 1)
        return entry if len(entry) == 3 else (*entry, 1)

    return {
        name: tuple(tuple(segment(s) for s in entry) if isinstance(entry, list) else (segment(entry),) for entry in entries)
        for name, entries in dims.items()
    }


def plan_of(text: str, dims: Dims, **sizes: int) -> Plan:
    groups = [Group(name, size, ()) for name, size in sizes.items()]
    return plan_from_onnx(parsed(text), layouts_of(dims), groups, [], model_name="test", args={})


@pytest.fixture(scope="session")
def from_text() -> FromText:
    """``from_text(body, dims, group=size, ...)`` makes a plan of ONNX text."""
    return plan_of


@pytest.fixture(scope="session")
def residual() -> Plan:
    return plan_from_onnx(
        parsed(NETWORK),
        layouts_of(_DIMS),
        [Group("one", 6, ("c1_w",)), Group("two", 4, ("c2_w", "c3_w"))],
        [FrozenChannels("fc", 10, "network output")],
        model_name="test:residual",
        args={"size": "small"},
        notices=["a notice"],
    )
