"""Cells that no measurement gives: columns computed from one another, constants, skips that cost as much as a block.

Tables that are handed around have such faults. The energy of a published Raspberry Pi 3 table, for one, is its power divided
by 3.407 in every cell, and leaving a block out costs as much energy there as the cheapest block.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.lint.arithmetic import is_skip, macs, place_of, shape_in
from netadapt_trt.lut.lint.finding import (
    ELSEWHERE,
    Finding,
    Hit,
    anew,
    contexts,
    measurable,
    places,
    timed_cells,
    where_measured,
)
from netadapt_trt.lut.schema import IN_NETWORK, ISOLATED, MODELLED, without_lost_energy

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import Lut

__all__ = ["constants", "costly_skips", "powerless", "proportional_columns", "too_fast"]

MIN_CELLS = 8
"""Of fewer cells two columns may agree by chance, and rounding hides what they are."""
PROPORTIONAL = 0.005
"""Largest deviation of a ratio from its median. Two measured columns differ by a per cent and more in some cell."""
MIN_RANGE = 1.2
"""A column must vary by this for its ratio to another to say anything."""
SKIP_SHARE = 0.5
"""A skip executes nothing: one that costs over half of the cheapest block holds what surrounds it, or another's figure."""
COPY_FLOOR = 2.0
"""A copy that costs less than twice the cheapest cell is a runtime's call and little else, as is a small block."""
TOO_FAST = 3.0
"""Among layers the best rates come close to each other, since all meet the same peak of the machine."""
FAST_SHARE = 0.02
"""Only that few cells, or one, can be exceptions; more are another kind of layer."""
MANY_RUNS = 20
CONSTANT_MS = 0.2
"""Below that a clock of one microsecond's resolution may give the same figure often."""
CERTAIN = 2.0
"""Standard errors."""


def _columns(lut: Lut, context: str) -> tuple[list[Cell], dict[str, np.ndarray]]:
    """The cells of one context, and by name what was measured of them: NaN where nothing was, or only modelled."""
    cells = [without_lost_energy(cell) for layer in lut.layers(context) for cell in lut.layer_cells(layer, context)]
    found: dict[str, list[float]] = {
        "latency_ms": [cell.latency_ms.median if cell.latency_ms else np.nan for cell in cells],
        "energy_mj": [cell.energy_mj.total if cell.energy_mj and MODELLED not in cell.flags else np.nan for cell in cells],
    }
    for rail in sorted({rail for cell in cells for rail in cell.power_mw}):
        given = [np.nan if MODELLED in cell.flags else cell.power_mw.get(rail, np.nan) for cell in cells]
        found[f"power_mw of {rail}"] = given
    return cells, {name: np.array(values, dtype=float) for name, values in found.items()}


def proportional_columns(lut: Lut) -> list[Finding]:
    """Columns that are another one times a constant in every cell, or one figure for all cells."""
    findings = []
    for context in contexts(lut):
        where = where_measured(context)
        columns = {name: np.where(values > 0, values, np.nan) for name, values in _columns(lut, context)[1].items()}
        fixed = [name for name, values in columns.items() if _is_constant(values)]
        for name in fixed:
            count, value = int(np.isfinite(columns[name]).sum()), float(np.nanmedian(columns[name]))
            text = f"{name} is {value:.4g} in all {count} cells{where}"
            why = "that is a constant somebody assumed, not a measurement"
            action = f"do not use it for a budget; {anew(lut, 'measure with a power source', power=True)}"
            if name != "latency_ms":
                findings.append(Finding("warning", "constant-column", text, why, action))
        for left, right in combinations((name for name in columns if name not in fixed), 2):
            ratio = _constant_ratio(columns[left], columns[right])
            if ratio is None:
                continue
            count = int(np.isfinite(columns[left] * columns[right]).sum())
            text = f"{right} is {left} times {ratio:.4g} in all {count} cells{where} (so {left} is {right} / {ratio:.4g})"
            why = "two measurements never agree like that: one column was computed from the other and adds nothing to it"
            action = f"take a budget in one of them only; {anew(lut, 'to measure both', power=True)}"
            findings.append(Finding("warning", "proportional-columns", text, why, action))
    return findings


