"""The steady power behind readings of a slow, stepped sensor: a best value and what else it could be.

A board's sensor answers like a first-order filter, so readings that follow each other quickly are one look, not many: a window
holds about one independent look in two time constants. And it answers in steps, so a load that moves by less than a step gives
the same reading again and again, and no number of them says where inside the step it is. Both are held here: what comes out is
the set of powers that the readings leave possible, as equally likely values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Level", "Sensor", "Window", "steady_level", "time_mean"]

GAP_PERIODS = 2.5  # a reading vouches for half of this many periods on either side
COVERAGE_NEEDED = 0.9

_COUNT = 401
_SHARES = (np.arange(_COUNT) + 0.5) / _COUNT
_Z = np.linspace(-6.0, 6.0, 2401)
_NORMAL_CDF = np.array([0.5 * (1.0 + math.erf(z / math.sqrt(2.0))) for z in _Z])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What limits a reading: its step [mW], its time constant [s], the sampling period [s] (None: that of the readings)."""

    step_mw: float
    time_constant_s: float
    period_s: float | None = None

    def period_of(self, times_s: Floats) -> float:
        """The sampling period [s]; without a stated one the middle distance of the readings."""
        return self.period_s or (float(np.median(np.diff(times_s))) if times_s.size > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time [s]."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s

    @property
    def middle_s(self) -> float:
        """Its middle."""
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True, slots=True)
class Level:
    """A steady power over a window.

    ``values_mw`` are equally likely values of it, sorted, and their mean the estimate. ``covered`` is the share of the window that
    readings vouch for, ``complete`` whether that is enough of it, without a long gap.
    """

    window: Window
    values_mw: Floats
    samples: int
    covered: float
    complete: bool

    @property
    def mean_mw(self) -> float:
        """The best value."""
        return float(self.values_mw.mean())


def steady_level(times_s: Floats, readings_mw: Floats, window: Window, sensor: Sensor) -> Level | None:
    """The power over ``window`` behind readings [n] at times [n], which rise; NaN is a missing reading. None below two readings.

    Readings just outside the window are used for its edges.
    """
    there = np.isfinite(readings_mw)
    times, readings = times_s[there], readings_mw[there]
    inside = (times >= window.start_s) & (times <= window.end_s)
    if np.count_nonzero(inside) < 2:
        return None
    weights = _trapezoid_weights(times, window)
    used = weights > 0
    period = sensor.period_of(times[inside])
    covered, gap = _coverage(times, window, period)
    looks = _independent_looks(times[inside], readings[inside], window, period, sensor)
    return Level(
        window=window,
        values_mw=_possible(readings[used], weights[used] / weights[used].sum(), looks, sensor.step_mw),
        samples=int(np.count_nonzero(inside)),
        covered=covered,
        complete=covered >= COVERAGE_NEEDED and gap <= max(GAP_PERIODS * period, 2 * sensor.time_constant_s),
    )


def time_mean(times_s: Floats, readings_mw: Floats, window: Window) -> float | None:
    """Mean over the window by the trapezoid rule; NaN is a missing reading. None where no reading lies inside."""
    there = np.isfinite(readings_mw)
    times = times_s[there]
    if not np.any((times >= window.start_s) & (times <= window.end_s)):
        return None
    weights = _trapezoid_weights(times, window)
    return float(weights @ readings_mw[there] / weights.sum())


def _trapezoid_weights(times: Floats, window: Window) -> Floats:
    """Seconds that each reading stands for, so that ``weights @ readings`` integrates straight lines between the readings.

    The lines are cut at the window's edges; before the first and after the last reading the nearest one holds.
    """
    weights = np.zeros(times.size)
    left, right = times[:-1], times[1:]
    length = right - left
    from_left = np.clip(window.start_s - left, 0.0, length) / length
    to_right = np.clip(window.end_s - left, 0.0, length) / length
    to_the_right_one = (to_right**2 - from_left**2) / 2
    weights[1:] += length * to_the_right_one
    weights[:-1] += length * (to_right - from_left - to_the_right_one)
    weights[0] += max(0.0, min(times[0], window.end_s) - window.start_s)
    weights[-1] += max(0.0, window.end_s - max(times[-1], window.start_s))
    return weights


