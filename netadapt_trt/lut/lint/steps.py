"""Cells that are slower than wider ones: a kernel that likes round sizes, or a bad measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.lint.finding import Finding, Hit, again, counted, percent, places, timed_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import Lut

__all__ = ["slower_than_wider"]

OUTLIER = 1.5
"""A cell this much slower than a wider one is bad whatever its sizes are: real steps go to about 1.2."""
MIN_STEP = 1.03
"""Smaller steps change no decision about widths: a proposal saves some per cent of the whole network."""
_ROUND = (8, 16, 32, 64)
"""Vector and tile lengths of the kernels of today's runtimes."""


def slower_than_wider(lut: Lut) -> list[Finding]:
    """Cells slower than one at least as wide in every size, by more than both cells' own spread (or by half).

    A cell's spread is half of its p10 to p90; those of the two add up as independent errors do.
    Only layers timed alone: what a layer takes within a network depends on its neighbours' widths, too.
    """
    bad: list[Hit] = []
    stairs: list[Hit] = []
    cells = timed_cells(lut)
    for found in cells.values():
        if found[0].widths and len({len(cell.widths) for cell in found}) == 1:
            for slow, wider in _pairs(found):
                (stairs if _rounder(wider.widths, slow.widths) and _ratio(slow, wider) <= OUTLIER else bad).append(
                    _hit(slow, wider)
                )
    totals = {layer: len(found) for layer, found in cells.items()}
    findings = []
    if bad:
        text = counted(len(bad), "cell is", "cells are")
        text = f"{text} slower than a wider one of the same layer, by more than both scatter"
        why = "they look like bad cells: a search would jump over these widths, and estimates around them are too high"
        action = again(lut, "measure them again on a quiet machine")
        findings.append(Finding("warning", "bad-cells", text, why, action, places(bad, totals)))
    if stairs:
        text = counted(len(stairs), "cell is", "cells are")
        text = f"{text} slower than a wider one whose sizes are rounder (multiples of 8, 16, 32, 64)"
        why = "it looks like a staircase: kernels work in blocks, and odd sizes cost more than the next round one"
        findings.append(
            Finding("info", "staircase", text, why, "nothing; the search takes it into account", places(stairs, totals))
        )
    return findings


def _pairs(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Each cell that is too slow, and the wider one that shows it most."""
    at = np.array([cell.widths for cell in cells])
    low, middle, high = np.array([_times(cell) for cell in cells]).T
    spread = (high - low) / 2
    found = []
    for index in range(len(cells)):
        wider = (at >= at[index]).all(axis=1) & (at > at[index]).any(axis=1)
        beyond = (middle[index] - middle > np.hypot(spread[index], spread)) & (middle[index] > MIN_STEP * middle)
        shows = np.flatnonzero(wider & (beyond | (middle[index] > OUTLIER * middle)))
        if len(shows):
            found.append((cells[index], cells[int(shows[np.argmin(middle[shows])])]))
    return found


def _times(cell: Cell) -> tuple[float, float, float]:
    stats = cell.latency_ms
    return (np.nan, np.nan, np.nan) if stats is None else (stats.p10, stats.median, stats.p90)


def _ratio(slow: Cell, wider: Cell) -> float:
    return _times(slow)[1] / _times(wider)[1]


def _rounder(these: Sequence[int], those: Sequence[int]) -> bool:
    """Whether a size of ``these`` is rounder than its like of ``those``, and none less round."""
    pairs = [(_roundness(this), _roundness(that)) for this, that in zip(these, those, strict=True) if this != that]
    return any(this > that for this, that in pairs) and all(this >= that for this, that in pairs)


def _roundness(size: int) -> int:
    return max((step for step in _ROUND if size % step == 0), default=1)


def _hit(slow: Cell, wider: Cell) -> Hit:
    ratio = _ratio(slow, wider)
    words = f"{_times(slow)[1]:.3g} ms, {percent(ratio - 1)} more than {list(wider.widths)} ({_times(wider)[1]:.3g} ms)"
    return Hit(slow.layer, slow.widths, ratio, words)
