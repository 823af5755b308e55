"""Layer keys: canonical, open in every channel size, and never looser than what may be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.fragment import fragment_of, make_layer
from netadapt_trt.plan.key import letters
from netadapt_trt.plan.schema import Dim

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    FromText = Callable[..., Plan]

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
ONE, TWO = Dim(0, (("one", 1),)), Dim(0, (("two", 1),))


def names(plan: Plan, *indices: int) -> list[str]:
    return [plan.ops[index].name for index in indices]


def test_convolution_opens_both_its_channel_sizes(residual: Plan) -> None:
    layer = make_layer(residual, names(residual, 3))
    assert layer.key == "x0[1,a,4,4] Conv(x0 [b,a,1,1] [b])=y0"
    assert layer.axes == (ONE, TWO)
    assert layer.widths({"one": 5, "two": 3}) == (5, 3)


def test_sizes_tied_in_the_network_stay_apart_in_the_layer(residual: Plan) -> None:
    """c3 has the same group on both sides; a network without the residual sum shares its row."""
    layer = make_layer(residual, names(residual, 4))
    assert layer.key == "x0[1,a,4,4] Conv(x0 [b,a,1,1] [b])=y0"
    assert layer.axes == (TWO, TWO)


def test_frozen_sizes_are_axes_too(residual: Plan) -> None:
    layer = make_layer(residual, names(residual, 9))
    assert layer.key == "x0[1,a] Gemm(x0 [b,a] [b] transB=1)=y0"
    assert layer.axes == (TWO, Dim(10))


def test_depthwise_convolution_has_one_axis(residual: Plan) -> None:
    layer = make_layer(residual, names(residual, 2))
    assert layer.key == "x0[1,a,8,8] Conv(x0 [a,1,3,3] [a] group=a pads=1,1,1,1 strides=2,2)=y0"
    assert layer.axes == (ONE,)


def test_sum_ties_its_operands(residual: Plan) -> None:
    layer = make_layer(residual, names(residual, 4, 5, 6))
    assert layer.key == "x0[1,a,4,4] Conv(x0 [a,a,1,1] [a])=y0 Add(y0 x0)=y1 Relu(y1)=y2"
    layer = make_layer(residual, names(residual, 5))
    assert layer.key == "x0[1,a,4,4] x1[1,a,4,4] Add(x0 x1)=y0"


def test_bounds_of_a_clip_are_part_of_the_key(residual: Plan) -> None:
    layer = make_layer(residual, names(residual, 0, 1))
    assert layer.key == "x0[1,a,8,8] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1)=y0 Clip(y0 {0} {6})=y1"
    assert layer.axes == (Dim(3), ONE)


def test_fragment_is_a_plan_with_its_axes_as_groups(residual: Plan) -> None:
    fragment, axes = fragment_of(residual, names(residual, 0, 1))
    assert axes == (Dim(3), ONE)
    assert [(group.name, group.size) for group in fragment.groups] == [("a", 3), ("b", 6)]
    assert (fragment.inputs, fragment.outputs) == (("x0",), ("y1",))


LIBRARY = (
    HEAD
    + """g (float[1,8,4,4] x, float[1,4,4,4] z) => (float[1,8,4,4] y)
