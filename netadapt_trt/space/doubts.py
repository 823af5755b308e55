"""What to know of a table before a search believes it: how its numbers were read, what is far off, what it leaves out.

A table in a wrong unit looks like that of another device: 65 W read as 65 mW is a processor read as a sensor. So nothing is
guessed and nothing is changed; the latency and the mean power that follow from the numbers are said of every table whose
units we did not set, for those who know the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from netadapt_trt.space.schema import SKIP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netadapt_trt.space.table import SpaceTable

__all__ = ["Origin", "doubts_of"]

Origin = Literal["text", "named", "measured"]
"""A text table; a LUT of named blocks, imported from another's file; a LUT that was measured for the space."""

_LUT = "milliseconds", "millijoules"
_UNITS = {"text": ("seconds", "joules"), "named": _LUT, "measured": _LUT}
_USUAL_W = (0.5, 200.0)
"""Mean power of most devices that networks are searched for, from a board to a processor or a graphics card."""

_SLOW_S = 0.3
"""A text table in seconds under which a network takes more is that of a slow device, or one in milliseconds."""

_FAR = 2.0
"""Decades from the others beyond which a row, a column or a cell is named."""
_NAMED = 5


def doubts_of(table: SpaceTable, latency: Origin, energy: Origin) -> tuple[str, ...]:
    """Sentences about ``table``, the most important first. ``latency`` and ``energy``: where these numbers come from."""
    return (
        *_units(table, latency, energy),
        *_far_off(table, "latency", table.latency_ms),
        *(_far_off(table, "energy", table.energy_mj) if table.has_energy else ()),
        *_left_out(table),
    )


def _units(table: SpaceTable, latency: Origin, energy: Origin) -> Iterator[str]:
    seconds, (time_unit, _), (_, energy_unit) = _seconds(table), _UNITS[latency], _UNITS[energy]
    if not table.has_energy:
        if latency != "measured":
            slow = latency == "text" and seconds > _SLOW_S
            unsure = ". If the file is in milliseconds that is 1000 times too much; nothing was changed" if slow else ""
            yield f"LAT {seconds:.4g} s (all blocks alike): read as {time_unit}; compare it with your device{unsure}"
        return
    joules = table.expected_energy(table.uniform()) / 1e3
    watts = joules / seconds
    yield (
        f"LAT {seconds:.4g} s, ENER {joules:.4g} J, mean power {watts:.4g} W (all blocks alike): read as {time_unit} and "
        f"{energy_unit}; compare them with your device"
    )
    low, high = _USUAL_W
    if not low <= watts <= high:
        yield (
            f"A UNIT MAY BE WRONG BY A THOUSAND: a mean power of {watts:.4g} W is {'less' if watts < low else 'more'} than "
            f"most devices draw ({low:g} to {high:g} W), so latency or energy may be in another unit. Nothing was changed; "
            f"convert the table if that is so"
        )


def _seconds(table: SpaceTable) -> float:
    return table.expected_latency(table.uniform()) / 1e3


def _far_off(table: SpaceTable, what: str, costs: np.ndarray) -> Iterator[str]:
    """Rows, columns and cells of ``costs`` [places, columns] a hundred times off; a skip may cost next to nothing."""
    names = [(column, name) for column, name in enumerate(table.space.columns) if name != SKIP]
    values = costs[:, [column for column, _ in names]]
    logs = np.full(values.shape, np.nan)
    np.log10(values, out=logs, where=values > 0)
    rows = _off(np.array([_middle(row) for row in logs]))
    columns = _off(np.array([_middle(column) for column in logs.T]))
    found = [f"layer {row + 1} ({_times(rows[row])} the other layers)" for row in _far(rows)]
    found += [f"block {names[column][1]} ({_times(columns[column])} the other blocks)" for column in _far(columns)]
    # A cell of a row in a wrong unit is off its column only; one that is off both stands alone. A single row or column
    # has nobody to compare with, and leaves it to the other.
    by_row, by_column = np.array([_off(row) for row in logs]), np.array([_off(column) for column in logs.T]).T
    by_row, by_column = np.where(np.isnan(by_row), by_column, by_row), np.where(np.isnan(by_column), by_row, by_column)
    nearest = np.where(np.abs(by_row) < np.abs(by_column), by_row, by_column)
    found += [
        f"{names[column][1]} in layer {row + 1} ({_times(nearest[row, column])} the rest of its row or column)"
        for row, column in np.argwhere(np.abs(nearest) > _FAR)
        if np.sign(by_row[row, column]) == np.sign(by_column[row, column])
    ]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        yield (
            f"The {what} is far off in {'; '.join(found[:_NAMED])}{more}: a unit or a digit may be wrong there. Nothing was "
            f"changed"
        )


def _middle(values: np.ndarray) -> float:
    """The median of ``values`` [n] without NaN; NaN of none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _off(values: np.ndarray) -> np.ndarray:
    """How far each of ``values`` [n] is from the median of the others."""
    return np.array([value - _middle(np.delete(values, index)) for index, value in enumerate(values)])


def _far(decades: np.ndarray) -> list[int]:
    return [int(index) for index in np.flatnonzero(np.abs(decades) > _FAR)]


def _times(decades: float) -> str:
    return f"{10 ** abs(decades):.0f} times {'above' if decades > 0 else 'below'}"


def _left_out(table: SpaceTable) -> Iterator[str]:
    if table.sums_blocks:
        words = " and ".join(table.sums_blocks)
        yield (
            f"What the first and the last layers cost is not in this table: a child's whole {words} will be larger than its "
            f"estimate"
        )
