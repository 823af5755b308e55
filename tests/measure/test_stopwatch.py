from __future__ import annotations

import gc
import math
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import BackendError
from netadapt_trt.measure.stopwatch import RoundTimings, Timing, time_executable, time_interleaved
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType


@dataclass
class Clock:
    """Time in nanoseconds that passes only when somebody runs."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Stepper:
    """An executable whose runs take the given milliseconds; the last one repeats."""

    clock: Clock
    takes_ms: list[float]
    name: str = ""
    log: list[str] = field(default_factory=list)
    device_ms: float | None = None
    energies: Iterator[EnergyStats] | None = None
    gc_seen: set[bool] = field(default_factory=set)
    fails_at: int | None = None
    runs: int = 0

    def run(self) -> None:
        if self.runs == self.fails_at:
            raise BackendError("device lost")
        self.clock.now_ns += round(1e6 * self.takes_ms[min(self.runs, len(self.takes_ms) - 1)])
        self.runs += 1
        self.log.append(self.name)
        self.gc_seen.add(gc.isenabled())

    def elapsed_ms(self) -> float | None:
        return self.device_ms

    def energy_mj(self) -> EnergyStats | None:
        return next(self.energies) if self.energies else None

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}

    def __enter__(self) -> Stepper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_time_executable_keeps_warmup_out_of_the_statistics(clock: Clock) -> None:
    # Two slow first runs make 50 ms of warm-up; then 1, 2, 3, 4 and 5 ms.
    exe = Stepper(clock, [30, 20, 1, 2, 3, 4, 5])
    timing = time_executable(exe, warmup_ms=50, min_runs=5, min_ms=0, clock=clock)
    assert timing.warmup_runs == 2
    assert timing.samples_ms == pytest.approx((1, 2, 3, 4, 5))
    # Ranks 0.4 and 3.6 of five samples.
    stats = timing.stats
    assert (stats.median, stats.p10, stats.p90) == pytest.approx((3, 1.4, 4.6))
    assert stats.n == 5
    assert timing.energy is None


def test_time_executable_runs_until_both_floors_are_reached(clock: Clock) -> None:
    by_time = time_executable(Stepper(clock, [2]), warmup_ms=10, min_runs=3, min_ms=50, clock=clock)
    assert (by_time.warmup_runs, by_time.stats.n) == (5, 25)
    by_count = time_executable(Stepper(clock, [20]), warmup_ms=10, min_runs=8, min_ms=50, clock=clock)
    assert (by_count.warmup_runs, by_count.stats.n) == (2, 8)


def test_time_executable_stops_at_the_cap_but_keeps_three_runs(clock: Clock) -> None:
    slow = time_executable(Stepper(clock, [300]), min_runs=10, max_ms=1000, clock=clock)
    assert slow.stats.n == 4
    slower = time_executable(Stepper(clock, [5000]), min_runs=10, max_ms=1000, clock=clock)
    assert slower.stats.n == 3


def test_time_executable_prefers_the_clock_of_the_device(clock: Clock) -> None:
    exe = Stepper(clock, [7], device_ms=0.5)
    timing = time_executable(exe, warmup_ms=1, min_runs=4, min_ms=3, clock=clock)
    assert timing.stats == LatencyStats(median=0.5, p10=0.5, p90=0.5, n=6)


class Apart(Stepper):
    """A runtime that keeps host time apart: a tenth of a millisecond beyond the device's."""

    def details(self) -> dict[str, object]:
        return {}

    def host_elapsed_ms(self) -> float:
        return 0.1 + self.takes_ms[min(self.runs, len(self.takes_ms)) - 1]


def test_host_time_is_kept_apart_for_the_timed_runs(clock: Clock) -> None:
    timing = time_executable(Apart(clock, [9.0, 9.0, 1.0, 2.0, 3.0]), warmup_ms=0, min_runs=3, min_ms=0, clock=clock)
    assert timing.host is not None
    assert (timing.host.median, timing.host.n) == (2.1, 3)
    assert [timing.host.p10, timing.host.p90] == pytest.approx([1.3, 2.9])
    assert time_executable(Stepper(clock, [1.0]), warmup_ms=0, min_runs=3, min_ms=0, clock=clock).host is None
    rounds = time_interleaved([Apart(clock, [1.0]), Stepper(clock, [1.0])], rounds=2, round_ms=3, min_runs=3, clock=clock)
    assert rounds[0].host == LatencyStats(median=1.1, p10=1.1, p90=1.1, n=6)
    assert rounds[1].host is None


def test_time_executable_averages_energy_over_timed_runs(clock: Clock) -> None:
    totals = chain([100.0, 100.0], [1.0, 3.0], repeat(2.0))
    exe = Stepper(clock, [1], energies=(EnergyStats(total=total, dynamic=total / 2) for total in totals))
    timing = time_executable(exe, warmup_ms=0, min_runs=3, min_ms=0, clock=clock)
    assert timing.energy is not None
    assert timing.energy.total == pytest.approx(2.0)
    assert timing.energy.dynamic == pytest.approx(1.0)
    # Sample variance ((1-2)^2 + (3-2)^2 + 0) / 2 = 1; standard error of three is sqrt(1/3).
    assert timing.energy.stderr == pytest.approx(math.sqrt(1 / 3))


