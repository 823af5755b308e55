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
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from netadapt_trt.lut.layer_model import Evidence, Kin

    Floats = NDArray[np.float64]
    Sizes = Callable[[NDArray[np.int64]], Floats]

__all__ = ["BLOCKS", "Trend", "nonnegative", "padded"]

BLOCKS = (1, 8, 16, 32)
"""Channel blocks that are looked for. 1: every channel counts."""

_SMALL = 4
"""Sizes below this are not padded: kernels have forms of their own for images and single channels."""

_KIN_COUNTS = 0.5
"""What a measurement of a kindred layer counts in the prices; with every doubling that it is away, 1/e of that."""


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
    ``kin``: layers of other picture sizes, whose measurements have a say, too: a multiply-accumulate costs about the same
    there.
    """

    def __init__(self, evidence: Evidence, sizes: Sizes, block: int, kin: Sequence[Kin] = ()) -> None:
        self.block = block
        self._sizes = sizes
        self._contexts = bool(evidence.alone.any()) and not evidence.only_alone
        columns = self._columns(evidence.points, evidence.alone, sizes)
        weights, values = np.sqrt(evidence.counts), evidence.values
        if kin:
            columns = np.concatenate(
                [columns, *(self._columns(one.evidence.points, one.evidence.alone, one.sizes) for one in kin)]
            )
            shares = (_KIN_COUNTS * np.exp(-abs(one.away)) * np.sqrt(one.evidence.counts) for one in kin)
            weights = np.concatenate([weights, *shares])
            values = np.concatenate([values, *(one.evidence.values for one in kin)])
        self._units = np.maximum(columns.max(axis=0), 1e-12)
        scaled = columns / self._units / values[:, None] * weights[:, None]
        self._prices = nonnegative(scaled, weights)

    def _columns(self, points: NDArray[np.int64], alone: NDArray[np.bool_], sizes: Sizes) -> Floats:
        """[n, columns]: a call, the sizes, and what a call of its own adds: the call and its reorders."""
        counted = sizes(padded(points, self.block))
        columns = [np.ones((len(points), 1)), counted]
        if self._contexts:
            columns += [alone[:, None].astype(float), (alone * (counted[:, 1] + counted[:, 2]))[:, None]]
        return np.concatenate(columns, axis=1)

    def values(self, points: NDArray[np.int64], alone: NDArray[np.bool_], sizes: Sizes | None = None) -> Floats:
        """The trend at axis values [n, axes] in either context; positive: [n]. ``sizes``: those of a kindred layer."""
        columns = self._columns(points, alone, self._sizes if sizes is None else sizes)
        return cast("Floats", np.maximum(columns / self._units @ self._prices, 1e-9))
