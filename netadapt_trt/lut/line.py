"""The straight line from a sum of lone layers to the whole network, and how it follows what is measured.

``value = scale * (sum + offset)``. A layer that is timed alone pays for a call of its own and for its edges, so the sum is
too large by something that hardly depends on the widths; the table's whole-network lines tell by how much. A run then
measures one network after another on its way down: the line goes through the newest of them, and its slope leans towards
what the latest steps really saved for what their sums promised.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ENOUGH_NETWORKS", "Line"]

ENOUGH_NETWORKS = 4
_WIDE_ENOUGH = 1.05
_LEAST = 0.02
"""No value falls below this share of the scaled sum: beyond the fitted networks an offset must not cross zero."""

_TYPICAL_STEP = 0.05
"""The table's slope counts like one measured step that takes away this share of the uncut sum."""
_FORGETTING = 0.7
"""What a measured step counts for after each later one."""
_TRUST = 3.0
"""A slope this many times the table's, or its inverse, is noise."""


class Line:
    """Starts as the identity; :meth:`fit` takes the table's networks, :meth:`follow` a run's measurements in their order."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.offset = 0.0
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None
        self._moment = self._weight = 0.0

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Sums of cells [n] to whole networks [n]."""
        return np.maximum(sums + self.offset, _LEAST * sums) * self.scale

    def fit(self, sums: np.ndarray, measured: np.ndarray) -> None:
        """Find the offset for which ``measured`` [n] is proportional to ``sums + offset``; too few or odd points leave it 0.

        Least squares of the relative error. A slope that is not positive, or an offset that leaves hardly anything of a
        sum, is noise: then nothing is fitted.
        """
        if len(sums) < ENOUGH_NETWORKS or sums.max() < _WIDE_ENOUGH * sums.min():
            return
        weighted = np.stack([sums / measured, 1 / measured], axis=1)
        slope, constant = np.linalg.lstsq(weighted, np.ones(len(sums)), rcond=None)[0]
        if not (np.isfinite(slope) and np.isfinite(constant) and slope > 0):
            return
        offset = float(constant / slope)
        if sums.min() + offset >= _LEAST * sums.min():
            self.offset = offset

    def level(self, sums: np.ndarray, measured: np.ndarray) -> None:
        """Keep the offset, and scale to all of ``measured`` [n] alike: least squares of the relative error."""
        ratios = self.values(sums) / self.scale / measured
        self.scale = float(ratios.sum() / (ratios**2).sum())

    def follow(self, total: float, measured: float) -> None:
        """Go through (``total``, ``measured``); the first such point keeps the offset, later ones turn the line."""
        if self._first is None or self._last is None:
            self.scale = 1.0
            self.scale = measured / float(self.values(np.array([total]))[0])
            self._first = (total, self.scale)
        else:
            fallen = self._last[0] - total
            self._moment = _FORGETTING * self._moment + fallen * (self._last[1] - measured)
            self._weight = _FORGETTING * self._weight + fallen * fallen
            self.scale = self._slope(*self._first)
            self.offset = measured / self.scale - total
        self._last = (total, measured)

    def _slope(self, total: float, table: float) -> float:
        prior = (_TYPICAL_STEP * total) ** 2
        slope = (table * prior + self._moment) / (prior + self._weight)
        return min(max(slope, table / _TRUST), table * _TRUST)
