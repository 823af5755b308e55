"""Which few of a network's cells to measure energy of, and what each of them is to the model of the others.

The set is coarse and representative: kinds of layers take turns, each going round the levels of width (uncut, narrowest, in
between), and within one kind and level from layers that compute much for each element to those that compute little. It
depends on the plan alone, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from netadapt_trt.plan.fragment import fragment_of
from netadapt_trt.plan.sizes import PlanSizes
from netadapt_trt.profile.energy_model import Load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.profile.grid import PlannedCell

__all__ = ["CellLoads", "coarse_order", "kind_of"]

T = TypeVar("T")

_EDGES = (0.999, 0.5, 0.25, 0.1)  # of the share of the full widths: level 0 is uncut, level 4 keeps less than a tenth
_LEVELS = (0, 4, 2, 1, 3)  # in this order: the ends first
_GOLDEN = (math.sqrt(5) - 1) / 2
_OPERATOR = re.compile(r"\b([A-Z]\w*)\(")


class CellLoads:
    """Kind, level of width and work of the cells of ``plan``; ``planned`` are all of them."""

    def __init__(self, plan: Plan, planned: Iterable[PlannedCell]) -> None:
        self._plan = plan
        self._full: dict[str, tuple[int, ...]] = {}
        for cell in planned:
            known = self._full.get(cell.layer.key, cell.widths)
            self._full[cell.layer.key] = tuple(map(max, known, cell.widths))

    def load(self, cell: PlannedCell, latency_ms: float) -> Load:
        """The cell as the model sees it."""
        fragment, _ = fragment_of(self._plan, cell.layer.ops)
        widths = {group.name: width for group, width in zip(fragment.groups, cell.widths, strict=True)}
        tensors = [*(fragment.tensors[name] for name in (*fragment.inputs, *fragment.outputs)), *fragment.weights.values()]
        return Load(
            kind=kind_of(cell.layer),
            level=self._level(cell),
            latency_ms=latency_ms,
            macs=float(PlanSizes(fragment).macs(np.array([cell.widths], dtype=np.int64).reshape(1, -1))[0]),
            elements=float(sum(math.prod(size.value(widths) for size in tensor.shape) for tensor in tensors)),
        )

    def _level(self, cell: PlannedCell) -> int:
        """By the geometric mean of what its axes keep of their full widths."""
        full = self._full[cell.layer.key]
        kept = [width / most for width, most in zip(cell.widths, full, strict=True)]
        share = math.prod(kept) ** (1 / len(kept)) if kept else 1.0
        return sum(share < edge for edge in _EDGES)


def kind_of(layer: Layer) -> str:
    """The first operator, depthwise convolutions apart: what decides how a kernel spends its time."""
    found = _OPERATOR.search(layer.key)
    operator = found[1] if found else "?"
    return f"{operator} depthwise" if operator == "Conv" and "group=a" in layer.key else operator


def coarse_order(cells: Sequence[PlannedCell], loads: CellLoads) -> list[PlannedCell]:
    """``cells``, so ordered that whatever is taken from the front covers kinds and levels of width evenly."""
    found: dict[str, dict[int, list[tuple[Load, PlannedCell]]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        load = loads.load(cell, 1.0)
        found[load.kind][load.level].append((load, cell))
    turns = []
    for levels in found.values():
        ordered = [_scattered(sorted(levels[level], key=_intensity)) for level in _LEVELS if level in levels]
        turns.append(_in_turn(ordered))
    return [cell for _, cell in _in_turn(turns)]


def _intensity(entry: tuple[Load, PlannedCell]) -> tuple[float, float, str, tuple[int, ...]]:
    load, cell = entry
    return load.macs / load.elements, load.elements, cell.layer.key, cell.widths


def _scattered(items: Sequence[T]) -> list[T]:
    """So ordered that whatever is taken from the front is spread over the whole: by the golden section, from the middle."""
    left, place, result = list(items), 0.5, []
    taken = [False] * len(left)
    for _ in left:
        at = int(place * len(left))
        while taken[at]:
            at = (at + 1) % len(left)
        taken[at] = True
        result.append(left[at])
        place = (place + _GOLDEN) % 1
    return result


def _in_turn(queues: Sequence[Sequence[T]]) -> list[T]:
    missing = object()
    return [item for row in zip_longest(*queues, fillvalue=missing) for item in row if item is not missing]  # type: ignore[misc]
