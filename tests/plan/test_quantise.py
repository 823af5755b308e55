"""Scales, zero points and integers by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.precision import calibrated_tensors, to_fp16, to_int8
from netadapt_trt.plan.quantise import activation_quantisation, weight_scales

# Two filters of different size on two channels, 1x1: sums of products by hand.
CONV = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[1,2,1,2] x) => (float[1,2,1,2] y)
<float[2,2,1,1] w = {1.27, -0.635, 12.7, 6.35}, float[2] b = {0.1, -1}>
{ c = Conv (x, w, b)  y = Relu (c) }
"""
RANGES = {"x": (-1.0, 1.55), "y": (0.0, 25.5)}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def computed(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output by onnx's own evaluator."""
    (value,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(value)


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.name == name)
    return found


def test_uint8_spreads_255_steps_over_the_range() -> None:
    # 2.55 / 255 = 0.01, zero at step 1 / 0.01 = 100
    found = activation_quantisation(-1.0, 1.55, "qdq-ort-x86")
    assert found.scale == pytest.approx(0.01, rel=1e-6)
    assert found.zero_point == 100
    relu = activation_quantisation(0.0, 6.0, "qdq-ort-x86")
    assert relu.zero_point == 0
    assert relu.scale.dtype == np.float32
    # ONNX Runtime drops a Clip to 6 only where 255 steps stay within it.
    assert 6.0 * (1 - 1e-6) < float(relu.scale) * 255 <= 6.0


def test_int8_is_symmetric() -> None:
    found = activation_quantisation(-1.0, 2.54, "qdq-trt")
    assert (found.scale, found.zero_point) == (np.float32(0.02), 0)
    assert activation_quantisation(-2.54, 0.1, "qdq-trt").scale == np.float32(0.02)


@pytest.mark.parametrize(("low", "high", "zero"), [(1.0, 2.0, 0), (-2.0, -1.0, 255), (-1.0, 1.0, 128)])
def test_every_range_holds_zero(low: float, high: float, zero: int) -> None:
    found = activation_quantisation(low, high, "qdq-ort-x86")
    assert found.zero_point == zero
    assert found.scale == pytest.approx(2.0 / 255, rel=1e-6)


@pytest.mark.parametrize("recipe", ["qdq-ort-x86", "qdq-trt"])
def test_a_range_of_one_point_has_a_usable_scale(recipe: str) -> None:
    for value in (0.0, 1e-42):
        found = activation_quantisation(0.0, value, recipe)  # type: ignore[arg-type]
        assert (float(found.scale), found.zero_point) == (1.0, 0)
    with pytest.raises(SpecError, match="not finite"):
        activation_quantisation(float("nan"), 1.0, recipe)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="not finite"):
        activation_quantisation(0.0, float("inf"), recipe)  # type: ignore[arg-type]