<float[16,1,3,3] multiple, float[8,2,3,3] grouped, float[8,8,1,1] w, float[8,4,1,1] v, float[8] s, float[8] b, float[8] m,
 float[8] q, float[1,8,1,1] slope, float[8,1,1] list = {1, 2, 3, 4, 5, 6, 7, 8}, float tenth = {0.1},
 int64[4] flat = {0, 0, -1, 4}>
{
  a = Conv <group = 8, pads = [1, 1, 1, 1]> (x, multiple)
  c = Conv <group = 4, pads = [1, 1, 1, 1]> (x, grouped)
  d = Conv (z, v)
  e = Concat <axis = 1> (x, d, x)
  f = BatchNormalization (x, s, b, m, q)
  h = PRelu (x, slope)
  i = Mul (x, list)
  j = GlobalAveragePool (x)
  k = Mul (x, j)
  l = Flatten (x)
  o = Mul (x, tenth)
  p = Reshape (x, flat)
  r = Concat <axis = 1> (z, z)
  t = Add (x, r)
  y = Relu (x)
}"""
)


@pytest.fixture(scope="module")
def library(from_text: FromText) -> Plan:
    dims: dict[str, Any] = {
        "multiple": [16, 1, 3, 3],
        "grouped": [8, 2, 3, 3],
        "w": [8, 8, 1, 1],
        "v": [8, 4, 1, 1],
        **{name: [8] for name in "sbmq"},
        "slope": [1, 8, 1, 1],
    }
    return from_text(LIBRARY, dims)


@pytest.mark.parametrize(
    ("op", "key"),
    [
        ("0_Conv", "x0[1,a,4,4] Conv(x0 [2a,1,3,3] group=a pads=1,1,1,1)=y0"),
        ("1_Conv", "x0[1,4a,4,4] Conv(x0 [4b,a,3,3] group=4 pads=1,1,1,1)=y0"),
        ("3_Concat", "x0[1,a,4,4] x1[1,b,4,4] Concat(x0 x1 x0 axis=1)=y0"),
        ("4_BatchNormalization", "x0[1,a,4,4] BatchNormalization(x0 [a] [a] [a] [a])=y0"),
        ("5_PRelu", "x0[1,a,4,4] PRelu(x0 [1,a,1,1])=y0"),
        ("6_Mul", "x0[1,8,4,4] Mul(x0 {8x1x1:1,2,3,4,5,6,7,8})=y0"),
        ("8_Mul", "x0[1,a,4,4] x1[1,a,1,1] Mul(x0 x1)=y0"),
        ("9_Flatten", "x0[1,a,4,4] Flatten(x0)=y0"),
        ("10_Mul", "x0[1,a,4,4] Mul(x0 {0.1})=y0"),
        ("11_Reshape", "x0[1,8,4,4] Reshape(x0 {4:0,0,-1,4}int64)=y0"),
    ],
)
def test_keys_of_single_operators(library: Plan, op: str, key: str) -> None:
    assert make_layer(library, [op]).key == key


def test_axis_may_be_a_multiple_of_another(library: Plan) -> None:
    """x has as many channels as z twice over, once they are added."""
    layer = make_layer(library, ["12_Concat", "13_Add"])
    assert layer.key == "x0[1,a,4,4] x1[1,2a,4,4] Concat(x0 x0 axis=1)=y0 Add(x1 y0)=y1"
    assert layer.axes == (Dim(4),)


def test_sizes_tied_in_a_way_that_no_axis_expresses_are_refused(from_text: FromText) -> None:
    text = (
        HEAD
        + """g (float[1,4,2,2] x, float[1,4,2,2] z) => (float[1,8,2,2] y)
    { a = Concat <axis = 1> (x, z)  b = Concat <axis = 1> (x, x)  y = Add (a, b) }"""
    )
    with pytest.raises(TraceError, match="independent channel counts"):
        make_layer(from_text(text, {}), ["0_Concat", "1_Concat", "2_Add"])


def test_unknown_ops_are_refused(residual: Plan) -> None:
    with pytest.raises(TraceError, match="ghost"):
        make_layer(residual, ["ghost"])
    with pytest.raises(TraceError, match="none"):
        make_layer(residual, [])


def test_equal_work_of_two_networks_has_equal_keys(residual: Plan, from_text: FromText) -> None:
    """Other names, other order of attributes, defaults left out or written out."""
    text = (
        HEAD
        + """g (float[1,16,4,4] x) => (float[1,5,4,4] y) <float[5,16,1,1] w, float[5] b>
    { y = Conv <strides = [1, 1], kernel_shape = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0]> (x, w, b) }"""
    )
    other = from_text(text, {"w": [5, 16, 1, 1], "b": [5]})
    assert make_layer(other, ["0_Conv"]).key == make_layer(residual, names(residual, 3)).key


def test_slopes_that_differ_in_the_seventh_digit_have_two_keys(from_text: FromText) -> None:
    text = HEAD + "g (float[1,4,2,2] x) => (float[1,4,2,2] y) {{ y = LeakyRelu <alpha = {}> (x) }}"
    keys = {make_layer(from_text(text.format(slope), {}), ["0_LeakyRelu"]).key for slope in (0.01, 0.01000001)}
    assert len(keys) == 2
    assert "x0[1,a,2,2] LeakyRelu(x0 alpha=0.01)=y0" in keys


def test_tokens_along_another_dimension_are_axes(from_text: FromText) -> None:
    text = (
        HEAD
        + """g (float[1,7,4] x) => (float[1,7,4] y) <float[4,6] w, float[6] b, float[6,4] v>
    { a = MatMul (x, w)  c = Add (a, b)  d = Relu (c)  y = MatMul (d, v) }"""
    )
    plan = from_text(text, {"w": [4, ("one", 6)], "b": [("one", 6)], "v": [("one", 6), 4]}, one=6)
    layer = make_layer(plan, [op.name for op in plan.ops])
    assert layer.key == "x0[1,a,4] MatMul(x0 [4,b])=y0 Add(y0 [b])=y1 Relu(y1)=y2 MatMul(y2 [b,c])=y3"
    assert layer.axes == (Dim(7), ONE, Dim(4))


def test_learned_token_beside_the_others_has_their_features(from_text: FromText) -> None:
    text = HEAD + "g (float[1,7,4] x) => (float[1,8,4] y) <float[1,1,4] token> { y = Concat <axis = 1> (token, x) }"
    layer = make_layer(from_text(text, {"token": [1, 1, 4]}), ["0_Concat"])
    assert layer.key == "x0[1,a,4] Concat([1,1,4] x0 axis=1)=y0"
    assert layer.axes == (Dim(7),)


def test_letters_count_like_columns() -> None:
    assert [letters(index) for index in (0, 25, 26, 51, 52, 701, 702)] == ["a", "z", "aa", "az", "ba", "zz", "aaa"]
