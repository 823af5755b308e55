"""What a layer's time is made of: calls, arithmetic, elements moved and weights read, each at a price never below zero.

Kernels work on blocks of channels, so a width of 24 may cost what 32 does: sizes are counted at widths rounded up to a
block. Prices come from non-negative least squares of the relative error, so that a trend stays positive and rises with every
size, and says something sensible far from everything that was measured.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from netadapt_trt.lut.layer_model import Evidence

    Floats = NDArray[np.float64]
    Sizes = Callable[[NDArray[np.int64]], Floats]

__all__ = ["BLOCKS", "Trend", "nonnegative", "padded"]

BLOCKS = (1, 8, 16, 32)
"""Channel blocks that are looked for. 1: every channel counts."""

_SMALL = 4
"""Sizes below this are not padded: kernels have forms of their own for images and single channels."""


def padded(points: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """``points`` [n, axes] rounded up to whole blocks."""
    if block == 1:
        return points
    return cast("NDArray[np.int64]", np.where(points < _SMALL, points, -(-points // block) * block))


def nonnegative(matrix: Floats, wanted: Floats) -> Floats:
    """The non-negative x [columns] for which ``matrix @ x`` is nearest to ``wanted``, exactly.

    Columns are few: every choice of them is solved, and the best that is not negative anywhere is taken.
    """
    columns = matrix.shape[1]
    product, target = matrix.T @ matrix, matrix.T @ wanted
    best, found = float("inf"), np.zeros(columns)
    for count in range(1, columns + 1):
        for chosen in combinations(range(columns), count):
            at = list(chosen)
            try:
                x = np.linalg.solve(product[np.ix_(at, at)] + 1e-12 * np.eye(count), target[at])
            except np.linalg.LinAlgError:
                continue
            if (x < 0).any():
                continue
            loss = float(x @ product[np.ix_(at, at)] @ x - 2 * x @ target[at])
            if loss < best - 1e-12:
                best, found = loss, np.zeros(columns)
                found[at] = x
    return found


class Trend:
    """Prices of one layer, from all its evidence. ``sizes`` maps axis values [n, axes] to counts [n, 4]:
    multiply-accumulates, elements read, elements written, weights. ``block``: channels that a kernel computes together.
    """

    def __init__(self, evidence: Evidence, sizes: Sizes, block: int) -> None:
        self.block = block
        self._sizes = sizes
        self._contexts = bool(evidence.alone.any()) and not evidence.only_alone
        columns = self._columns(evidence.points, evidence.alone)
        self._units = np.maximum(columns.max(axis=0), 1e-12)
        weights = np.sqrt(evidence.counts)
        scaled = columns / self._units / evidence.values[:, None] * weights[:, None]
        self._prices = nonnegative(scaled, weights)

    def _columns(self, points: NDArray[np.int64], alone: NDArray[np.bool_]) -> Floats:
        """[n, columns]: a call, the sizes, and what a call of its own adds: the call and its reorders."""
        sizes = self._sizes(padded(points, self.block))
        columns = [np.ones((len(points), 1)), sizes]
        if self._contexts:
            columns += [alone[:, None].astype(float), (alone * (sizes[:, 1] + sizes[:, 2]))[:, None]]
        return np.concatenate(columns, axis=1)

    def values(self, points: NDArray[np.int64], alone: NDArray[np.bool_]) -> Floats:
        """The trend at axis values [n, axes] in either context; positive: [n]."""
        return cast("Floats", np.maximum(self._columns(points, alone) / self._units @ self._prices, 1e-9))
