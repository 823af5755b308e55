"""Which ops run as one, for runtimes that fuse around convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.plan.partition import fused_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    FromText = Callable[..., Plan]

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
OPTIONS: dict[str, Any] = {"starts": {"Conv", "Gemm"}, "activations": {"Relu", "Clip"}, "add": True, "free": {"Flatten"}}


def layers_of(plan: Plan, **options: Any) -> list[list[str]]:
    """Op types of each layer."""
    kinds = {op.name: op.op_type for op in plan.ops}
    return [[kinds[name] for name in layer.ops] for layer in fused_layers(plan, **{**OPTIONS, **options})]


def test_residual_network_in_layers(residual: Plan) -> None:
    assert layers_of(residual) == [
        ["Conv", "Clip"],
        ["Conv"],
        ["Conv"],
        ["Conv", "Add", "Relu"],
        ["GlobalAveragePool"],
        ["Gemm"],
    ]


def test_runtime_without_fused_sums(residual: Plan) -> None:
    assert layers_of(residual, add=False)[3:6] == [["Conv"], ["Add"], ["Relu"]]


def test_every_op_that_costs_time_is_in_one_layer(residual: Plan) -> None:
    members = [name for layer in fused_layers(residual, **OPTIONS) for name in layer.ops]
    assert sorted(members) == sorted(op.name for op in residual.ops if op.op_type != "Flatten")


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        # x * sigmoid(x), with an anchor and without
        ("a = Conv (x, w)  b = Sigmoid (a)  y = Mul (a, b)", [["Conv", "Sigmoid", "Mul"]]),
        ("a = Tanh (x)  b = HardSigmoid (a)  y = Mul (b, a)", [["Tanh"], ["HardSigmoid", "Mul"]]),
        # a gate of something else is no activation
        ("a = Conv (x, w)  b = Sigmoid (a)  y = Mul (x, b)", [["Conv"], ["Sigmoid"], ["Mul"]]),
        # somebody else reads the convolution, or the activation's input is the network's output
        ("a = Conv (x, w)  b = Relu (a)  y = Mul (a, b)", [["Conv"], ["Relu"], ["Mul"]]),
        ("y = Conv (x, w)  z = Relu (y)", [["Conv"], ["Relu"]]),
        # both sides of a sum are convolutions: the later one takes it
        ("a = Conv (x, w)  b = Conv (x, w)  y = Add (a, b)", [["Conv"], ["Conv", "Add"]]),
        # x + x is no residual sum
        ("a = Conv (x, w)  y = Add (a, a)", [["Conv"], ["Add"]]),
        # the other side is computed after the convolution
        ("a = Conv (x, w)  b = Tanh (x)  y = Add (a, b)", [["Conv"], ["Tanh"], ["Add"]]),
    ],
)
def test_patterns(from_text: FromText, body: str, layers: list[list[str]]) -> None:
    outputs = "float[1,4,2,2] y" + (", float[1,4,2,2] z" if "z =" in body else "")
    text = f"{HEAD} g (float[1,4,2,2] x) => ({outputs}) <float[4,4,1,1] w> {{ {body} }}"
    assert layers_of(from_text(text, {"w": [4, 4, 1, 1]})) == layers
