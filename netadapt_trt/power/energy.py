"""Energy per run out of sampled power: total and without the idle share, with the interval that the readings deserve.

A result that the sensor cannot back is flagged, never shown as a number like the others: :data:`RESOLUTION_LIMITED`,
:data:`LOW_COVERAGE`. How the interval comes about stands in :mod:`netadapt_trt.power.level`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import PowerError
from netadapt_trt.power.level import Level, Sensor, Window, steady_level, time_mean
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LOW_COVERAGE", "RESOLUTION_LIMITED", "Measured", "energy_per_run"]

RESOLUTION_LIMITED = "resolution_limited"
LOW_COVERAGE = "low_coverage"

STEPS_NEEDED = 3.0  # the load over idle, in sensor steps
TOTAL_WITHIN, DYNAMIC_WITHIN = 0.02, 0.05  # how close a result without a flag is
INTERVAL = 0.95
GUARD = 0.998  # the share of all possible values that has to be that close


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Power and energy of a steady load. Energies are of one run, in millijoules; powers in milliwatts.

    ``total_mj`` contains the idle share, ``dynamic_mj`` does not (None: idle was not measured). Both are None where the board has
    no known total or readings are missing. ``stderr_mj`` is the standard error of the total, ``interval_mj`` and
    ``dynamic_interval_mj`` are half widths of 95 % intervals; all of them contain what the sensor's step hides. ``power_mw`` is
    the mean by rail over the window, ``idle_mw`` the idle total at its middle, ``coverage`` the share of the window (of the idle
    ones, where less) that readings vouch for.
    """

    total_mj: float | None
    dynamic_mj: float | None
    stderr_mj: float | None
    interval_mj: float | None
    dynamic_interval_mj: float | None
    power_mw: dict[str, float]
    idle_mw: float | None
    runs: float
    window_s: float
    samples: int
    coverage: float
    flags: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether readings cover the window. If not, measure again."""
        return LOW_COVERAGE not in self.flags


def energy_per_run(
    load: Trace,
    idle: Trace | Sequence[Trace] | None,
    *,
    t0: float,
    t1: float,
    runs: float,
    step_mw: float | None,
    time_constant_s: float,
    settled_s: float | None = None,
    period_s: float | None = None,
    rail: str | None = None,
) -> Measured:
    """Energy of one of the ``runs`` runs that filled the window from ``t0`` to ``t1`` [s].

    ``idle`` holds readings without the load, each trace as a whole. Of several the two around the window are interpolated, which
    follows a drift with temperature. ``step_mw`` is the sensor's step (None or 0: none worth counting). ``settled_s`` is how long
    the load had run at ``t0``, at least five time constants; what the filter still lacks then is added. ``period_s`` is the
    sampling period (default: the middle distance of the readings). ``rail`` measures that rail instead of the total.

    Flags: ``resolution_limited``, the load may be under three steps, or more than two in a thousand of the values that the
    readings leave possible are further away than 2 % (total) or 5 % (dynamic). ``low_coverage``, readings are missing for over
    a tenth of a window, or at a stretch for over 2.5 periods and two time constants: not valid.
    Raises PowerError for no runs, an empty window or a rail that was not sampled.
    """
    if not (math.isfinite(runs) and runs > 0 and t1 > t0):
        raise PowerError(
            f"{runs:g} runs between {t0:g} s and {t1:g} s have no energy per run: the window must hold a run or a part of one. "
            "Measure for longer."
        )
    window = Window(t0, t1)
    sensor = Sensor(step_mw=step_mw or 0.0, time_constant_s=time_constant_s, period_s=period_s)
    idles = [] if idle is None else [idle] if isinstance(idle, Trace) else list(idle)
    still = [steady_level(trace.times_s, _watched(trace, rail), _span(trace), sensor) for trace in idles]
    calm = _idle_values([level for level in still if level], window)
    readings = _watched(load, rail)
    if calm is not None and settled_s is not None and time_constant_s > 0:
        readings = _without_tail(load.times_s, readings, window, float(calm.mean()), settled_s, time_constant_s)
    found = steady_level(load.times_s, readings, window, sensor)
    powers = {name: time_mean(load.times_s, load.power_mw[:, column], window) for column, name in enumerate(load.rails)}
    return _measured(
        [found, *still], calm, {name: power for name, power in powers.items() if power is not None},
        runs=runs, window=window, step=sensor.step_mw,
    )  # fmt: skip


def _measured(
    levels: list[Level | None], calm: Floats | None, powers: dict[str, float], *, runs: float, window: Window, step: float
) -> Measured:
    """Energies out of the level under load (the first) and the possible idle powers, and what is to be said about them."""
    found = levels[0]
    total = dynamic = _NOTHING
    if found is not None:
        total = _summary(found.values_mw)
        if calm is not None:
            dynamic = _summary(np.subtract.outer(found.values_mw, calm).ravel())
    flags = []
    if found is not None and (
        total.beyond(TOTAL_WITHIN) or dynamic.beyond(DYNAMIC_WITHIN) or dynamic.below(STEPS_NEEDED * step)
    ):
        flags.append(RESOLUTION_LIMITED)
    if any(level is None or not level.complete for level in levels):
        flags.append(LOW_COVERAGE)
    run_s = window.length_s / runs  # mW times s is mJ
    return Measured(
        total_mj=total.scaled(total.mean, run_s),
        dynamic_mj=dynamic.scaled(dynamic.mean, run_s),
        stderr_mj=total.scaled(total.spread, run_s),
        interval_mj=total.scaled(total.half_width, run_s),
        dynamic_interval_mj=dynamic.scaled(dynamic.half_width, run_s),
        power_mw=powers,
        idle_mw=None if calm is None else float(calm.mean()),
        runs=runs,
        window_s=window.length_s,
        samples=0 if found is None else found.samples,
        coverage=min(0.0 if level is None else level.covered for level in levels),
        flags=tuple(flags),
    )


@dataclass(frozen=True, slots=True)
class _Summary:
    """A power in figures [mW]: best value, spread, half width of the 95 % interval, and how far off it may be at the outside."""

    mean: float
    spread: float
    half_width: float
    outside: float

    def scaled(self, power_mw: float, run_s: float) -> float | None:
        return None if math.isnan(self.mean) else power_mw * run_s

    def beyond(self, share: float) -> bool:
        """Whether it may be off by more than that share. Nothing known is not off."""
        return self.outside > share * self.mean if not math.isnan(self.mean) else False

    def below(self, power_mw: float) -> bool:
        return self.mean - self.outside < power_mw if not math.isnan(self.mean) else False


_NOTHING = _Summary(math.nan, math.nan, math.nan, math.nan)


def _summary(values: Floats) -> _Summary:
    mean = float(values.mean())
    half_width, outside = np.quantile(np.abs(values - mean), (INTERVAL, GUARD))
    return _Summary(mean, float(values.std()), float(half_width), float(outside))


def _idle_values(levels: list[Level], window: Window) -> Floats | None:
    """Equally likely idle powers at the middle of the window, between the nearest levels before and after it.

    The two may be wrong in the same direction (a steady idle power sits at the same place of the same step both times), so their
    values are added rank by rank: as if fully dependent.
    """
    if not levels:
        return None
    at = window.middle_s
    before = max(
        (level for level in levels if level.window.middle_s <= at), key=lambda level: level.window.middle_s, default=None
    )
    after = min(
        (level for level in levels if level.window.middle_s > at), key=lambda level: level.window.middle_s, default=None
    )
    if before is None or after is None:
        only = before or after
        return None if only is None else only.values_mw
    share = (at - before.window.middle_s) / (after.window.middle_s - before.window.middle_s)
    return (1 - share) * before.values_mw + share * after.values_mw


def _without_tail(
    times: Floats, readings: Floats, window: Window, idle_mw: float, settled_s: float, time_constant_s: float
) -> Floats:
    """Readings with what a first-order filter still lacks of the way from idle to the load added to each."""
    reached = time_mean(times, readings, window)
    if reached is None:
        return readings
    return readings + (reached - idle_mw) * np.exp(-np.maximum(times - window.start_s + settled_s, 0.0) / time_constant_s)


def _watched(trace: Trace, rail: str | None) -> Floats:
    """Readings [n] of the rail, or of the total; NaN where there is none."""
    if rail is not None:
        if rail not in trace.rails:
            raise PowerError(
                f"rail {rail} was not sampled; this source has {', '.join(trace.rails) or 'none'}. Name one of these."
            )
        return trace.power_mw[:, trace.rails.index(rail)]
    total = trace.total_mw()
    return np.full(trace.times_s.size, np.nan) if total is None else total


def _span(trace: Trace) -> Window:
    times = trace.times_s
    return Window(float(times[0]), float(times[-1])) if times.size else Window(0.0, 0.0)
