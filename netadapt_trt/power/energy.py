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
from netadapt_trt.power.level import Coverage, Sensor, Window, coverage, steady_values, trapezoid_weights
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LOW_COVERAGE", "RESOLUTION_LIMITED", "Measured", "energy_per_run", "is_covered"]

RESOLUTION_LIMITED = "resolution_limited"
LOW_COVERAGE = "low_coverage"

STEPS_NEEDED = 3.0  # the load over idle, in sensor steps
TOTAL_WITHIN, DYNAMIC_WITHIN = 0.02, 0.05  # how close a result without a flag is
INTERVAL = 0.95
GUARD = 0.9995  # the share of all possible values that has to be that close


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Power and energy of a steady load. Energies are of one run, in millijoules; powers in milliwatts.

    ``total_mj`` contains the idle share, ``dynamic_mj`` does not (None: idle was not measured). Both are None where the
    board has no known total or readings are missing. ``stderr_mj`` is the standard error of the total, ``interval_mj``
    and ``dynamic_interval_mj`` are half widths of 95 % intervals; all of them contain what the sensor's step hides.
    ``total_mw`` is the power that ``total_mj`` comes from, ``power_mw`` the mean by rail over the window, ``idle_mw`` the
    idle total at its middle, ``coverage`` the share of the window (of the idle ones, where less) that readings vouch for.
    """

    total_mj: float | None
    dynamic_mj: float | None
    stderr_mj: float | None
    interval_mj: float | None
    dynamic_interval_mj: float | None
    total_mw: float | None
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

    ``idle`` holds readings without the load, each trace as a whole. Of several the two around the window are
    interpolated, which follows a drift with temperature. ``step_mw`` is the sensor's step (None or 0: none worth
    counting). ``settled_s`` is how long the load had run at ``t0``, at least five time constants; what the filter still
    lacks then is added. ``period_s`` is the sampling period (default: the middle distance of the readings). ``rail``
    measures that rail instead of the total.

    Flags: ``resolution_limited``, the load may be under three steps, or more than one in two thousand of the values
    that the readings leave possible are further away than 2 % (total) or 5 % (dynamic): the step hides too much, or noise
    does and a longer window would help. ``low_coverage``, readings are
    missing for over a tenth of a window, or at a stretch for over 2.5 periods and two time constants: not valid, and no
    energy is given. Raises PowerError for no runs, an empty window or a rail that was not sampled.
    """
    if not (math.isfinite(runs) and runs > 0 and t1 > t0):
        raise PowerError(
            f"{runs:g} runs between {t0:g} s and {t1:g} s have no energy per run: a window must hold a run. "
            "Measure for longer."
        )
    window = Window(t0, t1)
    sensor = Sensor(step_mw=step_mw or 0.0, time_constant_s=time_constant_s, period_s=period_s)
    idles = [] if idle is None else [idle] if isinstance(idle, Trace) else list(idle)
    calm = _idle_values(idles, rail, window, sensor)
    readings = _watched(load, rail)
    total = dynamic = None
    if readings is not None and len(load):
        if calm is not None and settled_s is not None and time_constant_s > 0:
            readings = _without_tail(load.times_s, readings, window, float(calm.mean()), settled_s, time_constant_s)
        values = steady_values(load.times_s, readings, window, sensor)
        total = None if values is None else _summary(values)
        dynamic = None if values is None or calm is None else _summary(np.subtract.outer(values, calm).ravel())
    covered = [coverage(load.times_s, window, sensor), *(coverage(trace.times_s, _span(trace), sensor) for trace in idles)]
    flags = _flags(total, dynamic, covered, sensor.step_mw)
    if LOW_COVERAGE in flags:
        total = dynamic = None
    run_s = window.length_s / runs  # mW times s is mJ
    return Measured(
        total_mj=None if total is None else total.mean * run_s,
        dynamic_mj=None if dynamic is None else dynamic.mean * run_s,
        stderr_mj=None if total is None else total.spread * run_s,
        interval_mj=None if total is None else total.half_width * run_s,
        dynamic_interval_mj=None if dynamic is None else dynamic.half_width * run_s,
        total_mw=None if total is None else total.mean,
        power_mw=_means(load, window),
        idle_mw=None if calm is None else float(calm.mean()),
        runs=runs,
        window_s=window.length_s,
        samples=covered[0].samples,
        coverage=min(part.share for part in covered),
        flags=flags,
    )


