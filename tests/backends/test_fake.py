"""Expected values are worked out from the formula in the docstring of backends/fake/cost.py, with its constants of today."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from onnx import helper

from netadapt_trt.backend import Backend, CompileOptions
from netadapt_trt.errors import BackendError
from netadapt_trt.measure.stopwatch import time_executable
from netadapt_trt.plan.write import write_layer, write_network

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.spec import EnergyStats

    Build = Callable[..., bytes]

node = helper.make_node
SAME = [1, 1, 1, 1]
CALL, LAYER = 0.005, 0.003


def once(backend: Backend, model: bytes, precision: str = "fp32") -> tuple[float, EnergyStats]:
    with backend.compile(model, CompileOptions(precision=precision)) as exe:  # type: ignore[arg-type]
        exe.run()
        return cast("float", exe.elapsed_ms()), cast("EnergyStats", exe.energy_mj())


def test_cost_of_a_dense_convolution_counts_padded_channels(fake: Backend, build: Build) -> None:
    # 20 -> 32 and 40 -> 48 channels, 8x8 positions, 3x3 kernel, 20e6 MAC/ms.
    model = build([node("Conv", ["x", "w"], ["y"], pads=SAME)], {"w": (40, 20, 3, 3)}, (1, 20, 8, 8))
    latency, energy = once(fake, model)
    time = LAYER + 64 * 9 * 32 * 48 / 20e6
    assert latency == pytest.approx(CALL + time)
    # Compute-bound: 5000 mW, the call at 1000 mW.
    assert energy.total == pytest.approx(time * 5.0 + CALL * 1.0)
    assert energy.dynamic == pytest.approx(time * 4.0)


def test_cost_of_a_depthwise_convolution_has_steps_of_eight(fake: Backend, build: Build) -> None:
    def latency(channels: int) -> float:
        conv = node("Conv", ["x", "w"], ["y"], group=channels, pads=SAME)
        return once(fake, build([conv], {"w": (channels, 1, 3, 3)}, (1, channels, 8, 8)))[0]

    assert latency(20) == pytest.approx(CALL + LAYER + 64 * 9 * 24 / 4e6)
    assert latency(17) == pytest.approx(latency(24))
    assert latency(16) < latency(17)


def test_cost_of_dense_layers_is_a_staircase_of_sixteen(fake: Backend, build: Build) -> None:
    def latency(channels: int) -> float:
        return once(fake, build([node("Conv", ["x", "w"], ["y"])], {"w": (channels, 64, 1, 1)}, (1, 64, 8, 8)))[0]

    assert latency(17) == latency(32)
    assert latency(32) < latency(33)


def test_cost_of_an_image_is_not_padded(fake: Backend, build: Build) -> None:
    model = build([node("Conv", ["x", "w"], ["y"], pads=SAME)], {"w": (16, 3, 3, 3)}, (1, 3, 32, 32))
    # 1024 positions * 9 * 3 * 16 multiply-accumulates: 22 us; 19888 elements * 4 bytes: 8 us.
    assert once(fake, model)[0] == pytest.approx(CALL + LAYER + 1024 * 9 * 3 * 16 / 20e6)


def test_cost_of_an_addition_is_bound_by_memory(fake: Backend, build: Build) -> None:
    model = build([node("Add", ["x", "w"], ["y"])], {"w": (1, 16, 8, 8)}, (1, 16, 8, 8))
    latency, energy = once(fake, model)
    # Two operands and the sum, 1024 floats each, 10e6 bytes/ms; 3000 mW.
    time = LAYER + 3 * 1024 * 4 / 10e6
    assert latency == pytest.approx(CALL + time)
    assert energy.total == pytest.approx(time * 3.0 + CALL * 1.0)


def test_cost_of_a_linear_layer_reads_its_weights(fake: Backend, build: Build) -> None:
    model = build([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": (10, 256), "b": (10,)}, (1, 256))
    # 256*10 weights + 256 in + 10 bias + 10 out; 16*256 multiply-accumulates would take 0.2 us.
    assert once(fake, model)[0] == pytest.approx(CALL + LAYER + (2560 + 256 + 20) * 4 / 10e6)


def test_cost_of_a_network_is_less_than_its_layers_alone(fake: Backend, build: Build) -> None:
    first = node("Conv", ["x", "w1"], ["a"], pads=SAME)
    second = node("Conv", ["a", "w2"], ["y"])
    both = build([first, second], {"w1": (16, 16, 3, 3), "w2": (32, 16, 1, 1)}, (1, 16, 8, 8))
    one = LAYER + 64 * 9 * 16 * 16 / 20e6
    # The 1x1 layer: 64*16*32 MAC = 1.6 us; 64*16 + 16*32 + 64*32 floats = 14336 bytes = 1.4 us.
    two = LAYER + 64 * 16 * 32 / 20e6
    assert once(fake, both)[0] == pytest.approx(CALL + 0.8 * (one + two))


@pytest.mark.parametrize(
    "tail",
    [
        [node("Relu", ["c"], ["y"])],
        [node("Sigmoid", ["c"], ["g"]), node("Mul", ["c", "g"], ["y"])],
        [node("HardSigmoid", ["c"], ["g"]), node("Mul", ["g", "c"], ["y"])],
        [node("Add", ["c", "x"], ["s"]), node("Relu", ["s"], ["y"])],  # x is read by the convolution anyway
        [node("Flatten", ["c"], ["y"])],
    ],
)
def test_fusing_makes_activation_and_sum_free(fake: Backend, build: Build, tail: list[onnx.NodeProto]) -> None:
    # 1x1, 16 -> 16 channels at 8x8: 16384 MAC = 0.8 us, so memory decides.
    model = build([node("Conv", ["x", "w", "b"], ["c"]), *tail], {"w": (16, 16, 1, 1), "b": (16,)}, (1, 16, 8, 8))
    expected = CALL + LAYER + (1024 + 256 + 16 + 1024) * 4 / 10e6
    assert once(fake, model)[0] == pytest.approx(expected)


def test_fusing_leaves_a_shared_value_alone(fake: Backend, build: Build) -> None:
    # The convolution's output has two readers, so neither Tanh nor Relu can be folded into it: three layers and a sum.
    nodes = [
        node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["r"]), node("Tanh", ["c"], ["t"]),
        node("Add", ["r", "t"], ["y"]),
    ]  # fmt: skip
    conv = LAYER + (1024 + 256 + 1024) * 4 / 10e6
    activation = LAYER + 2 * 1024 * 4 / 10e6
    addition = LAYER + 3 * 1024 * 4 / 10e6
    latency = once(fake, build(nodes, {"w": (16, 16, 1, 1)}, (1, 16, 8, 8)))[0]
    assert latency == pytest.approx(CALL + 0.8 * (conv + 2 * activation + addition))


def test_fp16_halves_arithmetic_and_bytes(fake: Backend, build: Build) -> None:
    model = build([node("Conv", ["x", "w"], ["y"])], {"w": (64, 64, 1, 1)}, (1, 64, 16, 16))
    full, half = once(fake, model)[0], once(fake, model, "fp16")[0]
    assert half - CALL - LAYER == pytest.approx((full - CALL - LAYER) / 2)


def test_weights_do_not_change_the_cost(fake: Backend, build: Build) -> None:
    conv = node("Conv", ["x", "w"], ["y"])
    zeros = build([conv], {"w": np.zeros((8, 8, 1, 1), np.float32)}, (1, 8, 4, 4))
    assert once(fake, zeros) == once(fake, build([conv], {"w": (8, 8, 1, 1)}, (1, 8, 4, 4)))


def test_noise_is_repeatable_and_scatters(fake: Backend, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build([node("Relu", ["x"], ["y"])], {}, (1, 64, 8, 8))
    exact = once(fake, model)[0]
    monkeypatch.setenv("NETADAPT_FAKE_NOISE", "0.05")

    def samples() -> tuple[float, ...]:
        with fake.compile(model, CompileOptions()) as exe:
            return time_executable(exe, warmup_ms=0, min_runs=400, min_ms=0).samples_ms

    noisy = samples()
    assert noisy == samples()
    logarithms = np.log(np.array(noisy) / exact)
    # 400 draws: mean within 5 standard errors (0.0125) of 0, spread within a fifth of 0.05.
    assert abs(logarithms.mean()) < 0.0125
    assert logarithms.std() == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize("text", ["loud", "-0.1", "1", "nan"])
def test_noise_that_is_no_share_is_refused(fake: Backend, build: Build, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NETADAPT_FAKE_NOISE", text)
    with pytest.raises(BackendError, match="NETADAPT_FAKE_NOISE"):
        fake.compile(build([node("Relu", ["x"], ["y"])], {}, (1, 8)), CompileOptions())


def test_control_flow_is_refused(fake: Backend, build: Build) -> None:
    body = helper.make_graph([node("Identity", ["x"], ["z"])], "body", [], [helper.make_empty_tensor_value_info("z")])
    model = build([node("If", ["c"], ["y"], then_branch=body, else_branch=body)], {"c": np.ones((), np.bool_)}, (1, 8))
    with pytest.raises(BackendError, match="If"):
        fake.compile(model, CompileOptions())


def test_sleep_makes_a_run_take_its_time(fake: Backend, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    model = build([node("Relu", ["x"], ["y"])], {}, (1, 8))
    latency = once(fake, model)[0]
    assert slept == []
    monkeypatch.setenv("NETADAPT_FAKE_SLEEP", "1")
    once(fake, model)
    assert slept == pytest.approx([latency / 1000])


@pytest.mark.parametrize("width", [32, 20])
def test_a_network_costs_what_the_layers_of_its_partition_cost(fake: Backend, network: Plan, width: int) -> None:
    opset, ir_version = fake.opset()
    alone = []
    for layer in fake.partition(network):
        model = write_layer(network, layer, layer.widths({"stem": width}), opset=opset, ir_version=ir_version)
        alone.append(once(fake, model)[0] - CALL)
    whole = write_network(network, {"stem": width}, opset=opset, ir_version=ir_version)
    # conv + relu, depthwise + gate and product, sum, pool, head
    assert len(alone) == 5
    assert once(fake, whole)[0] == pytest.approx(CALL + 0.8 * sum(alone))


def test_fusing_a_gate_without_an_anchor_makes_one_layer(fake: Backend, build: Build) -> None:
    model = build([node("Sigmoid", ["x"], ["g"]), node("Mul", ["x", "g"], ["y"])], {}, (1, 16, 8, 8))
    assert once(fake, model)[0] == pytest.approx(CALL + LAYER + 2 * 1024 * 4 / 10e6)


def test_fusing_adds_into_the_later_convolution(fake: Backend, build: Build) -> None:
    # Two convolutions of one input: the second one adds the first one's output and takes the Relu.
    nodes = [
        node("Conv", ["x", "w1"], ["a"]), node("Conv", ["x", "w2"], ["b"]),
        node("Add", ["b", "a"], ["s"]), node("Relu", ["s"], ["y"]),
    ]  # fmt: skip
    first = LAYER + (1024 + 256 + 1024) * 4 / 10e6
    second = LAYER + (1024 + 256 + 1024 + 1024) * 4 / 10e6
    latency = once(fake, build(nodes, {"w1": (16, 16, 1, 1), "w2": (16, 16, 1, 1)}, (1, 16, 8, 8)))[0]
    assert latency == pytest.approx(CALL + 0.8 * (first + second))
