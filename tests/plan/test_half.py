from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.reference
import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.precision import to_fp16

if TYPE_CHECKING:
    from collections.abc import Iterable

HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2] x) => (float[1,3] y, float[1,3] between)
<float[2,3] w = {1, 2, 3, 4, 5, 6}, float low = {0}, float high = {3.4e38}>
{
  m = MatMul (x, w)
  between = Clip (m, low, high)
  y = Neg (between)
}
"""


def kinds(values: Iterable[onnx.ValueInfoProto]) -> list[int]:
    return [value.type.tensor_type.elem_type for value in values]


def computed(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs by onnx's own evaluator."""
    return [np.asarray(value) for value in onnx.reference.ReferenceEvaluator(model).run(None, inputs)]


def test_to_fp16_keeps_float_ends_behind_casts() -> None:
    model = onnx.parser.parse_model(TEXT)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert kinds((*half.graph.input, *half.graph.output)) == [FLOAT] * 3
    assert [node.op_type for node in half.graph.node] == ["Cast", "MatMul", "Clip", "Neg", "Cast", "Cast"]
    assert {tensor.data_type for tensor in half.graph.initializer} == {HALF}
    inferred = onnx.shape_inference.infer_shapes(half).graph.value_info
    assert {value.type.tensor_type.elem_type for value in inferred} == {HALF}
    # [1, -1] w = [1 - 4, 2 - 5, 3 - 6] = -3 thrice, clipped to 0; [1, 1] w = [5, 7, 9].
    y, between = computed(half, x=np.array([[1, 1]], np.float32))
    assert between.tolist() == [[5, 7, 9]]
    assert y.tolist() == [[-5, -7, -9]]
    assert computed(half, x=np.array([[1, -1]], np.float32))[1].tolist() == [[0, 0, 0]]
    assert model == onnx.parser.parse_model(TEXT)


def test_to_fp16_takes_and_returns_halves_where_a_layer_does() -> None:
    half = to_fp16(onnx.parser.parse_model(TEXT), io="fp16")
    onnx.checker.check_model(half, full_check=True)
    assert kinds((*half.graph.input, *half.graph.output)) == [HALF] * 3
    assert [node.op_type for node in half.graph.node] == ["MatMul", "Clip", "Neg"]


def test_to_fp16_writes_an_open_bound_as_the_largest_half() -> None:
    half = to_fp16(onnx.parser.parse_model(TEXT))
    bounds = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    assert float(bounds["high"]) == 65504.0


def test_to_fp16_converts_constants_and_casts_but_not_what_onnx_wants_in_float() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,2,2] x, int64[1] n) => (float[1,1,4,4] y)
    <float[4] scales = {1, 1, 2, 2}>
    {
      half = Constant <value_float = 0.5> ()
      more = Constant <value = float[1] {2.0}> ()
      f = Cast <to = 1> (n)
      a = Mul (x, half)
      b = Mul (a, more)
      c = Add (b, f)
      y = Resize <mode = "nearest"> (c, , scales)
    }
    """
    half = to_fp16(onnx.parser.parse_model(text), io="fp16")
    onnx.checker.check_model(half, full_check=True)
    assert half.graph.initializer[0].data_type == FLOAT
    x = np.array([[[[1, 2], [3, 4]]]], np.float16)
    (y,) = computed(half, x=x, n=np.array([7]))
    assert y[0, 0, ::2, ::2].tolist() == [[8, 9], [10, 11]]  # x * 0.5 * 2 + 7


def test_to_fp16_renames_inside_a_loop_of_inputs_and_outputs() -> None:
    """An input that is read twice, an output that is read again, a name that the casts would like."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[2] y, float[2] z)
    {
      x_fp16 = Neg (x)
      y = Add (x_fp16, x)
      z = Sub (y, x)
    }
    """
    half = to_fp16(onnx.parser.parse_model(text))
    onnx.checker.check_model(half, full_check=True)
    y, z = computed(half, x=np.array([1, 2], np.float32))
    assert (y.tolist(), z.tolist()) == ([0, 0], [-1, -2])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{1, 2, 3, 4, 5, 6}", "{1, 2, 3, 4, 5, 70000}", "w has values beyond 65504"),
        ("{1, 2, 3, 4, 5, 6}", "{1, 2, 3, 4, 5, nan}", "w has values beyond 65504"),
        ("float", "double", "has no fp32 tensors"),
    ],
)
def test_to_fp16_refuses_what_halves_cannot_hold(old: str, new: str, said: str) -> None:
    text = TEXT.replace(old, new) if new != "double" else TEXT.replace("float", "double")
    if "nan" in new:
        model = onnx.parser.parse_model(TEXT)
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
        weight.CopyFrom(onnx.numpy_helper.from_array(np.full((2, 3), np.nan, np.float32), "w"))
    else:
        model = onnx.parser.parse_model(text)
    with pytest.raises(SpecError, match=said):
        to_fp16(model)


def test_to_fp16_refuses_a_quantised_model_and_its_own_result() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[2] y) <float s = {0.5}, int8 z = {0}>
    { q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }
    """
    with pytest.raises(SpecError, match=r"quantised already \(QuantizeLinear"):
        to_fp16(onnx.parser.parse_model(text))
    with pytest.raises(SpecError, match="fp16 already"):
        to_fp16(to_fp16(onnx.parser.parse_model(TEXT), io="fp16"))


def test_to_fp16_refuses_branches() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x, bool c) => (float[2] y)
    { y = If (c) <then_branch = a () => (float[2] p) { p = Neg (x) }, else_branch = b () => (float[2] q) { q = Abs (x) }> }
    """
    with pytest.raises(SpecError, match="branches"):
        to_fp16(onnx.parser.parse_model(text))