def test_weight_scales_take_each_channel_for_itself() -> None:
    weight = np.array([[1.27, -2.54], [0.0, 0.0], [-12.7, 1.0]], np.float32)
    np.testing.assert_allclose(weight_scales(weight, 0), [0.02, 1.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(weight, 1), [0.1, 0.02], rtol=1e-6)
    with pytest.raises(SpecError, match="not finite"):
        weight_scales(np.array([[np.inf]], np.float32), 0)


def test_qdq_ort_x86_by_hand() -> None:
    model = to_int8(onnx.parser.parse_model(CONV), recipe="qdq-ort-x86", ranges=RANGES)
    onnx.checker.check_model(model, full_check=True)
    known = constants(model)
    # Filter 0: 1.27 / 127 = 0.01 -> [127, -64 (-63.5 to even)]; filter 1: 0.1 -> [127, 64 (63.5 to even)].
    np.testing.assert_allclose(known["w_scale"], [0.01, 0.1], rtol=1e-6)
    assert known["w_quantized"].dtype == np.int8
    assert np.abs(known["w_quantized"].reshape(2, 2) - [[127, -64], [127, 64]]).max() <= 1  # float32 may round 63.5 down
    assert known["w_quantized"][:, 0, 0, 0].tolist() == [127, 127]
    assert known["w_zero_point"].tolist() == [0, 0]
    # Bias scale is input scale times weight scale: 0.01 * 0.01 and 0.01 * 0.1.
    np.testing.assert_allclose(known["b_scale"], [1e-4, 1e-3], rtol=1e-5)
    assert known["b_quantized"].tolist() == [1000, -1000]
    assert known["b_quantized"].dtype == np.int32
    assert known["x_zero_point"].dtype == np.uint8
    assert (int(known["x_zero_point"]), int(known["y_zero_point"])) == (100, 0)
    assert float(known["y_scale"]) == pytest.approx(0.1, rel=1e-6)
    assert "w" not in known
    # Relu's range does the work between convolution and Q: no pair there.
    assert [entry.op_type for entry in model.graph.node if not entry.name.startswith(("w", "b"))] == [
        "QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    x = np.array([[[[0.5, 1.0]], [[1.0, -0.5]]]], np.float32)
    y = computed(model, x)
    # Filter 0 at [0.5, 1]: 0.635 - 0.635 + 0.1 = 0.1; at [1, -0.5]: 1.27 + 0.3175 + 0.1 = 1.6875; filter 1: 11.7, 8.525.
    # Codes of 0.1 for the output and half a step of each weight: within 0.1.
    np.testing.assert_allclose(y[0, :, 0], [[0.1, 1.6875], [11.7, 8.525]], atol=0.1)


def test_qdq_trt_by_hand() -> None:
    model = to_int8(onnx.parser.parse_model(CONV), recipe="qdq-trt", ranges=RANGES)
    onnx.checker.check_model(model, full_check=True)
    known = constants(model)
    assert float(known["x_scale"]) == pytest.approx(1.55 / 127)
    np.testing.assert_allclose(known["w_scale"], [0.01, 0.1], rtol=1e-6)
    zeros = [values for name, values in known.items() if name.endswith("_zero_point")]
    assert len(zeros) == 2
    assert all(values.dtype == np.int8 and not values.any() for values in zeros)
    # Float weights behind a pair of their own, float bias, nothing on the result.
    assert known["w"].dtype == np.float32
    assert node(model, "w_QuantizeLinear").attribute[0].i == 0
    assert node(model, "w_DequantizeLinear").attribute[0].i == 0
    convolution = next(entry for entry in model.graph.node if entry.op_type == "Conv")
    assert list(convolution.input) == ["x_dequantized", "w_dequantized", "b"]
    assert model.graph.node[-1].op_type == "Relu"


def test_the_axis_of_a_gemm_follows_its_layout() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2] x) => (float[1,3] y)
    <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[3,3] v = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3] b = {1, 1, 1}>
    { h = Gemm <transB = 1> (x, w, b)  y = Gemm (h, v) }
    """
    for recipe in ("qdq-ort-x86", "qdq-trt"):
        model = to_int8(onnx.parser.parse_model(text), recipe=recipe)
        onnx.checker.check_model(model, full_check=True)
        known = constants(model)
        np.testing.assert_allclose(known["w_scale"] * 127, [2, 4, 6], rtol=1e-6)
        np.testing.assert_allclose(known["v_scale"] * 127, [7, 8, 9], rtol=1e-6)
        assert node(model, "w_DequantizeLinear").attribute[0].i == 0
        assert node(model, "v_DequantizeLinear").attribute[0].i == 1
        assert model.graph.node[-1].op_type == "Gemm"  # logits stay float


def test_a_nearly_dead_channel_does_not_overflow_its_bias() -> None:
    text = CONV.replace("1.27, -0.635", "1e-12, 0")
    model = to_int8(onnx.parser.parse_model(text), recipe="qdq-ort-x86", ranges=RANGES)
    known = constants(model)
    value = known["b_quantized"].astype(np.float64) * known["b_scale"]
    np.testing.assert_allclose(value, [0.1, -1.0], rtol=1e-3)
    x = np.array([[[[0.5, 1.0]], [[1.0, -0.5]]]], np.float32)
    y = computed(model, x)
    np.testing.assert_allclose(y[0, 0, 0], [0.1, 0.1], atol=0.05)


def test_shared_weights_are_quantised_once() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float[2,2,1,1] w = {1, 2, 3, 4}>
    { a = Conv (x, w)  b = Relu (a)  c = Conv (b, w)  y = Relu (c) }
    """
    for recipe in ("qdq-ort-x86", "qdq-trt"):
        model = to_int8(onnx.parser.parse_model(text), recipe=recipe)
        onnx.checker.check_model(model, full_check=True)
        assert sum(entry.name == "w_DequantizeLinear" for entry in model.graph.node) == 1


