"""Cells by their own statistics: scatter, too few runs, repeated measurements that disagree, flags.

All but flags are of layers timed alone. A cell within a network is a share of that network's median: it has no spread, and
its number of runs is that of the profile. What such cells rest on is judged by :mod:`netadapt_trt.lut.lint.networks`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from netadapt_trt.lut.lint.device import FLAG_ACTIONS
from netadapt_trt.lut.lint.finding import Finding, Hit, again, anew, contexts, counted, percent, places, timed_cells
from netadapt_trt.lut.schema import ENERGY_FLAGS, ISOLATED, LOW_COVERAGE, MODELLED, trusted

if TYPE_CHECKING:
    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.spec import LatencyStats

__all__ = ["disagreeing_repeats", "flags", "scatter", "too_few_runs"]

MAX_SPREAD = 1.5
"""p90 over p10; ``profile`` measures again above the same figure. A quiet machine stays below 1.1 on layers over 0.1 ms."""
MIN_RUNS = 5
"""Below that the 10th and 90th percentile are the smallest and largest sample, and one hiccup moves the median."""
FULL_MS = 2000.0
"""A cell that was timed this long is done, however few runs that were: ``profile`` stops there."""
MIN_DISAGREEMENT = 1.05
"""Two medians closer than that agree for every purpose: an estimate is not that good."""


def scatter(lut: Lut) -> list[Finding]:
    """Cells whose 90th percentile lies far above the 10th."""
    cells = timed_cells(lut)
    hits = [
        Hit(cell.layer, cell.widths, spread, f"p90 is {spread:.2f} x p10")
        for cell in _all(cells)
        if (spread := _of(cell).p90 / _of(cell).p10) > MAX_SPREAD
    ]
    if not hits:
        return []
    text = f"{len(hits)} of {_count(cells)} cells scatter (p90 over {MAX_SPREAD} x p10)"
    why = "their medians may be off by several per cent, and steps between neighbours are lost in that"
    action = anew(lut, "stop other programs, lock the clocks, then")
    return [Finding("warning", "spread", text, why, action, places(hits, _totals(cells)))]


def too_few_runs(lut: Lut) -> list[Finding]:
    """Cells that rest on a handful of runs although they are quick."""
    cells = timed_cells(lut)
    hits = [
        Hit(cell.layer, cell.widths, 1 / stats.n, f"{counted(stats.n, 'run', 'runs')} of {stats.median:.3g} ms")
        for cell in _all(cells)
        if (stats := _of(cell)).n < MIN_RUNS and stats.n * stats.median < FULL_MS
    ]
    if not hits:
        return []
    text = f"{len(hits)} of {_count(cells)} cells rest on fewer than {MIN_RUNS} runs"
    why = "one disturbed run decides the figure, and nothing tells how far it scatters"
    return [Finding("warning", "few-runs", text, why, again(lut, "measure again"), places(hits, _totals(cells)))]


def disagreeing_repeats(lut: Lut) -> list[Finding]:
    """Lines of one cell whose ranges from p10 to p90 do not meet.

    Only layers timed alone: within networks the same cell comes with other neighbours, and at several places of one network.
    """
    lines: dict[tuple[str, tuple[int, ...]], list[Cell]] = defaultdict(list)
    for cell in lut.cells:
        if cell.context == ISOLATED and cell.latency_ms is not None and trusted(cell):
            lines[cell.layer, cell.widths].append(cell)
    totals: Counter[str] = Counter()
    hits = []
    for (layer, widths), same in lines.items():
        if len(same) < 2:
            continue
        totals[layer] += 1
        fast, slow = min(same, key=lambda cell: _of(cell).p90), max(same, key=lambda cell: _of(cell).p10)
        ratio = _of(slow).median / _of(fast).median
        if _of(slow).p10 > _of(fast).p90 and ratio > MIN_DISAGREEMENT:
            words = f"{_of(fast).median:.3g} ms in session {fast.session}, {_of(slow).median:.3g} ms in {slow.session}"
            hits.append(Hit(layer, widths, ratio, f"{words} ({percent(ratio - 1)} more)"))
    if not hits:
        return []
    text = f"{len(hits)} of {totals.total()} cells that were measured more than once disagree by more than their own spread"
    why = "the machine was another one than before (clocks, heat, load): the table mixes both, the later line counts"
    action = anew(lut, "find out what changed (sessions in lut show --json), then measure all under one state")
    return [Finding("warning", "repeats", text, why, action, places(hits, totals))]


_ENERGY = "a budget in energy rests on it; one in latency does not"
_WORDS = {
    "region": (
        "info",
        "{} within networks ran in one piece with neighbours (flag region): their shares of its time are not known apart",
        "a share that was guessed cannot be compared with a time",
        "nothing; estimates do not rest on them",
    ),
    MODELLED: (
        "info",
        "the energy of {} is modelled from measured ones; their latency is measured",
        _ENERGY,
        "nothing against them",
    ),
    LOW_COVERAGE: (
        "warning",
        "the energy of {} is left out: power readings were missing under it; their latency counts",
        _ENERGY,
        "give the power source an idle core, then run the same profile with --power again",
    ),
    "resolution_limited": (
        "warning",
        "the energy of {} is finer than the power source's step; their latency is not concerned",
        _ENERGY,
        "use a source of finer steps or longer windows, then run the same profile with --power again",
    ),
}


def flags(lut: Lut) -> list[Finding]:
    """Flags of cells and whole networks; those of energy say that they speak of nothing else."""
    hits: dict[str, list[Hit]] = defaultdict(list)
    totals: Counter[str] = Counter()
    for context in contexts(lut):
        for layer in lut.layers(context):
            for cell in lut.layer_cells(layer, context):
                totals[layer] += 1
                for flag in cell.flags:
                    figure = "energy alone" if cell.latency_ms is None else _told(cell.latency_ms)
                    spread = 0.0 if cell.latency_ms is None else cell.latency_ms.p90 / cell.latency_ms.p10
                    hits[flag].append(Hit(layer, cell.widths, spread, figure))
    networks = Counter(flag for line in lut.networks for flag in line.flags if flag not in ENERGY_FLAGS)
    findings = []
    for flag in dict.fromkeys([*hits, *networks]):
        found = places(hits[flag], totals)
        if flag in _WORDS:
            severity, text, why, action = _WORDS[flag]
            told = text.format(counted(len(hits[flag]), "cell", "cells"))
            findings.append(Finding("info" if severity == "info" else "warning", flag, told, why, action, found))
            continue
        whole = counted(networks[flag], "whole network is", "whole networks are")
        alone = [counted(len(hits[flag]), "cell is", "cells are")] if hits[flag] else []
        text = f"{' and '.join([*alone, *([whole] if networks[flag] else [])])} flagged {flag}"
        why = "they were disturbed while they were measured, and count only while nothing better is there"
        action = FLAG_ACTIONS.get(flag, "run the same profile again on a quiet machine: it measures them anew")
        findings.append(Finding("warning", flag, text, why, action, found))
    return findings


def _told(stats: LatencyStats) -> str:
    return f"{stats.median:.3g} ms, p90 is {stats.p90 / stats.p10:.2f} x p10"


def _of(cell: Cell) -> LatencyStats:
    if cell.latency_ms is None:  # the callers left those out
        raise ValueError("a cell without latency")
    return cell.latency_ms


def _all(cells: dict[str, list[Cell]]) -> list[Cell]:
    return [cell for found in cells.values() for cell in found]


def _count(cells: dict[str, list[Cell]]) -> int:
    return sum(len(found) for found in cells.values())


def _totals(cells: dict[str, list[Cell]]) -> dict[str, int]:
    return {layer: len(found) for layer, found in cells.items()}
