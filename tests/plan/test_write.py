"""ONNX at any widths: valid, of the right sizes, equal for equal keys, fit to be timed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from netadapt_trt.errors import SpecError
from netadapt_trt.plan.fragment import make_layer
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.plan.write import op_shapes, write_layer, write_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    FromText = Callable[..., Plan]

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def checked(content: bytes) -> onnx.ModelProto:
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("widths", [{}, {"one": 3}, {"one": 1, "two": 1}, {"one": 5, "two": 3}])
def test_network_is_valid_and_runs_at_any_widths(residual: Plan, widths: dict[str, int]) -> None:
    model = checked(write_network(residual, widths, opset=20, ir_version=9))
    picture = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    (found,) = ReferenceEvaluator(model).run(None, {"input": picture})
    result = np.asarray(found)
    assert result.shape == (1, 10)
    assert np.isfinite(result).all()
    assert result.any()


def test_network_has_the_shapes_that_its_widths_say(residual: Plan) -> None:
    model = checked(write_network(residual, {"one": 5, "two": 3}, opset=20, ir_version=9))
    assert op_shapes(model) == [
        ("Conv", ((5, 3, 3, 3),)),
        ("Clip", ()),
        ("Conv", ((5, 1, 3, 3),)),
        ("Conv", ((3, 5, 1, 1),)),
        ("Conv", ((3, 3, 1, 1),)),
        ("Add", ()),
        ("Relu", ()),
        ("GlobalAveragePool", ()),
        ("Flatten", ()),
        ("Gemm", ((10, 3),)),
    ]
    assert onnx.helper.get_node_attr_value(model.graph.node[2], "group") == 5


def test_network_says_which_plan_and_widths_it_is(residual: Plan) -> None:
    model = checked(write_network(residual, {"two": 3}, opset=17, ir_version=8))
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["netadapt.plan_hash"] == plan_hash(residual)
    assert json.loads(told["netadapt.widths"]) == {"one": 6, "two": 3}
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


@pytest.mark.parametrize(
    ("widths", "told"), [({"one": 0}, "width 0 of one"), ({"two": 5}, "width 5 of two"), ({"three": 1}, "'three'")]
)
def test_widths_out_of_range_are_refused(residual: Plan, widths: dict[str, int], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        write_network(residual, widths, opset=20, ir_version=9)


def test_every_layer_is_valid_at_any_axis_values(residual: Plan) -> None:
    options = {"starts": {"Conv", "Gemm"}, "activations": {"Relu", "Clip"}, "add": True, "free": {"Flatten"}}
    for layer in fused_layers(residual, **options):  # type: ignore[arg-type]
        for widths in [(7, 9, 11)[: len(layer.axes)], (1, 1, 1)[: len(layer.axes)]]:
            model = checked(write_layer(residual, layer, widths, opset=20, ir_version=9))
            feeds = {
                value.name: np.ones([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.float32)
                for value in model.graph.input
            }
            assert all(np.isfinite(result).all() for result in ReferenceEvaluator(model).run(None, feeds))


def test_axis_values_become_weight_shapes(residual: Plan) -> None:
    layer = make_layer(residual, [residual.ops[0].name, residual.ops[1].name])
    model = checked(write_layer(residual, layer, (5, 16), opset=20, ir_version=9))
    assert op_shapes(model) == [("Conv", ((16, 5, 3, 3),)), ("Clip", ())]
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 5, 8, 8]
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [1, 16, 8, 8]


def test_equal_keys_of_two_networks_write_equal_bytes(residual: Plan, from_text: FromText) -> None:
    text = HEAD + "g (float[1,99,4,4] x) => (float[1,5,4,4] y) <float[5,99,1,1] w, float[5] b> { y = Conv (x, w, b) }"
    other = from_text(text, {"w": [5, 99, 1, 1], "b": [5]})
    mine, theirs = make_layer(residual, [residual.ops[3].name]), make_layer(other, ["0_Conv"])
    assert mine.key == theirs.key
    assert write_layer(residual, mine, (8, 16), opset=20, ir_version=9) == write_layer(
        other, theirs, (8, 16), opset=20, ir_version=9
    )


@pytest.mark.parametrize("widths", [(), (4,), (4, 4, 4), (0, 4), (4, -8)])
def test_axis_values_that_do_not_fit_are_refused(residual: Plan, widths: tuple[int, ...]) -> None:
    layer = make_layer(residual, [residual.ops[3].name])
    with pytest.raises(SpecError, match="2 positive widths"):
        write_layer(residual, layer, widths, opset=20, ir_version=9)


def test_weights_are_neither_denormal_nor_huge(from_text: FromText) -> None:
    """Also beyond the pool of random numbers, where it repeats."""
    text = HEAD + "g (float[1,1100] x) => (float[1,1100] y) <float[1100,1100] w> { y = MatMul (x, w) }"
    plan = from_text(text, {"w": [1100, 1100]})
    model = checked(write_network(plan, {}, opset=20, ir_version=9))
    values = np.abs(onnx.numpy_helper.to_array(model.graph.initializer[0]))
    assert values.shape == (1100, 1100)
    assert 1e-4 < values.min() < values.max() < 1


def test_statistics_of_a_norm_are_positive(from_text: FromText) -> None:
    text = (
        HEAD
        + """g (float[1,64,2,2] x) => (float[1,64,2,2] y) <float[64] s, float[64] b, float[64] m, float[64] v>
    { y = BatchNormalization (x, s, b, m, v) }"""
    )
    plan = from_text(text, {name: [64] for name in "sbmv"})
    model = checked(write_network(plan, {}, opset=20, ir_version=9))
    assert all((onnx.numpy_helper.to_array(tensor) > 0).all() for tensor in model.graph.initializer)
