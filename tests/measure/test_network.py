from __future__ import annotations

import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.measure.network import measure_networks, time_networks
from netadapt_trt.plan.schema import Attribute, Dim, FrozenChannels, Group, Op, Plan, Tensor


@pytest.fixture
def plan() -> Plan:
    """3 -> stem (3x3) -> 16 (1x1), on 8x8 positions; stem has 32 channels."""
    width, one, side = Dim(0, (("stem", 1),)), Dim(1), Dim(8)
    shapes = {"x": (one, Dim(3), side, side), "a": (one, width, side, side), "y": (one, Dim(16), side, side)}
    weights = {"w1": (width, Dim(3), Dim(3), Dim(3)), "w2": (Dim(16), width, one, one)}
    wide: dict[str, Attribute] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (1, 1), "group": 1}
    return Plan(
        model="test",
        args={},
        inputs=("x",),
        outputs=("y",),
        groups=(Group("stem", 32, ("w1",)),),
        frozen=(FrozenChannels("head", 16, "network output"),),
        tensors={name: Tensor(name, "float32", shape) for name, shape in shapes.items()},
        weights={name: Tensor(name, "float32", shape) for name, shape in weights.items()},
        constants={},
        ops=(
            Op("stem", "Conv", ("x", "w1"), ("a",), wide),
            Op("head", "Conv", ("a", "w2"), ("y",), {**wide, "kernel_shape": (1, 1), "pads": (0, 0, 0, 0)}),
        ),
    )


def test_measure_networks_measures_each_setting_of_widths(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETADAPT_FAKE_NOISE", raising=False)
    full, half = measure_networks(load_backend("fake"), plan, [{}, {"stem": 16}], threads=1, rounds=2)
    # The fake device's formula: 20e6 multiply-accumulates and 10e6 bytes per millisecond, 3 us a layer, 5 us a call.
    stem, head = 0.003 + 64 * 9 * 3 * 32 / 20e6, 0.003 + 64 * 32 * 16 / 20e6
    assert full.median == pytest.approx(0.005 + 0.8 * (stem + head))
    # With 16 channels the second layer is bound by memory: 64*16 read, 16*16 weights, 64*16 written.
    stem, head = 0.003 + 64 * 9 * 3 * 16 / 20e6, 0.003 + (1024 + 256 + 1024) * 4 / 10e6
    assert half.median == pytest.approx(0.005 + 0.8 * (stem + head))


def test_time_networks_keeps_rounds_and_energy(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_FAKE_NOISE", "0.02")
    (timings,) = time_networks(load_backend("fake"), plan, [{}], threads=1, rounds=4, round_ms=5)
    assert len(timings.medians_ms) == 4
    assert timings.odd_even_ratio == pytest.approx(1.0, abs=0.02)
    assert timings.energy is not None
    assert timings.energy.total > 0