def test_the_ends_of_a_layer_are_8_bits_wide() -> None:
    for recipe, kind in (("qdq-ort-x86", onnx.TensorProto.UINT8), ("qdq-trt", onnx.TensorProto.INT8)):
        model = to_int8(onnx.parser.parse_model(CONV), recipe=recipe, io="int8", ranges=RANGES)
        onnx.checker.check_model(model, full_check=True)
        ends = (*model.graph.input, *model.graph.output)
        assert [value.type.tensor_type.elem_type for value in ends] == [kind, kind]
        assert [value.name for value in ends] == ["x", "y"]
        nodes = [entry.op_type for entry in model.graph.node if not entry.name.startswith(("w", "b"))]
        assert nodes == ["DequantizeLinear", "Conv", "Relu", "QuantizeLinear"]


def test_ranges_are_asked_for_by_name_and_must_be_there() -> None:
    model = onnx.parser.parse_model(CONV)
    assert calibrated_tensors(model, "qdq-ort-x86") == ["x", "y"]
    assert calibrated_tensors(model, "qdq-trt") == ["x"]
    with pytest.raises(SpecError, match="no range for 'y'"):
        to_int8(model, recipe="qdq-ort-x86", ranges={"x": (0, 1)})
    with pytest.raises(SpecError, match="x: an activation ranges"):
        to_int8(model, recipe="qdq-trt", ranges={"x": (0, float("inf"))})


@pytest.mark.parametrize(
    ("text", "recipe", "said"),
    [
        (CONV, "none", "needs a quantisation recipe, 'none' is none; known: qdq-trt, qdq-ort-x86"),
        (CONV.replace("20", "12"), "qdq-trt", "opset 12; .* need 13 or later"),
        ('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Exp (x) }', "qdq-trt", "nothing"),
    ],
)
def test_to_int8_refuses(text: str, recipe: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        to_int8(onnx.parser.parse_model(text), recipe=recipe)


def test_to_int8_refuses_its_own_result_and_fp16() -> None:
    model = onnx.parser.parse_model(CONV)
    for recipe in ("qdq-ort-x86", "qdq-trt"):
        with pytest.raises(SpecError, match="quantised already"):
            to_int8(to_int8(model, recipe=recipe), recipe=recipe)
        with pytest.raises(SpecError, match="is fp16"):
            to_int8(to_fp16(model), recipe=recipe)
    assert model == onnx.parser.parse_model(CONV)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = onnx.parser.parse_model(CONV)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((2, 2, 1, 1), np.nan, np.float32), "w"))
    with pytest.raises(SpecError, match="w: a weight is not finite"):
        to_int8(model, recipe="qdq-ort-x86")


def test_layer_that_is_kept_computes_in_float() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[1,2,1,2] x) => (float[1,2,1,2] y)
    <float[2,2,1,1] first_weight = {1.27, -0.635, 12.7, 6.35}, float[2,2,1,1] second_weight = {1, 0, 0, 1}>
    { c = Conv (x, first_weight)  r = Relu (c)  y = Conv (r, second_weight) }
    """
    model = onnx.parser.parse_model(text)
    ranges = {"r": (0.0, 25.5), "y": (0.0, 25.5)}
    for recipe in ("qdq-ort-x86", "qdq-trt"):
        assert "x" not in calibrated_tensors(model, recipe, ["first_weight"])
        kept = to_int8(model, recipe=recipe, ranges=ranges, keep=["first_weight"])
        assert "first_weight" in constants(kept)
        first, second = (each for each in kept.graph.node if each.op_type == "Conv")
        assert list(first.input) == ["x", "first_weight"]
        assert list(second.input) == ["r_dequantized", "second_weight_dequantized"]
    with pytest.raises(SpecError, match="no layer 'third' would be quantised; there are 2"):
        to_int8(model, recipe="qdq-ort-x86", ranges=ranges, keep=["third"])