def _coverage(times: Floats, window: Window, period: float) -> tuple[float, float]:
    """(Share of the window within reach of a reading, longest time without one inside the window [s])."""
    reach = GAP_PERIODS / 2 * period
    left, right = np.append(-np.inf, times), np.append(times, np.inf)
    holes = np.minimum(right - reach, window.end_s) - np.maximum(left + reach, window.start_s)
    gaps = np.minimum(right, window.end_s) - np.maximum(left, window.start_s)
    return float(1.0 - np.maximum(holes, 0.0).sum() / window.length_s), float(gaps.max())


def _independent_looks(times: Floats, readings: Floats, window: Window, period: float, sensor: Sensor) -> float:
    """How many independent readings the window is worth, at least two.

    Noise through a filter of time constant T is correlated over 2 T. Slower noise shows as correlation left after one T, and
    counts for as long as it lasts (as if it were a filter of that time constant).
    """
    lag = max(sensor.time_constant_s, period)
    correlated = max(sensor.time_constant_s, period / 2)
    fine = lag / 4
    line = np.interp(np.arange(times[0], times[-1], fine), times, readings)
    line -= line.mean()
    if line.size > 12 and np.any(line):
        left = float(np.mean(line[4:] * line[:-4]) / np.mean(line * line))
        if left > 0:
            correlated = max(correlated, lag / -math.log(min(left, 0.85)))
    return max(2.0, window.length_s / (2 * correlated))


def _possible(readings: Floats, weights: Floats, looks: float, step: float) -> Floats:
    """Equally likely values of the mean, sorted: Student's distribution, or within the steps where noise is below one."""
    mean = float(weights @ readings)
    spread = math.sqrt(float(weights @ (readings - mean) ** 2))
    if spread >= step:
        # The spread itself is known from about twice as many looks as the mean: its noise forgets twice as fast.
        return mean + _student(round(2 * looks - 1, 1)) * spread / math.sqrt(looks - 1)
    return _within_steps(readings, weights, looks, step)


@lru_cache(maxsize=256)
def _student(freedom: float) -> Floats:
    """Equally likely values of Student's t with that many degrees of freedom, by integrating its density."""
    x = np.sinh(np.linspace(-9.0, 9.0, 8001))
    density = (1.0 + x * x / freedom) ** (-(freedom + 1.0) / 2.0)
    return _equally_likely(x, density)


def _within_steps(readings: Floats, weights: Floats, looks: float, step: float) -> Floats:
    """Values of the mean that stepped readings leave possible, the size of the noise being unknown.

    A reading says that power plus noise lay within half a step of it. The likelihood of that, for a power and a size of normal
    noise, is counted ``looks`` times in all and averaged over noise from nothing to four steps, each size as likely on a
    logarithmic scale. One lone reading gives the whole step; readings on both sides of an edge give a place near that edge.
    """
    middle = float(weights @ readings)
    cells, where = np.unique(np.round((readings - middle) * (16 / step)), return_inverse=True)
    counts = np.bincount(where, weights) * looks
    cells = cells / 16
    powers = np.linspace(cells[0] - 1.0, cells[-1] + 1.0, 241)
    noises = np.exp(np.linspace(math.log(1e-4), math.log(4.0), 40))
    distance = cells[:, None, None] - powers[None, :, None]
    chance = _normal_cdf((distance + 0.5) / noises) - _normal_cdf((distance - 0.5) / noises)
    likelihood = np.tensordot(counts, np.log(np.maximum(chance, 1e-300)), axes=1)
    return middle + step * _equally_likely(powers, np.exp(likelihood - likelihood.max()).sum(axis=1))


def _normal_cdf(z: Floats) -> Floats:
    return np.interp(z, _Z, _NORMAL_CDF)


def _equally_likely(x: Floats, density: Floats) -> Floats:
    """The values at the middle of each of ``_COUNT`` equal shares of a density given on a grid."""
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    return np.interp(_SHARES, below / below[-1], x)
