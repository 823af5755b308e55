"""The widest width that meets a target, on a curve of values over candidate widths.

Real tables are not monotone: a wider layer can be faster. ``scan`` is the definition (widest first), ``envelope`` gives the
same answer on any table, ``binary`` is Marichal et al.'s halving, which may miss the widest width where a curve wiggles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from netadapt_trt.adapt.settings import SearchMethod

__all__ = ["BINARY_THRESHOLD", "Found", "candidate_widths", "search_width"]

BINARY_THRESHOLD = 16
"""Bracket size from which ``binary`` scans (Marichal, Dufrechou, Ezzatti)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Position of the widest candidate that fits (None: none does) and how many values of the curve were looked at."""

    index: int | None
    evaluations: int


def candidate_widths(current: int, granularity: int) -> NDArray[np.int64]:
    """Multiples of ``granularity`` below ``current``, ascending; empty when the group cannot shrink any more."""
    return np.arange(granularity, current, granularity, dtype=np.int64)


def search_width(
    curve: NDArray[np.float64], target: float, method: SearchMethod = "envelope", *, threshold: int = BINARY_THRESHOLD
) -> Found:
    """Find the widest candidate whose value is at most ``target``; ``curve`` is ordered by ascending width, shape [n].

    Raises:
        SpecError: an unknown method.
    """
    if method == "scan":
        return _scan(curve, target, 0, len(curve), 0)
    if method == "binary":
        return _binary(curve, target, threshold)
    if method == "envelope":
        return _envelope(curve, target)
    raise SpecError(f"unknown width search {method!r}; known: scan, binary, envelope")


def _scan(curve: NDArray[np.float64], target: float, low: int, high: int, before: int) -> Found:
    """Widest first through positions [low, high)."""
    for looked, index in enumerate(range(high - 1, low - 1, -1), 1):
        if curve[index] <= target:
            return Found(index, before + looked)
    return Found(None, before + max(high - low, 0))


def _binary(curve: NDArray[np.float64], target: float, threshold: int) -> Found:
    low, high, looked = 0, len(curve), 0
    while high - low > max(threshold, 1):
        middle = (low + high) // 2
        looked += 1
        if curve[middle] <= target:
            low = middle
        else:
            high = middle
    return _scan(curve, target, low, high, looked)


def _envelope(curve: NDArray[np.float64], target: float) -> Found:
    """Bisect the running minimum seen from the wide end: it only falls towards narrow widths, whatever the curve does."""
    if not len(curve):
        return Found(None, 0)
    widest_first = np.minimum.accumulate(curve[::-1])
    # The first position from the wide end whose running minimum fits is a position where the curve itself fits.
    position = int(np.searchsorted(-widest_first, -target, side="left"))
    return Found(len(curve) - 1 - position if position < len(curve) else None, len(curve))
