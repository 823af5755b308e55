"""The steady power behind readings of a slow, stepped sensor: a best value and what else it could be.

A board's sensor answers like a first-order filter, so readings that follow each other quickly are one look, not many: a
window holds about one independent look in two time constants. And it answers in steps, so a load that moves by less
than a step gives the same reading again and again, and no number of them says where inside the step it is. Both are
held here: what comes out is the set of powers that the readings leave possible, as equally likely values.
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

__all__ = ["Coverage", "Sensor", "Window", "coverage", "steady_values", "trapezoid_weights"]

GAP_PERIODS = 2.5
COVERAGE_NEEDED = 0.9

_FINE, _FAR = 32, 16  # grid points to a step; steps to either side

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
class Coverage:
    """How well readings fill a window: their number, the share of the window that they vouch for, whether that is enough."""

    samples: int
    share: float
    enough: bool


def coverage(times_s: Floats, window: Window, sensor: Sensor) -> Coverage:
    """Coverage of the window by readings at these times [n].

    A reading vouches for 1.25 periods on either side, or half a time constant: over that the sensor's own average
    reaches. Not enough is less than nine tenths of the window, or no reading at a stretch for over 2.5 periods and two
    time constants.
    """
    inside = times_s[(times_s >= window.start_s) & (times_s <= window.end_s)]
    if inside.size < 2:
        return Coverage(int(inside.size), 0.0, False)
    period = sensor.period_of(inside)
    reach = max(GAP_PERIODS * period, sensor.time_constant_s) / 2
    left, right = np.append(-np.inf, times_s), np.append(times_s, np.inf)
    holes = np.minimum(right - reach, window.end_s) - np.maximum(left + reach, window.start_s)
    gaps = np.minimum(right, window.end_s) - np.maximum(left, window.start_s)
    share = 1.0 - float(np.maximum(holes, 0.0).sum()) / window.length_s
    enough = share >= COVERAGE_NEEDED and float(gaps.max()) <= max(GAP_PERIODS * period, 2 * sensor.time_constant_s)
    return Coverage(int(inside.size), share, enough)


def steady_values(times_s: Floats, readings_mw: Floats, window: Window, sensor: Sensor) -> Floats | None:
    """Equally likely values [mW, sorted] of the power over ``window``; their mean is the estimate.

    Readings [n] at rising times [n]. None for fewer than two inside the window.
    """
    weights = trapezoid_weights(times_s, window)
    inside = weights > 0
    if np.count_nonzero(inside) < 2:
        return None
    looks = _independent_looks(times_s[inside], readings_mw[inside], window, sensor)
    return _possible(readings_mw[inside], weights[inside], looks, sensor.step_mw)


def trapezoid_weights(times_s: Floats, window: Window) -> Floats:
    """Shares [n] of the window that readings at rising times [n] stand for by the trapezoid rule; 0 for those outside.

    Between an edge and the nearest reading inside that reading holds. A reading outside would not do: there the load is
    coming or going.
    """
    weights = np.zeros(times_s.size)
    inside = np.flatnonzero((times_s >= window.start_s) & (times_s <= window.end_s))
    if inside.size:
        times = times_s[inside]
        halves = np.diff(times) / 2
        weights[inside[:-1]] = halves
        weights[inside[1:]] += halves
        weights[inside[0]] += times[0] - window.start_s
        weights[inside[-1]] += window.end_s - times[-1]
    return weights / window.length_s


def _independent_looks(times: Floats, readings: Floats, window: Window, sensor: Sensor) -> float:
    """How many independent readings the window is worth, at least two.

    Noise through a filter of time constant T is correlated over 2 T. Slower noise shows as correlation left after one T, and
    counts for as long as it lasts (as if it were a filter of that time constant).
    """
    period = sensor.period_of(times)
    lag = max(sensor.time_constant_s, period)
    correlated = max(sensor.time_constant_s, period / 2)
    fine = lag / 4
    line = np.interp(np.arange(times[0], times[-1], fine), times, readings)
    line -= line.mean()
    if line.size > 12 and np.any(line):
        left = float(np.mean(line[4:] * line[:-4]) / np.mean(line * line))
        share = min(1.0, 2 * correlated / window.length_s)  # of the variance, that went with the mean
        left = left + (1 - left) * share
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

    A reading says that power plus noise lay within half a step of it, which has a likelihood for every power and every
    size of normal noise, from nothing to two steps, each as likely on a logarithmic scale. For a given noise the powers
    are judged by so many looks; the noise itself by twice as many, see :func:`_possible`. Equal readings leave the whole
    step; readings on both sides of an edge leave a place near that edge.
    """
    middle = float(weights @ readings)
    cells, where = np.unique(np.round((readings - middle) * (_FINE / step)).astype(int), return_inverse=True)
    powers = np.arange(-3 * _FINE, 3 * _FINE + 1)  # from the middle, which their spread holds within a step of the power
    away = np.clip(cells[:, None] - powers, -_FAR * _FINE, _FAR * _FINE) + _FAR * _FINE
    fit = np.tensordot(np.bincount(where, weights), _log_chances()[away], axes=1)
    fit -= fit.max()
    noise_chance = np.exp(2 * looks * fit).sum(axis=0)
    given_noise = np.exp(looks * (fit - fit.max(axis=0)))
    density = given_noise @ (noise_chance / given_noise.sum(axis=0))
    return middle + step / _FINE * _equally_likely(powers.astype(np.float64), density)


@lru_cache(maxsize=1)
def _log_chances() -> Floats:
    """Log of the chance that noise of a size [columns] takes a power into the step that is so far away [rows]."""
    away = np.arange(-_FAR * _FINE, _FAR * _FINE + 1)[:, None] / _FINE
    noises = np.exp(np.linspace(math.log(1e-7), math.log(2.0), 50))
    return np.log(np.maximum(_normal_cdf((away + 0.5) / noises) - _normal_cdf((away - 0.5) / noises), 1e-300))


def _normal_cdf(z: Floats) -> Floats:
    shares: Floats = np.interp(z, _Z, _NORMAL_CDF)
    return shares


def _equally_likely(x: Floats, density: Floats) -> Floats:
    """The values at the middle of each of ``_COUNT`` equal shares of a density given on a grid."""
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    return np.interp(_SHARES, below / below[-1], x)
