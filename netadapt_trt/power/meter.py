"""Energy of something that can be run again and again: the schedule of idle, settling and measuring.

Invariant: a window begins and ends between two runs, so it holds whole runs and nothing else.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from netadapt_trt.power.energy import Measured, energy_per_run, is_covered
from netadapt_trt.power.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from netadapt_trt.errors import PowerError
    from netadapt_trt.power.source import PowerSource
    from netadapt_trt.power.trace import Trace

__all__ = ["PowerMeter", "Recorder"]

NAP_S = 0.5  # how long a wait goes on after the source is gone
IDLES_KEPT = 8


class Recorder(Protocol):
    """What the meter needs of a :class:`~netadapt_trt.power.sampler.Sampler`; tests put a simulated board here."""

    @property
    def period_s(self) -> float:
        """Seconds between two readings."""

    @property
    def failure(self) -> PowerError | None:
        """Why no more samples come."""

    def trace(self, t0: float = ..., t1: float = ...) -> Trace:
        """What was sampled between two times of the meter's clock."""

    def forget(self, before_s: float) -> None:
        """Drop older samples."""

    def __enter__(self) -> Recorder: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Load:
    """One measured window and how it was measured."""

    result: Measured
    trace: Trace
    t0: float
    t1: float
    runs: int
    settled_s: float
    rail: str | None


class PowerMeter:
    """Measures energy per run with ``source``. A context manager; while it is open a thread samples.

    A measurement runs steadily for ``settle_s`` (five time constants of the boards' sensors; longer for slower sources)
    and then for at least ``window_s``. Before it the device rests for ``pause_s``. Idle power is measured over a window
    of its own, before the first measurement and whenever the last one is ``idle_every_s`` old: before or after a
    measurement, so keep the process as it is then (memory allocated, clocks locked). 0 puts idle windows around every
    measurement: twice as long, and the most exact.
    """

    def __init__(
        self,
        source: PowerSource,
        *,
        window_s: float = 10.0,
        settle_s: float = 2.2,
        pause_s: float = 2.0,
        idle_every_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        recorder: Recorder | None = None,
    ) -> None:
        if not (window_s > 0 and settle_s >= 0 and pause_s >= 0 and idle_every_s >= 0):
            raise ValueError(f"times of a power measurement: window {window_s}, settling {settle_s}, pause {pause_s} s")
        self.source = source
        self.window_s, self.settle_s, self.pause_s, self.idle_every_s = window_s, settle_s, pause_s, idle_every_s
        self._clock, self._sleep = clock, sleep
        self._recorder: Recorder = recorder or Sampler(source, clock=clock)
        self._idles: list[Trace] = []
        self._idle_ended: float | None = None
        self._busy_until: float | None = None
        self._loads: list[_Load] = []

    @property
    def settling_s(self) -> float:
        """How long a load runs before its window: ``settle_s``, or five time constants of a slower source."""
        return max(self.settle_s, 5 * self.source.time_constant_s)

    def seconds_for(self, windows: int) -> float:
        """About how long so many measurements take, one after the other, with the idle windows among and around them."""
        each = self.pause_s + self.settling_s + self.window_s
        between = max(1, math.ceil(self.idle_every_s / each))
        idles = 2 + (windows - 1) // between
        return windows * each + idles * (2 * self.settling_s + self.window_s) if windows > 0 else 0.0

    def was_busy(self) -> None:
        """Tell that something else ran until now: the next idle window waits until the sensor has forgotten it."""
        self._busy_until = self._clock()

    def idle(self) -> Trace:
        """Measure idle power now, once the sensor has forgotten the last load. It serves the measurements around it.

        Once more where readings are missing; such a window counts only as long as there is no better one. Raises
        PowerError when the source is gone.
        """
        if self._busy_until is not None:
            self._rest_until(self._busy_until + 2 * self.settling_s)
        begun = self._clock()
        trace = self._rest_watched()
        if not self._is_covered(trace):
            trace = self._rest_watched()
        before, self._idle_ended = self._idle_ended, self._clock()
        known = [*self._idles, trace]
        self._idles = ([idle for idle in known if self._is_covered(idle)] or known)[-IDLES_KEPT:]
        # Loads before the idle window before this one lie between two idle windows already.
        self._loads = [load for load in self._loads if before is None or load.t1 > before]
        self._recorder.forget(begun)
        return trace

    def measure(self, run: Callable[[], object], *, rail: str | None = None) -> Measured:
        """Energy of one call of ``run``, which must return when its work is done. ``rail``: of that rail, not of the total.

        Raises PowerError when the source is gone before the window is covered. What ``run`` raises is passed on.
        """
        if self._idle_is_due():
            self.idle()
        else:
            self._rest_until(self._clock() + self.pause_s)
        begun = self._clock()
        failure = None
        try:
            while self._clock() - begun < self.settling_s:
                run()
            t0 = t1 = self._clock()
            runs = 0
            while t1 - t0 < self.window_s and failure is None:
                run()
                runs += 1
                t1 = self._clock()
                failure = self._recorder.failure
        finally:
            self._busy_until = self._clock()
        if failure is not None and t1 - t0 < self.window_s:
            raise failure
        trace = self._recorder.trace(begun, t1)
        if self._recorder.failure is None and self._idle_is_due():
            self.idle()
        load = _Load(self._energy(trace, t0, t1, runs, t0 - begun, rail), trace, t0, t1, runs, t0 - begun, rail)
        self._loads.append(load)
        return load.result

    def settled(self, result: Measured) -> bool:
        """Whether idle power has been measured since, so that :meth:`revised` has its last word on it."""
        return not any(load.result is result and load.t1 > (self._idle_ended or 0.0) for load in self._loads)

    def revised(self, result: Measured) -> Measured:
        """The same measurement with idle power interpolated to idle windows that came after it.

        Until the second idle window after a measurement; later the result comes back as it is.
        """
        for load in self._loads:
            if load.result is result:
                return self._energy(load.trace, load.t0, load.t1, load.runs, load.settled_s, load.rail)
        return result

    def __enter__(self) -> PowerMeter:
        self._recorder.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._recorder.__exit__(kind, error, where)

    def _energy(self, trace: Trace, t0: float, t1: float, runs: int, settled_s: float, rail: str | None) -> Measured:
        return energy_per_run(
            trace,
            self._idles,
            t0=t0,
            t1=t1,
            runs=runs,
            step_mw=self.source.step_mw,
            time_constant_s=self.source.time_constant_s,
            settled_s=settled_s,
            period_s=self._recorder.period_s,
            rail=rail,
        )

    def _rest_watched(self) -> Trace:
        begun = self._clock()
        self._rest_until(begun + self.window_s)
        return self._recorder.trace(begun, self._clock())

    def _is_covered(self, idle: Trace) -> bool:
        return is_covered(idle, time_constant_s=self.source.time_constant_s, period_s=self._recorder.period_s)

    def _idle_is_due(self) -> bool:
        return self._idle_ended is None or self._clock() - self._idle_ended >= self.idle_every_s

    def _rest_until(self, end: float) -> None:
        """Do nothing until then, in short naps. Raises the source's error as soon as there is one."""
        while True:
            self._raise_failure()
            left = end - self._clock()
            if left <= 0:
                return
            self._sleep(min(left, NAP_S))

    def _raise_failure(self) -> None:
        failure = self._recorder.failure
        if failure is not None:
            raise failure
