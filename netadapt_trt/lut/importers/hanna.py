"""HANNA's text tables: a line per layer of its supernet, a number per block, latency and energy in files of their own.

FBNet's search with an energy term (HANNA, a course project of 2019) has 22 searchable layers with nine blocks each. Its
tables hold bare numbers: what a column is follows from the order of the blocks in its code, units from its report.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.blocks import block_key
from netadapt_trt.lut.importers.hanna_checks import doubts
from netadapt_trt.lut.importers.table import UNITS, Imported, above_idle, identity_of, latency_once
from netadapt_trt.lut.schema import Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.importers.table import Conditions, ForeignFile

__all__ = ["BLOCKS", "LAYERS", "SKIP", "import_hanna", "read_numbers"]

BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""The columns: kernel, expansion, groups of the 1x1 convolutions. The order is that of FBNet's own block list."""
SKIP = "skip"
LAYERS = 22
_HIGHEST = 1e9
_RAIL = "supply"


def read_numbers(file: ForeignFile, *, blocks: Sequence[str] = BLOCKS, layers: int = LAYERS) -> np.ndarray:
    """The numbers of one file: float array [layers, blocks], in the file's unit. A :data:`SKIP` among the blocks may be 0.

    Raises FileFormatError naming the line for a missing row or column, text, NaN, infinity, a negative or absurd number.
    """
    try:
        lines = file.data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        number = file.data.count(b"\n", 0, error.start) + 1
        raise FileFormatError(f"{file.path} line {number}: not plain text; a table of numbers was expected") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, words in rows[: layers + 1]:
        if len(words) != len(blocks):
            raise FileFormatError(
                f"{file.path} line {number}: {len(words)} columns; a line has {len(blocks)}, one for each of "
                f"{', '.join(blocks)}. Complete the line, or import it as the format it is"
            )
    if len(rows) != layers:
        last = rows[min(len(rows), layers + 1) - 1][0] if rows else 1
        raise FileFormatError(
            f"{file.path} line {last}: the table has {len(rows)} rows; it needs {layers}, one for each searchable layer"
        )
    return np.array(
        [[_value(file, number, column, blocks[column], word) for column, word in enumerate(words)] for number, words in rows]
    )


def _value(file: ForeignFile, number: int, column: int, block: str, word: str) -> float:
    where = f"{file.path} line {number}, column {column + 1} ({block})"
    try:
        value = float(word)
    except ValueError as error:
        raise FileFormatError(f"{where}: {word[:40]!r} is not a number; mend the table") from error
    if not math.isfinite(value) or not 0 <= value <= _HIGHEST:
        raise FileFormatError(f"{where}: {word[:40]} cannot be a measurement; mend the table, or measure that block again")
    if value == 0 and block != SKIP:
        raise FileFormatError(f"{where}: a block that costs nothing was not measured; measure it again")
    return value


def import_hanna(
    latency: ForeignFile, energy: ForeignFile | None, power: ForeignFile | None, conditions: Conditions
) -> Imported:
    """One cell a block: latency (seconds unless ``conditions.unit`` says else), energy (joules), power (watts) where given.

    A skip of 0 J or 0 s has no such value in the LUT: a table can say "no skip in this layer" in no other way, and a LUT
    holds what was measured. Raises FileFormatError as :func:`read_numbers`.
    """
    if conditions.batch not in (None, 1):
        raise FileFormatError(f"--batch {conditions.batch}: HANNA times one picture at a time; leave --batch out")
    latency_ms = read_numbers(latency) * UNITS[conditions.unit or "s"]
    energy_mj = None if energy is None else read_numbers(energy) * 1e3
    power_mw = None if power is None else read_numbers(power) * 1e3
    cells = []
    for layer in range(LAYERS):
        for column, block in enumerate(BLOCKS):
            at = layer, column
            joules = 0.0 if energy_mj is None else float(energy_mj[at])
            if latency_ms[at] == 0 and joules == 0:
                continue
            cells.append(
                Cell(
                    layer=block_key(layer + 1, block),
                    widths=(),
                    session="",
                    latency_ms=latency_once(float(latency_ms[at])) if latency_ms[at] else None,
                    energy_mj=above_idle(joules) if joules else None,
                    power_mw={} if power_mw is None or not power_mw[at] else {_RAIL: round(float(power_mw[at]), 6)},
                )
            )
    settings: dict[str, str | float | None] = {"format": "hanna", "latency_file_unit": conditions.unit or "s"}
    if energy is not None:
        settings["energy_is"] = (
            "above idle (the authors' method: volts times the current above that at rest, times the time)"
        )
    return Imported(
        identity=identity_of(conditions, backend="pytorch", runtime="pytorch", precision="fp32", batch=1),
        cells=tuple(cells),
        notices=tuple(doubts(latency_ms, energy_mj, power_mw, BLOCKS)),
        settings=settings,
    )