def test_time_executable_switches_garbage_collection_off_and_on_again(clock: Clock) -> None:
    exe = Stepper(clock, [1])
    time_executable(exe, warmup_ms=2, min_runs=3, min_ms=0, clock=clock)
    assert exe.gc_seen == {False}
    assert gc.isenabled()
    with pytest.raises(BackendError, match="device lost"):
        time_executable(Stepper(clock, [1], fails_at=3), warmup_ms=2, min_runs=3, min_ms=0, clock=clock)
    assert gc.isenabled()


@pytest.mark.parametrize("reading", [math.nan, math.inf, -1.0])
def test_time_executable_refuses_a_device_clock_that_lies(clock: Clock, reading: float) -> None:
    with pytest.raises(BackendError, match="clock cannot be trusted"):
        time_executable(Stepper(clock, [1], device_ms=reading), clock=clock)


def test_time_executable_ends_when_the_device_clock_stands_still(clock: Clock) -> None:
    timing = time_executable(Stepper(clock, [1], device_ms=0.0), warmup_ms=0, min_runs=3, min_ms=0.01, clock=clock)
    assert timing.stats.median == 0.0


def test_timing_drift_compares_later_with_earlier_half() -> None:
    stats = LatencyStats(median=1, p10=1, p90=1, n=5)
    assert Timing(stats=stats, samples_ms=(1.0, 1.0, 9.0, 1.2, 1.2), warmup_runs=0).drift == pytest.approx(1.2)
    assert Timing(stats=stats, samples_ms=(1.0,), warmup_runs=0).drift == 1.0


def test_time_interleaved_rotates_who_begins(clock: Clock) -> None:
    log: list[str] = []
    exes = [Stepper(clock, [10], name=name, log=log) for name in "abc"]
    timings = time_interleaved(exes, rounds=4, warmup_ms=0, round_ms=0, min_runs=1, clock=clock)
    turns = "".join(log)[::2]  # each turn is one warm-up run and one timed run
    assert turns == "abc" + "bca" + "cab" + "abc"
    assert [len(timing.rounds_ms) for timing in timings] == [4, 4, 4]


def test_time_interleaved_keeps_rounds_apart_and_leaves_warmup_out(clock: Clock) -> None:
    # Each round: one warm-up run (50 ms), then two timed ones.
    exe = Stepper(clock, [50, 1, 3, 50, 2, 4])
    (timing,) = time_interleaved([exe], rounds=2, warmup_ms=5, round_ms=0, min_runs=2, clock=clock)
    assert np.array(timing.rounds_ms) == pytest.approx(np.array([[1, 3], [2, 4]]))
    assert timing.medians_ms == pytest.approx((2, 3))
    assert timing.odd_even_ratio == pytest.approx(2 / 3)


def test_time_interleaved_of_nothing_is_nothing(clock: Clock) -> None:
    assert time_interleaved([], clock=clock) == []
    with pytest.raises(ValueError, match="one round"):
        time_interleaved([], rounds=0, clock=clock)


def test_round_timings_median_is_of_the_quietest_third_of_rounds() -> None:
    timing = RoundTimings(rounds_ms=((1.0, 1.0), (9.0, 9.0), (1.2, 1.2)))
    assert timing.stats.median == pytest.approx(1.1)  # two rounds at least
    assert timing.stats.n == 6
    assert timing.stats.p10 <= timing.stats.median <= timing.stats.p90
    assert timing.odd_even_ratio == pytest.approx(1.1 / 9)
    # Two speeds of a shared machine, 1 and 1.3, over nine rounds: the median would be 1.3.
    shared = RoundTimings(rounds_ms=tuple((speed,) for speed in (1.3, 1.0, 1.3, 1.3, 1.02, 1.3, 1.3, 1.04, 1.3)))
    assert shared.stats.median == pytest.approx(1.02)
    assert RoundTimings(rounds_ms=((3.0, 1.0, 2.0),)).stats.median == 2.0


def test_time_interleaved_goes_on_for_as_long_as_it_is_told(clock: Clock) -> None:
    seen: list[list[list[float]]] = []

    def go_on(medians: Sequence[Sequence[float]]) -> bool:
        seen.append([list(rounds) for rounds in medians])
        return len(medians[0]) < 4

    # Two executables of one warm-up run and three timed ones a turn; the second slows down from 2 to 3 ms in its third turn.
    slower = Stepper(clock, [2.0] * 8 + [3.0])
    found = time_interleaved(
        [Stepper(clock, [1.0]), slower], rounds=2, warmup_ms=0, round_ms=0, min_runs=3, clock=clock, go_on=go_on
    )
    assert [len(timings.rounds_ms) for timings in found] == [4, 4]
    assert found[1].medians_ms == pytest.approx((2.0, 2.0, 3.0, 3.0))
    assert [len(medians[0]) for medians in seen] == [1, 2, 3, 4]
    assert seen[2] == [pytest.approx([1.0] * 3), pytest.approx([2.0, 2.0, 3.0])]
    # An answer before the rounds that are due counts for nothing, and without a question no more follow.
    never = time_interleaved([Stepper(clock, [1.0])], rounds=3, warmup_ms=0, round_ms=0, clock=clock, go_on=lambda _: False)
    plain = time_interleaved([Stepper(clock, [1.0])], rounds=3, warmup_ms=0, round_ms=0, clock=clock)
    assert len(never[0].rounds_ms) == len(plain[0].rounds_ms) == 3
