"""The one stopwatch: whatever the runtime, latency means the same thing.

A backend executes once when asked; how often, after how much warm-up and what counts as the result is decided here. Where a
runtime has a clock of its own (device events) that clock counts, else the wall clock around one run with bound buffers.
Warm-up runs are never part of the statistics; no sample is dropped.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netadapt_trt.backend import DetailedExecutable
from netadapt_trt.errors import BackendError
from netadapt_trt.measure.stats import latency_stats, odd_even_medians, quiet_median
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from netadapt_trt.backend import Executable

__all__ = ["RoundTimings", "Timing", "time_executable", "time_interleaved"]

_WARMUP_RUNS = 2  # at least: the first run of a runtime allocates, the second is the first honest one
_CAPPED_RUNS = 3  # at least, even where one run takes longer than the cap: a median of fewer says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one executable took: statistics, every sample in milliseconds in order, and the warm-up runs left out.

    ``power_mw`` is the mean power by rail, empty where nobody knows it. ``host``: wall time of the same runs, where the
    runtime keeps it apart from the device's.
    """

    stats: LatencyStats
    samples_ms: tuple[float, ...]
    warmup_runs: int
    energy: EnergyStats | None = None
    power_mw: Mapping[str, float] = field(default_factory=dict)
    host: LatencyStats | None = None

    @property
    def drift(self) -> float:
        """Median of the later half over median of the earlier one; above 1.02 something throttled or took the processor."""
        half = len(self.samples_ms) // 2
        if half == 0:
            return 1.0
        earlier = latency_stats(self.samples_ms[:half]).median
        return latency_stats(self.samples_ms[-half:]).median / earlier if earlier > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimings:
    """What one executable took in interleaved rounds: the samples in milliseconds, round by round. Else as in a timing."""

    rounds_ms: tuple[tuple[float, ...], ...]
    energy: EnergyStats | None = None
    power_mw: Mapping[str, float] = field(default_factory=dict)
    host: LatencyStats | None = None

    @property
    def medians_ms(self) -> tuple[float, ...]:
        """The median of each round."""
        return tuple(latency_stats(samples).median for samples in self.rounds_ms)

    @property
    def stats(self) -> LatencyStats:
        """The quiet rounds' median (:func:`~netadapt_trt.measure.stats.quiet_median`); p10 and p90 of all runs."""
        pooled = latency_stats([sample for samples in self.rounds_ms for sample in samples])
        median = quiet_median(self.medians_ms)
        return LatencyStats(median=median, p10=min(pooled.p10, median), p90=max(pooled.p90, median), n=pooled.n)

    @property
    def odd_even_ratio(self) -> float:
        """Odd rounds over even ones: 1 where the measurement repeats itself. Raises ValueError below two rounds."""
        odd, even = odd_even_medians(self.medians_ms)
        return odd / even


