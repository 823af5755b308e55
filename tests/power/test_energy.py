"""Energy per run: the arithmetic by hand, the flags, and whether the intervals hold on a simulated board."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.energy import LOW_COVERAGE, RESOLUTION_LIMITED, Measured, energy_per_run
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from types import ModuleType

RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")  # Orin Nano: the first is the total


def steady(start: float, end: float, power: float, *, hz: float = 20.0) -> Trace:
    """A constant total with 40 % and 20 % of it on the parts."""
    times = np.linspace(start, end, round((end - start) * hz) + 1)
    return Trace(times, RAILS, np.outer(np.full(times.size, power), [1.0, 0.4, 0.2]))


def measure(load: Trace, idle: Any, **other: Any) -> Measured:
    options: dict[str, Any] = {"t0": 10.0, "t1": 20.0, "runs": 100, "step_mw": None, "time_constant_s": 0.0}
    return energy_per_run(load, idle, **(options | other))


def test_energy_of_a_constant_load_by_hand() -> None:
    found = measure(steady(10, 20, 8000.0), steady(0, 8, 6000.0))
    # 8 W for 10 s are 80 J over 100 runs
    assert found.total_mj == pytest.approx(800.0)
    assert found.dynamic_mj == pytest.approx(200.0)
    assert found.idle_mw == pytest.approx(6000.0)
    assert found.power_mw == pytest.approx({"VDD_IN": 8000.0, "VDD_CPU_GPU_CV": 3200.0, "VDD_SOC": 1600.0})
    assert found.interval_mj == pytest.approx(0.0, abs=1e-9)
    assert (found.flags, found.samples, found.coverage, found.window_s) == ((), 201, 1.0, 10.0)
    assert found.valid


def test_energy_counts_parts_of_runs() -> None:
    assert measure(steady(10, 20, 8000.0), None, runs=2.5).total_mj == pytest.approx(32_000.0)


def test_energy_ignores_what_lies_outside_the_window() -> None:
    parts = [steady(5, 9.99, 500.0), steady(10, 20, 8000.0), steady(20.01, 25, 100.0)]
    times, power = np.concatenate([p.times_s for p in parts]), np.concatenate([p.power_mw for p in parts])
    assert measure(Trace(times, RAILS, power), None).total_mj == pytest.approx(800.0)


def test_energy_interpolates_idle_to_the_middle_of_the_window() -> None:
    # idle 6000 mW around 2 s and 6400 mW around 34 s; the window's middle, 15 s, lies 13/32 of the way
    found = measure(steady(10, 20, 8000.0), [steady(30, 38, 6400.0), steady(0, 4, 6000.0)])
    assert found.idle_mw == pytest.approx(6000.0 + 400.0 * 13 / 32)
    assert found.dynamic_interval_mj == pytest.approx(0.0, abs=1e-9)


def test_energy_takes_the_nearest_of_many_idle_traces() -> None:
    idles = [steady(a, a + 2, p) for a, p in ((-50, 1000.0), (2, 6000.0), (26, 6200.0), (90, 3000.0))]
    assert measure(steady(10, 20, 8000.0), idles).idle_mw == pytest.approx(6100.0)


@pytest.mark.parametrize("after", [False, True])
def test_energy_idle_on_one_side_may_have_drifted_on(after: bool) -> None:
    # 200 mW in 10 s, and the window's middle is 10 s further: up to 200 mW off, uniformly, 95 % of that within 190.
    starts = ((24.0, 6000.0), (34.0, 6200.0)) if after else ((-6.0, 6200.0), (4.0, 6000.0))
    found = measure(steady(10, 20, 18000.0), [steady(a, a + 2, p) for a, p in starts], runs=10)
    assert found.idle_mw == pytest.approx(6000.0)
    assert found.dynamic_interval_mj == pytest.approx(190.0, rel=0.02)


def test_energy_without_idle_has_no_dynamic_part() -> None:
    found = measure(steady(10, 20, 8000.0), None, step_mw=40.0, time_constant_s=0.43)
    assert (found.dynamic_mj, found.dynamic_interval_mj, found.idle_mw) == (None, None, None)
    assert found.total_mj == pytest.approx(800.0, rel=1e-3)
    assert found.flags == ()


def test_energy_of_an_unknown_board_is_none_and_its_rails_stay() -> None:
    times = np.arange(0.0, 20.01, 0.05)
    trace = Trace(times, ("FOO", "BAR"), np.outer(np.ones(times.size), [3000.0, 1000.0]))
    found = measure(trace, trace.window(0, 8))
    assert (found.total_mj, found.dynamic_mj, found.stderr_mj, found.idle_mw) == (None, None, None, None)
    assert found.power_mw == pytest.approx({"FOO": 3000.0, "BAR": 1000.0})
    assert found.flags == ()
    assert measure(trace, trace.window(0, 8), rail="BAR").total_mj == pytest.approx(100.0)


def test_energy_of_a_rail() -> None:
    found = measure(steady(10, 20, 8000.0), steady(0, 8, 6000.0), rail="VDD_CPU_GPU_CV")
    assert found.total_mj == pytest.approx(320.0)
    assert found.dynamic_mj == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rail": "VDD_GPU"}, r"VDD_GPU was not sampled.*VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"),
        ({"runs": 0}, "0 runs"),
        ({"runs": math.nan}, "nan runs"),
        ({"t1": 10.0}, "Measure for longer"),
    ],
)
def test_energy_refuses_nonsense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PowerError, match=words):
        measure(steady(10, 20, 8000.0), None, **options)


@pytest.mark.parametrize("settled_s", [2.2, 5.0])
def test_energy_adds_what_the_filter_still_lacks(settled_s: float) -> None:
    # The sensor on its way from 6 W to 46 W; the load began settled_s before the window.
    times = np.arange(0.0, 20.01, 0.05)
    seen = 6000.0 + 40000.0 * -np.expm1(-np.maximum(times - 10.0 + settled_s, 0.0) / 0.43)
    load = Trace(times, ("VDD_IN",), seen[:, None])
    idle = Trace(np.arange(0.0, 4.0, 0.05), ("VDD_IN",), np.full((80, 1), 6000.0))
    options: dict[str, Any] = {"time_constant_s": 0.43, "rail": "VDD_IN", "runs": 10}
    assert measure(load, idle, settled_s=settled_s, **options).total_mj == pytest.approx(46000.0, rel=2e-5)
    lacking = 40000.0 * math.exp(-settled_s / 0.43) * 0.43 / 10
    assert 46000.0 - (measure(load, idle, **options).total_mj or 0.0) == pytest.approx(lacking, rel=0.02, abs=0.1)


@pytest.mark.parametrize(
    ("load_mw", "step_mw", "limited"),
    [
        (1160.0, 400.0, True),  # 2.9 steps
        (2000.0, 400.0, True),  # five steps, but half a step on either side of 2 W is more than 5 %
        (16000.0, 400.0, False),
        (112.0, 40.0, True),  # 2.8 steps
        (1000.0, 40.0, False),
    ],
)
def test_energy_flags_loads_that_the_steps_hide(load_mw: float, step_mw: float, limited: bool) -> None:
    idle, load = (np.round(power / step_mw) * step_mw for power in (6010.0, 6010.0 + load_mw))
    found = measure(steady(10, 20, load), steady(0, 8, idle), step_mw=step_mw, time_constant_s=0.43, rail="VDD_IN")
    assert (RESOLUTION_LIMITED in found.flags) is limited


def test_energy_steady_readings_are_uncertain_by_half_a_step() -> None:
    found = measure(steady(10, 20, 8000.0), steady(0, 8, 6000.0), step_mw=400.0, time_constant_s=0.43, runs=10)
    assert found.interval_mj is not None
    assert found.dynamic_interval_mj is not None
    assert found.stderr_mj == pytest.approx(400.0 / math.sqrt(12), rel=0.05)  # of a uniform distribution
    assert 165.0 < found.interval_mj < 200.0
    # Difference of two such: 95 % of a triangle of half width 400 lie within 400 (1 - sqrt 0.05).
    assert found.dynamic_interval_mj == pytest.approx(400 * (1 - math.sqrt(0.05)), rel=0.1)


def test_energy_with_a_hole_is_flagged_and_not_given() -> None:
    whole = steady(10, 20, 8000.0)
    there = (whole.times_s < 13) | (whole.times_s > 15)
    found = measure(Trace(whole.times_s[there], RAILS, whole.power_mw[there]), steady(0, 8, 6000.0), time_constant_s=0.43)
    assert found.flags == (LOW_COVERAGE,)
    assert not found.valid
    assert found.coverage == pytest.approx(1 - (2.1 - 0.43) / 10)  # from 12.95 to 15.05 s
    assert (found.total_mj, found.dynamic_mj, found.stderr_mj) == (None, None, None)
    assert (found.interval_mj, found.dynamic_interval_mj) == (None, None)


def test_energy_with_a_hole_in_idle_is_flagged() -> None:
    idle = steady(0, 8, 6000.0)
    there = (idle.times_s < 3) | (idle.times_s > 5)
    found = measure(steady(10, 20, 8000.0), Trace(idle.times_s[there], RAILS, idle.power_mw[there]))
    assert LOW_COVERAGE in found.flags
    assert (found.total_mj, found.dynamic_mj) == (None, None)


@pytest.mark.parametrize("readings", [0, 1])
def test_energy_with_hardly_a_reading_is_none(readings: int) -> None:
    few = steady(10, 20, 8000.0).window(15.0, 15.0 + 0.05 * readings - 0.01)
    found = measure(few, few)
    assert (found.total_mj, found.dynamic_mj, found.samples) == (None, None, readings)
    assert found.flags == (LOW_COVERAGE,)
    assert len(found.power_mw) == 3 * readings


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The simulated board of tools/bench_power.py, which shares no code with the estimator."""
    path = Path(__file__).parents[2] / "tools" / "bench_power.py"
    spec = importlib.util.spec_from_file_location("bench_power", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_power"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    del sys.modules["bench_power"]
    return module


@pytest.mark.parametrize(
    ("noise", "step_mw", "window_s"),
    [("none", 400.0, 10.0), ("none", 40.0, 15.0), ("usual", 40.0, 5.0), ("usual", 40.0, 15.0), ("usual", 400.0, 10.0)],
)
def test_energy_intervals_hold_on_a_simulated_board(bench: ModuleType, noise: str, step_mw: float, window_s: float) -> None:
    rng = np.random.default_rng(20)
    trials = list(bench.simulate(rng, 120, window_s=window_s, step_mw=step_mw, noise=bench.NOISES[noise]))
    row = bench.judge(noise, step_mw, window_s, trials, lambda: None)
    assert row.missed_faint == 0
    assert row.worst_total < 0.02
    assert row.worst_dynamic < 0.05
    # 120 trials: three binomial standard deviations below 95 % are 89 %. Over 99 % cannot be told apart; the width can.
    assert row.covers_total > 0.88
    assert row.covers_dynamic > 0.88
    assert 0.7 < row.needed_total < 2.0
    assert 0.7 < row.needed_dynamic < 2.0
    assert row.plain_total < 0.75  # the board is one on which independent readings would be a mistake
    assert row.low_coverage == 0
    assert row.flagged < 0.7  # of the loads over three steps; flagging all would keep every promise too
