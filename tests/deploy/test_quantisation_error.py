from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from netadapt_trt.deploy.quantisation_error import LayerError, advice, explain, layer_errors
from netadapt_trt.plan.precision import to_int8

pytest.importorskip("onnxruntime")

VALUES = np.array([0.0, 1.0, 2.0, 4.0], np.float32).reshape(1, 1, 2, 2)


def _two_convolutions() -> onnx.ModelProto:
    """x -> Conv first -> Relu -> Conv second -> y, both with the weight 1."""
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    one = np.ones((1, 1, 1, 1), np.float32)
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["x", "first.weight"], ["c"], "conv_1"),
            node("Relu", ["c"], ["r"], "relu"),
            node("Conv", ["r", "second.weight"], ["y"], "conv_2"),
        ],
        "two",
        [value("x", onnx.TensorProto.FLOAT, [1, 1, 2, 2])],
        [value("y", onnx.TensorProto.FLOAT, [1, 1, 2, 2])],
        [onnx.numpy_helper.from_array(one, name) for name in ("first.weight", "second.weight")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def _errors(middle: tuple[float, float], recipe: str = "qdq-ort-x86") -> list[LayerError]:
    model, whole = _two_convolutions(), (0.0, 4.0)
    ranges = {"x": whole, "r": middle, "y": whole}
    return layer_errors(model, to_int8(model, recipe=recipe, ranges=ranges), ranges, [VALUES, VALUES])


@pytest.mark.parametrize("recipe", ["qdq-ort-x86", "qdq-trt"])
def test_layer_errors_name_the_layer_whose_range_is_too_narrow(recipe: str) -> None:
    # Behind the first convolution 0 1 2 4 saturate to 0 1 1 1: the root of (1 + 9) / (1 + 4 + 16), half the values cut.
    given, first, last = _errors((0.0, 1.0), recipe)
    assert (given.layer, first.layer, last.layer) == ("the input x", "first", "second")
    assert given.error < 0.01
    assert first.error == pytest.approx(math.sqrt(10 / 21), rel=0.01)
    assert first.before == given.error
    assert (first.saturated, given.saturated) == (0.5, 0.0)
    assert first.reach == pytest.approx(1 / math.sqrt(21 / 4))
    assert last.before == first.error
    assert last.added == pytest.approx(0.0, abs=0.01)


def test_layer_errors_are_small_where_the_ranges_fit() -> None:
    assert all(each.error < 0.01 and not each.saturated for each in _errors((0.0, 4.0)))


def test_explain_names_the_worst_layers_first_and_the_end() -> None:
    text = explain(_errors((0.0, 1.0)))
    assert "most is added at first (" in text
    assert " behind it, 50.0% of its values beyond the range" in text
    assert text.endswith(" at second, the last of 3")
    assert "the input" not in text


def _layer(**values: float) -> LayerError:
    return LayerError(**{"layer": "a", "error": 0.5, "before": 0.1, "saturated": 0.0, "reach": 5.0, **values})  # type: ignore[arg-type]


def test_advice_follows_from_the_cause() -> None:
    assert "--calibration-samples 80" in advice([_layer(saturated=0.2)], "minmax", 20)
    assert "--calibration minmax" in advice([_layer(saturated=0.2)], "entropy", 20)
    assert "reaches 90 times" in advice([_layer(reach=90.0)], "minmax", 20)
    assert "fp16 or fp32" in advice([_layer()], "minmax", 20)
    assert "fp16 or fp32" in advice([_layer(reach=90.0)], "percentile", 20)