def time_executable(
    exe: Executable,
    *,
    warmup_ms: float = 50.0,
    min_runs: int = 10,
    min_ms: float = 150.0,
    max_ms: float = 2000.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timing:
    """Time one executable: warm up, then run until both ``min_runs`` and ``min_ms`` are reached, or ``max_ms`` is.

    ``clock`` returns nanoseconds. Raises BackendError when a run fails or its time is not a finite number.
    """
    with _undisturbed():
        warmup = _run_for(exe, clock, min_runs=_WARMUP_RUNS, min_ms=warmup_ms, max_ms=max_ms)
        taken = _run_for(exe, clock, min_runs=min_runs, min_ms=min_ms, max_ms=max_ms)
    return Timing(
        stats=latency_stats(taken.times_ms),
        samples_ms=tuple(taken.times_ms),
        warmup_runs=len(warmup.times_ms),
        energy=_mean_energy(taken.energies),
        power_mw=_power(exe),
        host=latency_stats(taken.host_ms) if taken.host_ms else None,
    )


def time_interleaved(
    exes: Sequence[Executable],
    *,
    rounds: int = 7,
    warmup_ms: float = 40.0,
    round_ms: float = 100.0,
    min_runs: int = 5,
    clock: Callable[[], int] = time.perf_counter_ns,
    go_on: Callable[[Sequence[Sequence[float]]], bool] | None = None,
) -> list[RoundTimings]:
    """Time several executables turn by turn, so that a slow minute of the machine hits all of them alike.

    With ``go_on``, more rounds follow after ``rounds`` for as long as it says so. It is given the medians so far, of each
    executable round by round; also before, when its answer does not count yet.

    Round r starts with executable r (modulo their number). Every turn warms up anew: the caches are another's, and with
    ONNX Runtime the threads of the session before keep spinning for about 20 ms, which cost a 0.21 ms network 60 % in its
    first 50 runs (2-core Xeon, two threads each; 40 ms removed it).
    """
    if rounds < 1:
        raise ValueError("at least one round is needed")
    kept: list[list[_Runs]] = [[] for _ in exes]
    with _undisturbed():
        turn = 0
        more = True
        while turn < rounds or more:
            for step in range(len(exes)):
                index = (turn + step) % len(exes)
                _run_for(exes[index], clock, min_runs=1, min_ms=warmup_ms, max_ms=warmup_ms)
                kept[index].append(_run_for(exes[index], clock, min_runs=min_runs, min_ms=round_ms, max_ms=10 * round_ms))
            turn += 1
            more = go_on is not None and go_on([[latency_stats(runs.times_ms).median for runs in turns] for turns in kept])
    return [_rounds(exe, turns) for exe, turns in zip(exes, kept, strict=True)]


def _rounds(exe: Executable, turns: Sequence[_Runs]) -> RoundTimings:
    host_ms = [host for runs in turns for host in runs.host_ms]
    return RoundTimings(
        rounds_ms=tuple(tuple(runs.times_ms) for runs in turns),
        energy=_mean_energy([energy for runs in turns for energy in runs.energies]),
        power_mw=_power(exe),
        host=latency_stats(host_ms) if host_ms else None,
    )


@dataclass(slots=True)
class _Runs:
    times_ms: list[float] = field(default_factory=list)
    energies: list[EnergyStats] = field(default_factory=list)
    host_ms: list[float] = field(default_factory=list)


def _run_for(exe: Executable, clock: Callable[[], int], *, min_runs: int, min_ms: float, max_ms: float) -> _Runs:
    runs = _Runs()
    total = 0.0
    floor = min(min_runs, _CAPPED_RUNS)
    detailed = exe if isinstance(exe, DetailedExecutable) else None
    while len(runs.times_ms) < min_runs or total < min_ms:
        if total >= max_ms and len(runs.times_ms) >= floor:
            break
        took = _run_once(exe, clock)
        runs.times_ms.append(took)
        host = None if detailed is None else detailed.host_elapsed_ms()
        if host is not None:
            runs.host_ms.append(host)
        energy = exe.energy_mj()
        if energy is not None:
            runs.energies.append(energy)
        # A device clock that answers 0 must not keep us here for ever.
        total += max(took, 1e-4)
    return runs


def _run_once(exe: Executable, clock: Callable[[], int]) -> float:
    begin = clock()
    exe.run()
    wall_ms = (clock() - begin) * 1e-6
    device_ms = exe.elapsed_ms()
    took = wall_ms if device_ms is None else device_ms
    if not math.isfinite(took) or took < 0:
        raise BackendError(f"the runtime reports a run of {took} ms; its clock cannot be trusted, so nothing was recorded")
    return took


def _mean_energy(energies: Sequence[EnergyStats]) -> EnergyStats | None:
    """Mean, not median: energy is power times *mean* time. The standard error is that of the runs timed here."""
    if not energies:
        return None
    totals = [energy.total for energy in energies]
    mean = sum(totals) / len(totals)
    dynamics = [energy.dynamic for energy in energies if energy.dynamic is not None]
    stderr = None
    if len(totals) > 1:
        variance = sum((total - mean) ** 2 for total in totals) / (len(totals) - 1)
        stderr = math.sqrt(variance / len(totals))
    dynamic = sum(dynamics) / len(dynamics) if len(dynamics) == len(totals) else None
    return EnergyStats(total=mean, dynamic=dynamic, stderr=stderr)


def _power(exe: Executable) -> dict[str, float]:
    """Mean power by rail of the last run, from a runtime that knows it without a power source."""
    ask = getattr(exe, "power_mw", None)
    return dict(ask()) if callable(ask) else {}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector out of the timed runs; collect before, so that nothing is owed."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
