"""Sizes as expressions of channel groups, from ONNX alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.schema import Dim

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    FromText = Callable[..., Plan]

ONE, TWO = Dim(0, (("one", 1),)), Dim(0, (("two", 1),))
HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def model(signature: str, weights: str, body: str) -> str:
    return f"{HEAD} g {signature} <{weights}> {{ {body} }}"


def test_plan_expresses_every_activation(residual: Plan) -> None:
    sizes = {name: tensor.shape for name, tensor in residual.tensors.items()}
    assert sizes["input"] == (Dim(1), Dim(3), Dim(8), Dim(8))
    assert sizes["a"] == sizes["b"] == (Dim(1), ONE, Dim(8), Dim(8))
    assert sizes["c"] == (Dim(1), ONE, Dim(4), Dim(4))
    assert sizes["d"] == sizes["e"] == sizes["f"] == sizes["g"] == (Dim(1), TWO, Dim(4), Dim(4))
    assert (sizes["i"], sizes["output"]) == ((Dim(1), TWO), (Dim(1), Dim(10)))


def test_plan_keeps_weights_as_shapes_and_bounds_as_values(residual: Plan) -> None:
    assert residual.weights["c2_w"].shape == (TWO, ONE, Dim(1), Dim(1))
    assert residual.weights["folded"].shape == (ONE,)
    assert {name: constant.values for name, constant in residual.constants.items()} == {"low": (0.0,), "high": (6.0,)}


def test_depthwise_groups_follow_the_channels(residual: Plan) -> None:
    assert [op.attributes.get("group") for op in residual.ops if op.op_type == "Conv"] == [None, ONE, None, None]


def test_depthwise_groups_count_channels_where_each_has_several_filters(from_text: FromText) -> None:
    text = model(
        "(float[1,3,4,4] x) => (float[1,12,4,4] y)",
        "float[6,3,1,1] w, float[12,1,1,1] v",
        "a = Conv (x, w)  y = Conv <group = 6> (a, v)",
    )
    plan = from_text(text, {"w": [("one", 6), 3, 1, 1], "v": [("one", 6, 2), 1, 1, 1]}, one=6)
    assert plan.ops[1].attributes["group"] == ONE
    assert plan.tensors["y"].shape[1] == Dim(0, (("one", 2),))


def test_concatenation_and_flatten_give_sums_and_multiples(from_text: FromText) -> None:
    text = model(
        "(float[1,3,2,2] x) => (float[1,5] y)",
        "float[6,3,1,1] w, float[4,3,1,1] v, float[5,52] u",
        "a = Conv (x, w)  b = Conv (x, v)  c = Concat <axis = 1> (a, x, b)  d = Flatten (c)  y = Gemm <transB = 1> (d, u)",
    )
    dims = {
        "w": [("one", 6), 3, 1, 1],
        "v": [("two", 4), 3, 1, 1],
        "u": [5, [("one", 6, 4), 12, ("two", 4, 4)]],
    }
    plan = from_text(text, dims, one=6, two=4)
    assert plan.tensors["c"].shape[1] == Dim(3, (("one", 1), ("two", 1)))
    assert plan.tensors["d"].shape[1] == Dim(12, (("one", 4), ("two", 4)))
    assert plan.weights["u"].shape == (Dim(5), Dim(12, (("one", 4), ("two", 4))))


@pytest.mark.parametrize(
    ("body", "dims", "told"),
    [
        # The second convolution is said to read channels that the first one does not make.
        ("a = Conv (x, w)  y = Conv (a, v)", {"w": [6, 3, 1, 1], "v": [5, ("one", 6), 1, 1]}, "1_Conv"),
        ("a = Conv (x, w)  y = Conv (a, v)", {"w": [("one", 6), 3, 1, 1], "v": [5, 6, 1, 1]}, "1_Conv"),
        # Two groups that the sum of their channels would have to tie.
        (
            "a = Conv (x, w)  b = Conv (x, w2)  y = Add (a, b)",
            {"w": [("one", 6), 3, 1, 1], "w2": [("two", 6), 3, 1, 1]},
            "do not fit together|Add",
        ),
        # A list of six numbers cannot follow six channels.
        ("a = Conv (x, w)  y = Mul (a, c)", {"w": [("one", 6), 3, 1, 1]}, "group one is cut|Mul"),
    ],
)
def test_groups_that_contradict_the_network_are_refused(
    from_text: FromText, body: str, dims: dict[str, Any], told: str
) -> None:
    weights = "float[6,3,1,1] w, float[6,3,1,1] w2, float[5,6,1,1] v, float[6,1,1] c = {1, 2, 3, 4, 5, 6}"
    text = model("(float[1,3,4,4] x) => (float[1,N,4,4] y)", weights, body)
    with pytest.raises(TraceError, match=told):
        from_text(text, dims, one=6, two=6)


def test_repeated_pair_of_channels_is_refused_though_one_channel_would_broadcast(from_text: FromText) -> None:
    text = model(
        "(float[1,3,4,4] x) => (float[1,2,4,4] y)",
        "float[2,3,1,1] w, float[2,1,1] c = {1, 2}",
        "a = Conv (x, w)  y = Mul (a, c)",
    )
    with pytest.raises(TraceError, match="agree"):
        from_text(text, {"w": [("one", 2), 3, 1, 1]}, one=2)


def test_shape_that_differs_from_the_layout_is_refused(from_text: FromText) -> None:
    text = model("(float[1,3,4,4] x) => (float[1,6,4,4] y)", "float[6,3,1,1] w", "y = Conv (x, w)")
    with pytest.raises(TraceError, match=r"w the shape \(6, 3, 1, 1\).*\(6, 4, 1, 1\)"):
        from_text(text, {"w": [("one", 6), 4, 1, 1]}, one=6)


def test_large_weight_without_a_name_is_a_weight_of_fixed_size(from_text: FromText) -> None:
    text = model("(float[1,100] x) => (float[1,50] y)", "float[100,50] made", "y = MatMul (x, made)")
    plan = from_text(text, {})
    assert plan.weights["made"].shape == (Dim(100), Dim(50))
    assert not plan.constants


def test_large_list_of_whole_numbers_is_refused(from_text: FromText) -> None:
    text = model("(float[9,5] x) => (float[5000,5] y)", "int64[5000] table", "y = Gather <axis = 0> (x, table)")
    with pytest.raises(TraceError, match=r"table of shape \(5000,\)"):
        from_text(text, {})


def test_operator_outside_the_standard_is_refused(from_text: FromText) -> None:
    text = (
        '<ir_version: 9, opset_import: ["" : 20, "mine" : 1]>'
        "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = mine.Fancy (x) }"
    )
    with pytest.raises(TraceError, match="mine::Fancy"):
        from_text(text, {})
