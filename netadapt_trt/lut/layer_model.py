"""What one layer costs at any channel sizes, with how sure that is, from few and noisy measurements in two contexts.

A physical trend (:mod:`netadapt_trt.lut.trend`) says what the sizes explain; what is left of the measurements, as a relative
deviation, is interpolated between points that are alike (simple kriging, a Gaussian process with a Matern 3/2 kernel:
Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 2). Close to measurements the model says what
they say, averaged over their noise; far from them the trend remains, and the uncertainty grows. A layer that was timed alone
pays for a call and for reorders at its edges: the trend gives that context prices of its own, and its deviations count for
less.

Kindred layers (the same operator at another picture size) mostly run the same kernels at the same channels: where a
table has them, their deviations are heard like those of the layer's own points, the less the more doublings they are away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from netadapt_trt.lut.trend import Sizes, Trend

    Floats = NDArray[np.float64]
    Points = NDArray[np.int64]
    Flags = NDArray[np.bool_]

__all__ = ["Evidence", "Kin", "LayerModel", "Manner"]

_SURE = 0.002
"""Relative noise that is left even of many measurements."""
_OFTEN = 5
"""Measurements of one point of which one more or less moves the model by a fifth of its noise at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How deviations from the trend behave, the same for all layers of a table.

    ``reach``: how far one is heard, in doublings of a size. ``spread``: its usual relative size. ``noise``: relative error
    of one measurement. ``kinship``: correlation of a layer's deviation alone with that in a network. ``block``: channels
    that the runtime's kernels compute together; ``apart``: correlation between sizes that are whole blocks and sizes that
    are not, or smaller than one, for each size (kernels pad, or have other forms, there). ``family``: how far a kindred
    layer is heard, in doublings of the picture.
    """

    reach: float = 1.0
    spread: float = 0.1
    noise: float = 0.05
    kinship: float = 0.7
    block: int = 1
    apart: float = 0.7
    family: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Measurements of one layer: axis values [n, axes], positive values [n], which were timed alone [n], how often [n]."""

    points: Points
    values: Floats
    alone: Flags
    counts: NDArray[np.int64]

    @property
    def only_alone(self) -> bool:
        """Whether no network has been looked into for this layer: then what it costs alone is what can be said."""
        return bool(self.alone.all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """A layer that differs in the size of its picture alone: what is known of it, its sizes (as :class:`Trend` has them),
    and how many doublings of height and width ``away`` it is, negative for a smaller one."""

    evidence: Evidence
    sizes: Sizes
    away: float


class LayerModel:
    """Built once from ``evidence`` and its ``trend``; ``kin`` are the layers that are heard beside it."""

    def __init__(self, evidence: Evidence, trend: Trend, manner: Manner, kin: Sequence[Kin] = ()) -> None:
        self.evidence, self.trend, self._manner = evidence, trend, manner
        self._points, self._alone, self._away = evidence.points, evidence.alone, np.zeros(len(evidence.values))
        values, counts, expected = evidence.values, evidence.counts, trend.values(evidence.points, evidence.alone)
        for one in kin:
            self._points = np.concatenate([self._points, one.evidence.points])
            self._alone = np.concatenate([self._alone, one.evidence.alone])
            self._away = np.concatenate([self._away, np.full(len(one.evidence.values), one.away)])
            values, counts = np.concatenate([values, one.evidence.values]), np.concatenate([counts, one.evidence.counts])
            expected = np.concatenate([expected, trend.values(one.evidence.points, one.evidence.alone, one.sizes)])
        self._deviations = np.log(values / expected)
        alike = self._alike(self._points, self._alone, self._points, self._alone)
        if kin:
            alike *= np.exp(-np.abs(self._away[:, None] - self._away[None]) / manner.family)
        alike += np.diag(manner.noise**2 / counts + _SURE**2)
        self._factor = np.linalg.cholesky(alike)
        self._weights = self._solve(self._deviations)

    def _solve(self, right: Floats) -> Floats:
        return cast("Floats", np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, right)))

    @property
    def log_likelihood(self) -> float:
        """Of the deviations under this manner and trend: what those are chosen by."""
        fit = float(self._deviations @ self._weights)
        return -0.5 * fit - float(np.log(np.diag(self._factor)).sum()) - 0.5 * len(self._weights) * float(np.log(2 * np.pi))

    def _alike(self, a: Points, a_alone: Flags, b: Points, b_alone: Flags) -> Floats:
        """Covariance [len(a), len(b)] of deviations."""
        manner = self._manner
        here, there = _place(a), _place(b)
        distance = np.sqrt(((here[:, None] - there[None]) ** 2).sum(axis=2)) * (np.sqrt(3.0) / manner.reach)
        alike = manner.spread**2 * (1 + distance) * np.exp(-distance)
        alike *= np.where(a_alone[:, None] == b_alone[None], 1.0, manner.kinship)
        if manner.block > 1:
            differ = (_form(a, manner.block)[:, None] != _form(b, manner.block)[None]).sum(axis=2)
            alike *= manner.apart**differ
        return cast("Floats", alike)

    def _heard(self, points: Points) -> tuple[Flags, Floats]:
        """Which context is asked for, and the covariance of ``points`` with the evidence."""
        alone = np.full(len(points), self.evidence.only_alone)
        return alone, self._alike(points, alone, self._points, self._alone) * np.exp(
            -np.abs(self._away) / self._manner.family
        )

    def values(self, points: Points) -> Floats:
        """What the layer costs at axis values [n, axes], in a network (alone, where it was never seen in one): [n]."""
        alone, heard = self._heard(points)
        return self.trend.values(points, alone) * np.exp(heard @ self._weights)

    def uncertainty(self, points: Points) -> Floats:
        """One standard deviation of :meth:`values`, relative: [n]."""
        _, heard = self._heard(points)
        explained = np.linalg.solve(self._factor, heard.T)
        variance = self._manner.spread**2 - (explained**2).sum(axis=0)
        return cast("Floats", np.sqrt(np.maximum(variance, 0.0) + _SURE**2))

    def without_each(self) -> Floats:
        """What the model would say at each point of the evidence if that point had not been measured: [n].

        In closed form (section 5.4.2 of the book named above); the trend keeps its prices. A point is left out with all its
        repetitions, since each has a part in their mean; only where it was measured five times and more does what the
        model says there stand for it, which one of them moves little.
        """
        own = len(self.evidence.values)
        inverse = self._solve(np.eye(len(self._deviations)))
        left_out = (self._deviations - self._weights / np.diag(inverse))[:own]
        heard = self._alike(self.evidence.points, self.evidence.alone, self._points, self._alone)
        said = heard * np.exp(-np.abs(self._away) / self._manner.family) @ self._weights
        trend = self.trend.values(self.evidence.points, self.evidence.alone)
        return trend * np.exp(np.where(self.evidence.counts >= _OFTEN, said, left_out))

    def outside(self, points: Points) -> Flags:
        """Which of ``points`` lie beyond the range that was measured in some size: [n]."""
        low, high = self.evidence.points.min(axis=0, initial=1 << 60), self.evidence.points.max(axis=0, initial=0)
        beyond: Flags = ((points < low) | (points > high)).any(axis=1)
        return beyond


def _form(points: Points, block: int) -> Points:
    """0 for sizes of whole blocks, 1 for others, 2 for those below one block: [n, axes]."""
    return cast("Points", np.where(points % block == 0, 0, np.where(points < block, 2, 1)))


def _place(points: Points) -> Floats:
    return cast("Floats", np.log2(np.maximum(points, 1).astype(float)))