def _is_constant(values: np.ndarray) -> bool:
    known = values[np.isfinite(values)]
    return len(known) >= MIN_CELLS and bool(known.min() == known.max())


def _constant_ratio(left: np.ndarray, right: np.ndarray) -> float | None:
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < MIN_CELLS or left[both].max() < MIN_RANGE * left[both].min():
        return None
    ratios = right[both] / left[both]
    middle = float(np.median(ratios))
    return middle if middle > 0 and np.abs(ratios / middle - 1).max() <= PROPORTIONAL else None


def costly_skips(lut: Lut) -> list[Finding]:
    """Layers that compute nothing and cost as much as those that do, at the same place and input.

    A foreign skip executes nothing and is set against the cheapest block; a copy of ours is a kernel of its own and is set
    against the middle one, where that costs more than a call does.
    """
    cells, columns = _columns(lut, ISOLATED)
    shapes = [shape_in(cell.layer, cell.widths) for cell in cells]
    blocks: dict[object, list[int]] = defaultdict(list)
    skips: list[int] = []
    for index, cell in enumerate(cells):
        if is_skip(cell.layer):
            skips.append(index)
        else:
            blocks[place_of(cell.layer), shapes[index]].append(index)
    told = []
    worst: dict[int, Hit] = {}
    for name, values in columns.items():
        ratios = {}
        compared = 0
        for index in skips:
            others = blocks.get((place_of(cells[index].layer), shapes[index]), ())
            beside = [values[other] for other in others if values[other] > 0]
            if not beside or not values[index] > 0:
                continue
            compared += 1
            ratio = _in_blocks(values, index, np.array(beside), foreign=shapes[index] is None)
            if ratio is not None:
                ratios[index] = ratio
                words = f"{name} {values[index]:.4g} is {ratio:.2f} x the block's {values[index] / ratio:.4g}"
                if index not in worst or ratio > (1 + PROPORTIONAL) * worst[index].badness:
                    worst[index] = Hit(cells[index].layer, cells[index].widths, ratio, words)
        if ratios:
            told.append(
                f"{len(ratios)} of {compared} in {name} ({min(ratios.values()):.2f} to {max(ratios.values()):.2f} x)"
            )
    if not told:
        return []
    text = f"skips cost about as much as a block: {', '.join(told)}"
    why = "what executes nothing costs nothing: with such figures a search never leaves a block out"
    anew_too = "else measure anew, with what surrounds a block taken off" if measurable(lut) else ELSEWHERE
    action = f"leave these cells out, or ask where the table came from; {anew_too}"
    totals = Counter(cell.layer for cell in cells)
    return [Finding("warning", "costly-skips", text, why, action, places(list(worst.values()), totals))]


def _in_blocks(values: np.ndarray, index: int, blocks: np.ndarray, *, foreign: bool) -> float | None:
    """The skip's cost in blocks; None where it is as small as it should be."""
    ratio = float(values[index] / (blocks.min() if foreign else np.median(blocks)))
    if foreign:
        return ratio if ratio > SKIP_SHARE else None
    floor = COPY_FLOOR * float(np.nanmin(np.where(values > 0, values, np.nan)))
    return ratio if ratio >= 1 and values[index] > floor else None


