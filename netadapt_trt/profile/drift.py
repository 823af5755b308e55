"""The reference layer of a profile: one layer measured again and again, so that a machine that changes its mind shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netadapt_trt.profile.grid import PlannedCell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer

__all__ = ["Pace", "choose_reference"]

_EVERY_CELLS = 20
_EVERY_SECONDS = 30.0


class Pace:
    """Says when the reference is due: at the start, then after 20 cells or 30 seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._cells = 0

    def cell_done(self) -> None:
        """Count one measured cell."""
        self._cells += 1

    def due(self) -> bool:
        """True when the reference should be measured now."""
        if self._since is None:
            return True
        return self._cells >= _EVERY_CELLS or self._clock() - self._since >= _EVERY_SECONDS

    def taken(self) -> None:
        """The reference has just been measured."""
        self._since, self._cells = self._clock(), 0


def choose_reference(lut: Lut, layers: Sequence[Layer], full: Sequence[PlannedCell]) -> PlannedCell | None:
    """The layer to watch: the one the table has watched before where this network has it, else the one of median cost.

    ``full`` are the layers at their full widths; None while none of them has been measured.
    """
    by_key = {layer.key: layer for layer in layers}
    for line in reversed(lut.references):
        layer = by_key.get(line.layer)
        if layer is not None and len(layer.axes) == len(line.widths):
            return PlannedCell(layer, line.widths, 0)
    timed: list[tuple[float, int, PlannedCell]] = []
    for cell in full:
        known = lut.cell(cell.layer.key, cell.widths)
        if known is not None and known.latency_ms is not None:
            timed.append((known.latency_ms.median, len(timed), cell))
    return sorted(timed, key=lambda item: item[:2])[len(timed) // 2][2] if timed else None
