"""Steady power out of filtered, stepped readings. Expected values by hand, or from the textbook of the plain case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netadapt_trt.power.level import Sensor, Window, coverage, steady_values, trapezoid_weights

EXACT = Sensor(step_mw=0.0, time_constant_s=0.0)
STEPPED = Sensor(step_mw=400.0, time_constant_s=0.43)


def half_width(values: np.ndarray) -> float:
    return float(np.quantile(np.abs(values - values.mean()), 0.95))


def test_trapezoid_weights_of_uneven_readings() -> None:
    # Between 0, 1, 3, 4 s: half of each distance to either side; the 0.5 s before and 1 s after the last ones go to these.
    weights = trapezoid_weights(np.array([0.0, 1.0, 3.0, 4.0]), Window(-0.5, 5.0))
    np.testing.assert_allclose(weights * 5.5, [0.5 + 0.5, 1.5, 1.5, 0.5 + 1.0])


def test_trapezoid_weights_integrate_a_ramp_exactly() -> None:
    times = np.array([0.0, 0.3, 1.1, 2.0, 2.1, 4.0])
    assert trapezoid_weights(times, Window(0.0, 4.0)) @ times == pytest.approx(2.0)


def test_trapezoid_weights_leave_readings_outside_alone() -> None:
    weights = trapezoid_weights(np.array([0.0, 1.0, 2.0, 3.0]), Window(0.5, 2.5))
    np.testing.assert_allclose(weights, [0.0, 0.5, 0.5, 0.0])
    assert not trapezoid_weights(np.array([0.0, 9.0]), Window(2.0, 3.0)).any()


def test_steady_values_need_two_readings() -> None:
    assert steady_values(np.array([0.0, 1.0]), np.array([5.0, 5.0]), Window(0.5, 2.0), EXACT) is None


def test_steady_values_of_an_exact_constant_are_that_constant() -> None:
    values = steady_values(np.arange(10.0), np.full(10, 7250.0), Window(0.0, 9.0), EXACT)
    assert values is not None
    np.testing.assert_allclose(values, 7250.0)


def test_steady_values_of_one_step_are_anywhere_in_that_step() -> None:
    times = np.arange(0.0, 10.0, 0.05)
    values = steady_values(times, np.full(times.size, 8000.0), Window(0.0, 10.0), STEPPED)
    assert values is not None
    assert values.mean() == pytest.approx(8000.0, abs=1.0)
    # 95 % of a uniform distribution over 400 mW lie within 190 mW of its middle; a little noise could hide beside that.
    assert 165.0 < half_width(values) < 200.0


def test_steady_values_of_two_steps_are_near_the_edge_between_them() -> None:
    times = np.arange(0.0, 10.0, 0.05)
    readings = np.where((times * 2).astype(int) % 2, 8000.0, 8400.0)
    values = steady_values(times, readings, Window(0.0, 10.0), STEPPED)
    assert values is not None
    assert values.mean() == pytest.approx(8200.0, abs=10.0)
    assert half_width(values) < 100.0


def test_steady_values_move_away_from_a_step_that_is_seen_rarely() -> None:
    # One reading in twenty is a step higher: the power lies in the upper half of the lower step, above what the mean says.
    times = np.arange(0.0, 10.0, 0.05)
    readings = np.where(np.arange(times.size) % 20 == 7, 8400.0, 8000.0)
    values = steady_values(times, readings, Window(0.0, 10.0), STEPPED)
    assert values is not None
    assert 8020.0 < values.mean() < 8200.0


def test_steady_values_many_noisy_readings_agree_with_the_textbook() -> None:
    rng = np.random.default_rng(4)
    widths = []
    for _ in range(20):
        readings = rng.normal(9000.0, 100.0, 100)
        values = steady_values(np.arange(100.0), readings, Window(0.0, 99.0), EXACT)
        assert values is not None
        assert values.mean() == pytest.approx(readings.mean(), abs=3.0)  # the trapezoid counts the two ends half
        widths.append(half_width(values) / (1.984 * readings.std(ddof=1) / 10))  # Student's t, 99 degrees of freedom
    assert 0.95 < np.mean(widths) < 1.4  # wider where neighbours look alike by chance


def test_steady_values_reading_faster_does_not_make_a_filtered_sensor_surer() -> None:
    # The same path of a filtered sensor, read 10 and 100 times a second.
    rng = np.random.default_rng(5)
    keep = math.exp(-0.01 / 0.43)
    path = np.zeros(3000)
    for i in range(1, path.size):
        path[i] = keep * path[i - 1] + rng.normal(0.0, 50.0)
    times = np.linspace(0.0, 29.99, path.size)
    sensor = Sensor(step_mw=0.0, time_constant_s=0.43)
    often = steady_values(times, path, Window(0.0, 30.0), sensor)
    seldom = steady_values(times[::10], path[::10], Window(0.0, 30.0), sensor)
    assert often is not None
    assert seldom is not None
    assert half_width(often) == pytest.approx(half_width(seldom), rel=0.1)
    assert half_width(often) > 4 * 1.96 * path.std() / math.sqrt(path.size)  # which is what 3000 independent readings give


def test_steady_values_slow_wandering_widens_the_interval() -> None:
    times = np.linspace(0.0, 14.95, 300)
    sensor = Sensor(step_mw=0.0, time_constant_s=0.43)
    fast, slow = (
        steady_values(times, np.asarray(np.sin(2 * np.pi * times / period)), Window(0.0, 15.0), sensor)
        for period in (1.0, 7.5)
    )
    assert fast is not None
    assert slow is not None
    assert half_width(slow) > 1.5 * half_width(fast)


@pytest.mark.parametrize(
    ("missing", "share", "enough"),
    [
        ((), 1.0, True),
        # No reading from 4.95 to 5.30 s: less than one time constant, 0.43 s, so the sensor's average reaches over it.
        ((5.0, 5.3), 1.0, True),
        # From 4.95 to 5.70 s: 0.75 s, of which half a time constant at either end is vouched for.
        ((5.0, 5.7), (10.0 - 0.75 + 0.43) / 10.0, True),
        # From 4.95 to 5.90 s: over two time constants.
        ((5.0, 5.9), (10.0 - 0.95 + 0.43) / 10.0, False),
        ((0.0, 1.5), (8.5 + 0.215) / 10.0, False),
    ],
)
def test_coverage_of_holes_under_a_filter(missing: tuple[float, ...], share: float, enough: bool) -> None:
    times = np.arange(200) / 20
    if missing:
        times = times[(times < missing[0] - 1e-9) | (times > missing[1] - 1e-9)]
    found = coverage(times, Window(0.0, 10.0), STEPPED)
    assert found.share == pytest.approx(share, abs=1e-6)
    assert found.enough is enough
    assert found.samples == times.size


@pytest.mark.parametrize(
    ("every", "missing", "share", "enough"),
    [
        (1.0, 1, 1.0, True),  # 2 s without a reading at 1 Hz: 1.25 s vouched for at either end
        (1.0, 2, (40.0 - 0.5) / 40.0, False),  # 3 s: longer than 2.5 periods
        (0.1, 1, 1.0, True),
    ],
)
def test_coverage_of_holes_without_a_filter(every: float, missing: int, share: float, enough: bool) -> None:
    times = np.delete(np.arange(round(40 / every)) * every, range(10, 10 + missing))
    found = coverage(times, Window(0.0, 40.0), EXACT)
    assert found.share == pytest.approx(share, abs=1e-6)
    assert found.enough is enough


def test_coverage_of_a_thin_trace_is_low() -> None:
    # One hole of 3 s in every 10 at 1 Hz: half a second of each is vouched for by nobody.
    times = np.array([float(t) for t in range(100) if t % 10 not in (4, 5, 6)])
    assert coverage(times, Window(0.0, 100.0), EXACT).share == pytest.approx(0.85, abs=0.01)


def test_coverage_knows_the_period_it_is_told() -> None:
    times = np.arange(0.0, 10.0, 0.5)  # every tenth of what 20 Hz should have given
    assert coverage(times, Window(0.0, 10.0), EXACT).enough
    told = Sensor(step_mw=0.0, time_constant_s=0.0, period_s=0.05)
    assert not coverage(times, Window(0.0, 10.0), told).enough


def test_coverage_of_nothing_is_none() -> None:
    found = coverage(np.array([]), Window(0.0, 10.0), STEPPED)
    assert (found.samples, found.share, found.enough) == (0, 0.0, False)