def too_fast(lut: Lut) -> list[Finding]:
    """Cells that did far more multiply-accumulates a second than any other cell of the table."""
    findings = []
    for context in contexts(lut):
        cells = timed_cells(lut, context)
        rates: list[tuple[float, Cell]] = []
        for cell in (cell for found in cells.values() for cell in found):
            count = macs(cell.layer, cell.widths)
            if count and cell.latency_ms is not None:
                rates.append((count / cell.latency_ms.median / 1e6, cell))
        rates.sort(key=lambda item: -item[0])
        most = max(1, int(FAST_SHARE * len(rates)))
        last = next((at for at in range(most, 0, -1) if at < len(rates) and rates[at - 1][0] > TOO_FAST * rates[at][0]), 0)
        if len(rates) < MIN_CELLS or not last:
            continue
        other = rates[last][0]
        hits = [
            Hit(cell.layer, cell.widths, rate, f"{rate:.3g} G a second, {rate / other:.2g} x") for rate, cell in rates[:last]
        ]
        text = f"{last} of {len(rates)} cells{where_measured(context)} did over {TOO_FAST:g} x the multiply-accumulates"
        text = f"{text} a second of any other (at most {other:.3g} G)"
        why = "a layer cannot be that much faster than the machine is elsewhere: it was not executed, or another was"
        action = anew(lut, "check what the runtime made of it (details in the table), then")
        totals = {layer: len(found) for layer, found in cells.items()}
        findings.append(Finding("warning", "too-fast", text, why, action, places(hits, totals)))
    return findings


def powerless(lut: Lut) -> list[Finding]:
    """Cells whose power is zero, or below what the device takes at rest. A skip may well take nothing."""
    findings = []
    looked: tuple[tuple[str, str, Callable[[Cell], str | None]], ...] = (
        ("zero-power", "draw no power", _zero_rails),
        ("below-idle", "take less than the idle device, beyond the error of both", _below_idle),
    )
    for rule, words, said in looked:
        hits = []
        totals: dict[str, int] = {}
        for context in contexts(lut):
            for layer in (layer for layer in lut.layers(context) if not is_skip(layer)):
                cells = [without_lost_energy(cell) for cell in lut.layer_cells(layer, context)]
                totals[layer] = totals.get(layer, 0) + len(cells)
                hits += [Hit(layer, cell.widths, 0.0, told) for cell in cells if (told := said(cell)) is not None]
        if hits:
            text = f"{len(hits)} of {sum(totals.values())} cells {words}"
            why = "the source was not read, or not while the layer ran; an energy budget would take these for free"
            action = anew(lut, "netadapt-trt doctor says which power sources work; then", power=True)
            findings.append(Finding("warning", rule, text, why, action, places(hits, totals)))
    return findings


def _zero_rails(cell: Cell) -> str | None:
    # One rail of several may rest; all together cannot.
    return f"0 mW on {', '.join(cell.power_mw)}" if cell.power_mw and not any(cell.power_mw.values()) else None


def _below_idle(cell: Cell) -> str | None:
    energy = cell.energy_mj
    if energy is None or energy.dynamic is None or MODELLED in cell.flags:
        return None
    doubt = CERTAIN * (energy.stderr if energy.stderr is not None else 0.05 * energy.total)
    return f"{energy.dynamic:.3g} mJ above idle, of {energy.total:.3g}" if energy.dynamic < -doubt else None


def constants(lut: Lut) -> list[Finding]:
    """Cells whose p10 equals their p90 over many runs.

    Not within networks: such a cell is a share of the network's median, which has no spread of its own.
    """
    findings = []
    for context in (found for found in contexts(lut) if found != IN_NETWORK):
        cells = timed_cells(lut, context)
        hits = [
            Hit(cell.layer, cell.widths, stats.n, f"{stats.median:.4g} ms in {stats.n} runs")
            for found in cells.values()
            for cell in found
            if (stats := cell.latency_ms) is not None
            and stats.p10 == stats.p90
            and stats.n >= MANY_RUNS
            and stats.median > CONSTANT_MS
        ]
        if hits:
            totals = {layer: len(found) for layer, found in cells.items()}
            text = f"{len(hits)} of {sum(totals.values())} cells{where_measured(context)} took the same time in every run"
            why = "real runs scatter: these figures come from a formula or were filled in"
            action = f"rehearse with them; {anew(lut, 'decide with measured ones')}"
            findings.append(Finding("warning", "constant-cells", text, why, action, places(hits, totals)))
    return findings