def is_covered(trace: Trace, *, time_constant_s: float, period_s: float | None = None) -> bool:
    """Whether readings of ``trace`` cover the time from its first to its last, as :func:`energy_per_run` wants idle ones."""
    sensor = Sensor(step_mw=0.0, time_constant_s=time_constant_s, period_s=period_s)
    return coverage(trace.times_s, _span(trace), sensor).enough


def _flags(total: _Summary | None, dynamic: _Summary | None, covered: list[Coverage], step_mw: float) -> tuple[str, ...]:
    flags = []
    unsure = total is not None and total.outside > TOTAL_WITHIN * total.mean
    faint = dynamic is not None and (
        dynamic.outside > DYNAMIC_WITHIN * dynamic.mean or dynamic.mean - dynamic.outside < STEPS_NEEDED * step_mw
    )
    if unsure or faint:
        flags.append(RESOLUTION_LIMITED)
    if not all(part.enough for part in covered):
        flags.append(LOW_COVERAGE)
    return tuple(flags)


@dataclass(frozen=True, slots=True)
class _Summary:
    """A power in figures [mW]: best value, spread, half width of the 95 % interval, and how far off it may be at the
    outside."""

    mean: float
    spread: float
    half_width: float
    outside: float


def _summary(values: Floats) -> _Summary:
    mean = float(values.mean())
    half_width, outside = np.quantile(np.abs(values - mean), (INTERVAL, GUARD))
    return _Summary(mean, float(values.std()), float(half_width), float(outside))


def _idle_values(idles: Sequence[Trace], rail: str | None, window: Window, sensor: Sensor) -> Floats | None:
    """Equally likely idle powers at the middle of the window, between the nearest traces before and after it.

    The two may be wrong in the same direction (a steady idle power sits at the same place of the same step both times),
    so their values are added rank by rank: as if fully dependent. With traces on one side only, idle power may have
    drifted since as fast as between the last two, either way.
    """
    levels = []
    for trace in sorted((trace for trace in idles if len(trace) > 1), key=lambda trace: float(trace.times_s[0])):
        readings = _watched(trace, rail)
        values = None if readings is None else steady_values(trace.times_s, readings, _span(trace), sensor)
        if values is not None:
            levels.append((_span(trace).middle_s, values))
    if not levels:
        return None
    later = sum(at <= window.middle_s for at, _ in levels)  # index of the first one after the middle of the window
    if 0 < later < len(levels):
        (before, low), (after, high) = levels[later - 1 : later + 1]
        share = (window.middle_s - before) / (after - before)
        return (1 - share) * low + share * high
    nearest, other = (levels[-1], levels[-2:][0]) if later else (levels[0], levels[:2][-1])
    if nearest is other:
        return nearest[1]
    drift = float(nearest[1].mean() - other[1].mean()) / (nearest[0] - other[0]) * (window.middle_s - nearest[0])
    return nearest[1] + abs(drift) * np.linspace(-1.0, 1.0, nearest[1].size)


def _without_tail(
    times: Floats, readings: Floats, window: Window, idle_mw: float, settled_s: float, time_constant_s: float
) -> Floats:
    """Readings with what a first-order filter still lacks of the way from idle to the load added to each."""
    reached = float(trapezoid_weights(times, window) @ readings)
    return readings + (reached - idle_mw) * np.exp(-np.maximum(times - window.start_s + settled_s, 0.0) / time_constant_s)


def _means(load: Trace, window: Window) -> dict[str, float]:
    """Mean by rail over the window; nothing where no reading lies inside."""
    weights = trapezoid_weights(load.times_s, window)
    return dict(zip(load.rails, (weights @ load.power_mw).tolist(), strict=True)) if weights.any() else {}


def _watched(trace: Trace, rail: str | None) -> Floats | None:
    """Readings [n] of the rail, or of the total; None where the board has no known total."""
    if rail is None:
        return trace.total_mw()
    if rail not in trace.rails:
        raise PowerError(f"rail {rail} was not sampled: there are {', '.join(trace.rails) or 'none'}. Name one of these.")
    return trace.rail(rail)


def _span(trace: Trace) -> Window:
    return Window(float(trace.times_s[0]), float(trace.times_s[-1])) if len(trace) else Window(0.0, 0.0)
