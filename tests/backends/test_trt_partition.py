"""Which ops TensorRT runs as one, on plans small enough to be drawn."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from netadapt_trt.plan.schema import Attribute, Dim, Group, Op, Plan, Tensor

trt: Any = importlib.import_module("netadapt_trt.backends.trt")

WIDE, ONE, SIDE = Dim(0, (("g", 1),)), Dim(1), Dim(4)


def plan_of(*ops: Op, outputs: tuple[str, ...] = ("y",), doubled: tuple[str, ...] = ()) -> Plan:
    """All tensors [1, g, 4, 4]; weights ``w...`` are [g, g, 3, 3], ``n...`` [g]; ``doubled`` have 2g channels."""
    names = dict.fromkeys(name for op in ops for name in (*op.inputs, *op.outputs))
    weights = [name for name in names if name.startswith("w")]
    norms = [name for name in names if name.startswith("n")]
    twice = Dim(0, (("g", 2),))
    return Plan(
        model="test", args={}, inputs=("x",), outputs=outputs, groups=(Group("g", 16, ()),), frozen=(), constants={},
        tensors={
            name: Tensor(name, "float32", (ONE, twice if name in doubled else WIDE, SIDE, SIDE))
            for name in names
            if name not in (*weights, *norms)
        },
        weights={
            **{name: Tensor(name, "float32", (WIDE, WIDE, Dim(3), Dim(3))) for name in weights},
            **{name: Tensor(name, "float32", (WIDE,)) for name in norms},
        },
        ops=ops,
    )  # fmt: skip


def conv(name: str, source: str, result: str) -> Op:
    return Op(name, "Conv", (source, f"w{name}"), (result,), {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3)})


def op(name: str, kind: str, sources: str, result: str, **attributes: Attribute) -> Op:
    return Op(name, kind, tuple(sources.split()), (result,), attributes)


def fused(plan: Plan) -> list[tuple[str, ...]]:
    backend: Any = trt.TrtBackend()
    return [layer.ops for layer in backend.partition(plan)]


@pytest.mark.parametrize("activation", ["Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Gelu"])
def test_partition_joins_convolution_sum_and_activation(activation: str) -> None:
    plan = plan_of(conv("a", "x", "t"), op("sum", "Add", "t x", "s"), op("act", activation, "s", "y"))
    assert fused(plan) == [("a", "sum", "act")]


def test_partition_joins_swish() -> None:
    plan = plan_of(conv("a", "x", "t"), op("gate", "Sigmoid", "t", "g"), op("mul", "Mul", "t g", "y"))
    assert fused(plan) == [("a", "gate", "mul")]


def test_partition_makes_one_kernel_of_neighbouring_elementwise_ops() -> None:
    # A dense block: a batch norm that follows a concatenation cannot be folded into a convolution.
    norm = op("norm", "BatchNormalization", "p n1 n2 n3 n4", "b")
    plan = plan_of(op("pool", "MaxPool", "x", "p"), norm, op("act", "Relu", "b", "r"), conv("a", "r", "y"))
    assert fused(plan) == [("pool",), ("norm", "act"), ("a",)]


def test_partition_leaves_a_value_with_two_readers_between_kernels() -> None:
    plan = plan_of(
        op("first", "Relu", "x", "r"), op("left", "Tanh", "r", "t"), op("right", "Neg", "r", "m"),
        op("other", "Abs", "m", "q"), op("sum", "Add", "t q", "y"),
    )  # fmt: skip
    # Both branches end in the sum, which can be the end of one kernel only: that of its first operand.
    assert fused(plan) == [("first",), ("left", "sum"), ("right", "other")]


def test_partition_keeps_what_leaves_the_network_apart() -> None:
    plan = plan_of(op("first", "Relu", "x", "r"), op("second", "Tanh", "r", "y"), outputs=("r", "y"))
    assert fused(plan) == [("first",), ("second",)]


def test_partition_drops_a_concatenation_that_kernels_write_into() -> None:
    parts = (conv("a", "x", "p"), conv("b", "x", "q"))
    joined = op("join", "Concat", "p q", "c", axis=1)
    plan = plan_of(*parts, joined, op("pool", "MaxPool", "c", "y"), doubled=("c", "y"))
    assert fused(plan) == [("a",), ("b",), ("pool",)]


def test_partition_keeps_a_concatenation_of_what_others_read() -> None:
    parts = (conv("a", "x", "p"), op("join", "Concat", "x p", "c", axis=1))
    plan = plan_of(*parts, op("pool", "MaxPool", "c", "y"), doubled=("c", "y"))
    assert fused(plan) == [("a",), ("join",), ("pool",)]


def test_partition_needs_no_tensorrt_and_equals_that_of_rtx() -> None:
    rtx: Any = importlib.import_module("netadapt_trt.backends.trt_rtx")
    plan = plan_of(conv("a", "x", "t"), op("act", "Relu", "t", "y"))
    assert rtx.RtxBackend().partition(plan) == trt.TrtBackend().partition(plan)
