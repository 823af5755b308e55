from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
import pytest

from netadapt_trt.deploy.check import NumericCheck, compare_outputs, require_agreement
from netadapt_trt.errors import CheckError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

if TYPE_CHECKING:
    from torch import nn


def _linear_bytes(weight: list[list[float]], batch: int = 2) -> bytes:
    rows, columns = len(weight), len(weight[0])
    flat = [value for row in weight for value in row]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, columns])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, rows])],
        [onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [rows, columns], flat)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _linear(weight: list[list[float]]) -> nn.Module:
    layer = torch.nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    model: nn.Module = torch.nn.Sequential(torch.nn.Dropout(0.5), layer)
    return model


IDENTITY = [[1.0, 0.0], [0.0, 1.0]]
BATCH = torch.tensor([[3.0, 1.0], [2.0, 4.0]])


def test_compare_outputs_of_equal_networks_agree_in_eval_mode() -> None:
    model = _linear(IDENTITY).train()
    check = compare_outputs(model, _linear_bytes(IDENTITY), [BATCH, BATCH], inputs="data", tolerance=1e-4)
    assert check.passed
    assert (check.samples, check.top1_agreement, check.max_abs_output) == (4, 1.0, 4.0)
    assert model.training  # left as it was


def test_compare_outputs_measures_the_error_by_hand() -> None:
    # ONNX doubles the second class: [3, 1] -> [3, 2], [2, 4] -> [2, 8]; the largest error is 4, the largest output 4.
    check = compare_outputs(
        _linear(IDENTITY), _linear_bytes([[1.0, 0.0], [0.0, 2.0]]), [BATCH], inputs="random", tolerance=0.5
    )
    assert (check.max_abs_error, check.relative_error) == (4.0, 1.0)
    assert check.top1_agreement == 1.0
    assert not check.passed
    with pytest.raises(CheckError, match=r"1\.00e\+00 of the largest output, 5e-01 is accepted"):
        require_agreement(check, "the model")


def test_require_agreement_tells_the_reason_where_there_is_one() -> None:
    doubled = _linear_bytes([[1.0, 0.0], [0.0, 2.0]])
    check = compare_outputs(_linear(IDENTITY), doubled, [BATCH], inputs="random", tolerance=0.5)
    with pytest.raises(CheckError, match=r"nothing was written\. The second class is doubled$"):
        require_agreement(check, "the model", "the second class is doubled")
    with pytest.raises(CheckError, match=r"nothing was written\. Look for weights"):
        require_agreement(check, "the model")


def test_compare_outputs_counts_changed_classes() -> None:
    swapped = [[0.0, 1.0], [1.0, 0.0]]
    check = compare_outputs(_linear(IDENTITY), _linear_bytes(swapped), [BATCH], inputs="data", tolerance=1.0)
    assert check.top1_agreement == 0.0


def test_compare_outputs_lets_no_nan_pass() -> None:
    broken = [[math.nan, 0.0], [0.0, 1.0]]
    check = compare_outputs(_linear(IDENTITY), _linear_bytes(broken), [BATCH], inputs="data", tolerance=1.0)
    assert math.isnan(check.relative_error)
    assert not check.passed


def test_compare_outputs_refuses_another_shape() -> None:
    with pytest.raises(CheckError, match="shapes"):
        compare_outputs(_linear([[1.0, 0.0]]), _linear_bytes(IDENTITY), [BATCH], inputs="data", tolerance=1.0)


def test_require_agreement_is_silent_within_tolerance() -> None:
    check = NumericCheck(
        inputs="data",
        samples=1,
        max_abs_error=1e-6,
        max_abs_output=1.0,
        relative_error=1e-6,
        tolerance=1e-4,
        top1_agreement=None,
    )
    require_agreement(check, "the model")


def test_compare_outputs_takes_the_root_of_mean_squares_by_hand() -> None:
    # Errors 0, 1, 0, 4 against outputs 3, 1, 2, 4: sqrt(17 / 30).
    doubled = _linear_bytes([[1.0, 0.0], [0.0, 2.0]])
    check = compare_outputs(_linear(IDENTITY), doubled, [BATCH], inputs="data", tolerance=2.0)
    assert check.rms_error == pytest.approx(math.sqrt(17 / 30))


def test_an_agreement_is_asked_of_data_only() -> None:
    swapped = _linear_bytes([[0.0, 1.0], [1.0, 0.0]])
    model = _linear(IDENTITY)
    on_data = compare_outputs(model, swapped, [BATCH], inputs="data", tolerance=1.0, min_agreement=0.5)
    assert on_data.relative_error <= 1.0
    assert not on_data.passed
    with pytest.raises(CheckError, match=r"on the class of 0\.0% of 2 inputs, 50% is accepted"):
        require_agreement(on_data, "the model")
    assert compare_outputs(model, swapped, [BATCH], inputs="random", tolerance=1.0, min_agreement=0.5).passed
    assert compare_outputs(model, _linear_bytes(IDENTITY), [BATCH], inputs="data", tolerance=0, min_agreement=1.0).passed
