"""Where Q and DQ go, read off small graphs by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.placement import GraphView, default_range, place
from netadapt_trt.plan.precision import recipe_of_backend
from netadapt_trt.plan.write import write_layer, write_network

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Plan

# A block as in ResNet: two convolutions, a sum with what came in, and another convolution behind it.
RESIDUAL = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[1,4,4,4] x) => (float[1,4,4,4] y)
<float[4,4,1,1] w = {1}, float[4,4,1,1] v = {1}, float[4,4,1,1] u = {1}>
{
  a = Conv (x, w)
  b = Relu (a)
  c = Conv (b, v)
  d = Add (x, c)
  e = Relu (d)
  y = Conv (e, u)
}
"""


def view_of(text: str) -> GraphView:
    return GraphView(onnx.parser.parse_model(text).graph)


def test_tensorrt_fuses_the_sum_with_the_convolution_that_it_follows() -> None:
    # c, which the convolution hands to the sum, is not quantised; the other side x is, also for the first convolution.
    assert place(view_of(RESIDUAL), "qdq-trt", edges=False).tensors == {"x": "x", "b": "b", "e": "e"}


def test_tensorrt_quantises_one_of_two_convolutions_that_are_added() -> None:
    text = RESIDUAL.replace("d = Add (x, c)", "p = Conv (x, w)  d = Add (p, c)")
    assert set(place(view_of(text), "qdq-trt", edges=False).tensors) == {"x", "b", "c", "e"}
    # Of the two, p runs later here: it takes the sum in, c is ready by then.


def test_tensorrt_quantises_both_sides_that_no_convolution_makes_alone() -> None:
    text = RESIDUAL.replace("d = Add (x, c)", "m = MaxPool <kernel_shape = [1, 1]> (c)  d = Add (x, m)")
    assert set(place(view_of(text), "qdq-trt", edges=False).tensors) == {"x", "b", "m", "e"}


def test_onnx_runtime_has_all_edges_of_its_kernels_quantised() -> None:
    # a and d end in a Relu that the range takes over; c is an operand of the sum; y an 8-bit result.
    assert set(place(view_of(RESIDUAL), "qdq-ort-x86", edges=False).tensors) == {"x", "b", "c", "e", "y"}


@pytest.mark.parametrize(("low", "absorbed"), [("0", True), ("-1", False)])
def test_onnx_runtime_takes_over_a_clip_from_zero_only(low: str, absorbed: bool) -> None:
    text = RESIDUAL.replace("b = Relu (a)", f"l = Constant <value = float {{{low}}}> () b = Clip (a, l)")
    assert ("a" in place(view_of(text), "qdq-ort-x86", edges=False).tensors) is not absorbed


def test_what_only_moves_values_keeps_their_range() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4,4,4] x) => (float[1,10] y) <float[4,4,1,1] w = {1}, float[10,16] v = {1}, int64[2] s = {1, 16}>
    {
      a = Conv (x, w)
      b = Relu (a)
      m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
      r = Reshape (m, s)
      y = Gemm <transB = 1> (r, v)
    }
    """
    found = place(view_of(text), "qdq-ort-x86", edges=False)
    assert found.tensors == {"x": "x", "b": "b", "m": "b", "r": "b"}
    assert found.weighted == {"a", "y"}
    # TensorRT moves the pair of r forward itself.
    assert place(view_of(text), "qdq-trt", edges=False).tensors == {"x": "x", "r": "r"}


def test_a_gemm_with_factors_stays_float() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4] x) => (float[1,4] y) <float[4,4] w = {1}> { a = Gemm <alpha = 0.5> (x, w)  y = Gemm (a, w) }
    """
    for recipe in ("qdq-trt", "qdq-ort-x86"):
        assert place(view_of(text), recipe, edges=False).weighted == {"y"}


def test_products_with_constants_and_products_of_activations_stay_float() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[1,2,4] x, float[1,4,2] k) => (float[1,2,2] y) <float half = {0.5}>
    { a = Mul (x, half)  y = MatMul (a, k) }
    """
    for recipe in ("qdq-trt", "qdq-ort-x86"):
        assert not place(view_of(text), recipe, edges=False).tensors


def test_default_ranges_are_what_the_maker_can_make() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[2] x) => (float[2] a) <float low = {0}, float high = {2}>
    { r = Relu (x)  c = Clip (x, low, high)  s = Sigmoid (x)  h = HardSwish (x)  a = Add (r, c) }
    """
    view = view_of(text)
    found = {name: default_range(view, name) for name in ("x", "r", "c", "s", "h")}
    assert found == {"x": (-4, 4), "r": (0, 4), "c": (0, 2), "s": (0, 1), "h": (-4, 4)}


def test_recipe_of_backend() -> None:
    assert [recipe_of_backend(name) for name in ("ort", "trt", "trt_rtx")] == ["qdq-ort-x86", "qdq-trt", "qdq-trt"]


def test_plans_are_written_in_each_precision(residual: Plan) -> None:
    layers = fused_layers(residual, starts={"Conv", "Gemm"}, activations={"Relu", "Clip"}, add=True, free={"Flatten"})
    ends = {"fp32": 1, "fp16": 10, "qdq-trt": 3, "qdq-ort-x86": 2}  # ONNX's numbers of the types
    for recipe, kind in ends.items():
        precision = recipe if recipe in ("fp32", "fp16") else "int8"
        options: dict[str, Any] = {"opset": 17, "ir_version": 8, "precision": precision, "recipe": recipe}
        for layer in layers:
            widths = layer.widths({"one": 5, "two": 3})
            content = write_layer(residual, layer, widths, **options)
            assert content == write_layer(residual, layer, widths, **options)
            model = onnx.load_from_string(content)
            onnx.checker.check_model(model, full_check=True)
            assert [entry.value for entry in model.metadata_props] == [layer.key]
            assert {value.type.tensor_type.elem_type for value in model.graph.input} == {kind}
            # The classifier's result is float also where the rest is int8.
            expected = 1 if precision == "int8" and layer.key.startswith("x0[1,a] Gemm") else kind
            assert {value.type.tensor_type.elem_type for value in model.graph.output} == {expected}, layer.key
        network = onnx.load_from_string(write_network(residual, {"one": 5}, **options))
        onnx.checker.check_model(network, full_check=True)
        assert {value.type.tensor_type.elem_type for value in (*network.graph.input, *network.graph.output)} == {1}
        assert {entry.key for entry in network.metadata_props} == {"netadapt.plan_hash", "netadapt.widths"}


def test_plans_need_a_recipe_for_int8_and_a_known_precision(residual: Plan) -> None:
    with pytest.raises(SpecError, match="needs a quantisation recipe, 'none'"):
        write_network(residual, {}, opset=17, ir_version=8, precision="int8")
    with pytest.raises(SpecError, match="unknown precision 'fp8'"):
        write_network(residual, {}, opset=17, ir_version=8, precision="fp8")  # type: ignore[arg-type]
