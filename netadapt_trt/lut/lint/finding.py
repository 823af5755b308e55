"""What a rule has to say, and the words that rules share: where it happened, worst first, and how to measure again."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from netadapt_trt.backend import backend_names
from netadapt_trt.lut.schema import ISOLATED, trusted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import Lut

__all__ = [
    "ELSEWHERE", "Finding", "Hit", "Place", "Severity", "again", "anew", "contexts", "counted", "measurable", "percent",
    "places", "timed_cells", "where_measured",
]  # fmt: skip

Severity = Literal["error", "warning", "info"]

ELSEWHERE = "this table cannot be measured again from here: where its device is at hand, profile there"
"""What to do about a table that is not :func:`measurable`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the table: a layer, the widths of its cells that are meant (worst first), and their figures in words."""

    layer: str
    cells: tuple[tuple[int, ...], ...]
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a table worth knowing: what, why it matters, what to do; ``places`` are worst first.

    ``error`` is what makes the table unfit for what was asked, ``warning`` what makes its figures doubtful.
    """

    severity: Severity
    rule: str
    text: str
    why: str
    action: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One cell that a rule found. ``badness`` compares hits of one rule, ``text`` gives the cell's figures."""

    layer: str
    widths: tuple[int, ...]
    badness: float
    text: str


def places(hits: Sequence[Hit], totals: Mapping[str, int]) -> tuple[Place, ...]:
    """``hits`` by layer, the layer of the worst first. ``totals`` has the number of cells looked at, by layer."""
    by_layer: dict[str, list[Hit]] = defaultdict(list)
    for hit in sorted(hits, key=lambda hit: -hit.badness):
        by_layer[hit.layer].append(hit)
    return tuple(
        Place(
            layer,
            tuple(hit.widths for hit in found),
            _where(found[0], len(found), totals[layer]) + found[0].text,
        )
        for layer, found in by_layer.items()
    )


def _where(worst: Hit, count: int, total: int) -> str:
    if total > 1:
        return f"{count} of {total} cells, worst {list(worst.widths)}: "
    return f"at {list(worst.widths)}: " if worst.widths else ""


def contexts(lut: Lut) -> list[str]:
    """The contexts of the cells, the isolated ones first."""
    found = dict.fromkeys(cell.context for cell in lut.cells)
    return sorted(found, key=lambda context: context != ISOLATED)


def where_measured(context: str) -> str:
    """What to say behind "cells": nothing for layers that were timed alone."""
    return "" if context == ISOLATED else f" ({context.replace('_', ' ')})"


def timed_cells(lut: Lut, context: str = ISOLATED) -> dict[str, list[Cell]]:
    """The cells whose latency counts, by layer: flagged ones are told by their flags already."""
    found = {}
    for layer in lut.layers(context):
        cells = [cell for cell in lut.layer_cells(layer, context) if cell.latency_ms is not None and trusted(cell)]
        if cells:
            found[layer] = cells
    return found


def counted(count: int, one: str, more: str) -> str:
    """``1 cell is`` or ``2 cells are``."""
    return f"{count} {one if count == 1 else more}"


def percent(share: float) -> str:
    """A share in words: 0.06 is ``6 %``."""
    return f"{share * 100:.0f} %"


def measurable(lut: Lut) -> bool:
    """Whether ``profile`` could measure such a table here: it was not imported as a whole, and its backend is known."""
    imported = lut.sessions and all(session.settings.get("imported_from") for session in lut.sessions.values())
    return not imported and lut.identity.backend in _backends()


@cache
def _backends() -> frozenset[str]:
    """Asked once: it reads the metadata of every installed package, and a table has many findings."""
    return frozenset(backend_names())


def anew(lut: Lut, first: str, path: str = "new.lut.jsonl", *, power: bool = False) -> str:
    """``first``, then the command that measures into a table of its own; ``ELSEWHERE`` where that cannot be done here.

    PLAN is left to the reader: a table does not know its networks. ``power``: energy, too.
    """
    return f"{first}: {_command(lut, path)}{' --power auto' if power else ''}" if measurable(lut) else ELSEWHERE


def again(lut: Lut, first: str) -> str:
    """As :func:`anew`, for some cells: what is there is never measured twice, and of two lines the later wins."""
    if not measurable(lut):
        return ELSEWHERE
    old = shlex.quote(str(lut.path or "LUT"))
    return f"{first}: {_command(lut, 'again.lut.jsonl')} && netadapt-trt lut merge {old} again.lut.jsonl -o {old}"


def _command(lut: Lut, path: str) -> str:
    identity = lut.identity
    words = ["--backend", identity.backend, "--precision", identity.precision, "--lut", path]
    return f"netadapt-trt profile PLAN {shlex.join(words)}"
