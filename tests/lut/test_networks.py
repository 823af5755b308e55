from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.networks import anchor_widths, random_widths
from netadapt_trt.lut.reading import networks_of
from netadapt_trt.lut.schema import NetworkLine
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.spec import LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan


@pytest.fixture
def plan(make_plan: Callable[..., Plan]) -> Plan:
    return make_plan(a=32, b=16)


@pytest.fixture
def layers(make_layer: Callable[..., Layer]) -> list[Layer]:
    return [make_layer("stem", 3, "a"), make_layer("head", "b", 10)]


@pytest.fixture
def lut(make_lut: Callable[..., Lut]) -> Lut:
    """Each layer costs a tenth of a millisecond per channel, and 5 ms for the call."""
    return make_lut({"stem": {(3, w): 5 + w / 10 for w in (8, 32)}, "head": {(w, 10): 5 + w / 10 for w in (8, 16)}})


def measure(lut: Lut, plan: Plan, widths: dict[str, int], median: float) -> None:
    stats = LatencyStats(median=median, p10=median, p90=median, n=9)
    lut.add(NetworkLine(plan=plan_hash(plan), widths=widths, latency_ms=stats, session="s1"))


def test_calls_that_the_network_does_not_make_are_taken_off(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    # The network makes one call of 4 ms instead of two of 5: 4 + 1.5 * (a + b) / 10 = 1.5 * (sum - 10 + 8 / 3).
    for a, b in ((32, 16), (24, 8), (16, 16), (8, 8), (8, 12)):
        measure(lut, plan, {"a": a, "b": b}, 4 + 0.15 * (a + b))
    estimator = NetworkEstimator(lut, plan, layers)
    assert estimator.offset == pytest.approx(-10 + 8 / 3)
    assert estimator.scale == pytest.approx(1.5)
    found = estimator.estimate({"a": 20, "b": 10})
    assert found.raw == pytest.approx(13.0)
    assert found.value == pytest.approx(8.5)
    np.testing.assert_allclose(estimator.curve({"b": 10}, "a", np.array([8, 20])), [6.7, 8.5])
    estimator.anchor({"a": 20, "b": 10}, 17.0)
    assert estimator.estimate({"a": 20, "b": 10}).value == pytest.approx(17.0)


@pytest.mark.parametrize(
    "values",
    [
        [((32, 16), 9.0)],  # one network tells a scale only
        [((32, 16), 9.0), ((32, 8), 9.0), ((24, 16), 9.0)],  # three are too few
        [((32, 16), 9.0), ((31, 16), 8.0), ((30, 16), 7.0), ((29, 16), 6.0)],  # widths too much alike
        [((32, 16), 5.0), ((24, 8), 6.0), ((16, 16), 7.0), ((8, 8), 8.0)],  # narrower is slower: noise
        [((32, 16), 9.0), ((24, 8), 0.3), ((16, 16), 0.1), ((8, 8), 0.001)],  # would cross zero
    ],
)
def test_networks_that_do_not_tell_leave_the_scale_alone(
    lut: Lut, plan: Plan, layers: list[Layer], values: list[tuple[tuple[int, int], float]]
) -> None:
    for (a, b), median in values:
        measure(lut, plan, {"a": a, "b": b}, median)
    estimator = NetworkEstimator(lut, plan, layers)
    assert estimator.offset == 0.0
    assert estimator.scale == pytest.approx(values[0][1] / 14.8)


def test_estimates_stay_positive_below_the_fitted_networks(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    for a, b in ((32, 16), (24, 16), (16, 16), (16, 12)):
        measure(lut, plan, {"a": a, "b": b}, 0.1 * (a + b) - 2.5)
    estimator = NetworkEstimator(lut, plan, layers)
    assert estimator.offset == pytest.approx(-12.5)
    assert estimator.estimate({"a": 8, "b": 8}).value == pytest.approx(0.02 * 11.6)


def test_networks_of_takes_the_latest_at_each_width(lut: Lut, plan: Plan, make_plan: Callable[..., Plan]) -> None:
    measure(lut, plan, {"a": 32, "b": 16}, 9.0)
    measure(lut, plan, {"other": 32, "names": 16}, 8.0)
    measure(lut, make_plan(a=64), {"a": 64}, 1.0)
    assert networks_of(lut, plan) == [({"a": 32, "b": 16}, 8.0)]
    assert networks_of(lut, plan, "energy") == []


def test_anchor_widths_begin_uncut_and_spread(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(a=512, b=64, c=4)
    settings = anchor_widths(plan)
    assert settings == anchor_widths(plan)
    assert settings[0] == {"a": 512, "b": 64, "c": 4}
    assert 6 <= len(settings) <= 9
    assert min(widths["a"] for widths in settings) <= 128 < 300 < sorted(widths["a"] for widths in settings)[-2]
    assert all(widths["c"] == 4 for widths in settings)


def test_random_widths_stay_on_the_grid_and_differ_by_seed(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(a=512, b=60)
    settings = random_widths(plan, 50, seed=3)
    assert settings == random_widths(plan, 50, seed=3) != random_widths(plan, 50, seed=4)
    assert all(widths["a"] % 8 == 0 and 8 <= widths["a"] <= 512 for widths in settings)
    assert all(widths["b"] % 8 == 0 or widths["b"] == 60 for widths in settings)


def test_network_without_groups_has_one_setting(make_plan: Callable[..., Plan]) -> None:
    assert anchor_widths(make_plan()) == [{}]
