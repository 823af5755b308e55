"""Tables whose cells are blocks by name or by place: imported LUTs, and HANNA's text files as they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.blocks import is_block_key, read_block_table
from netadapt_trt.lut.importers.hanna import read_numbers
from netadapt_trt.lut.importers.hanna_checks import doubts
from netadapt_trt.space.schema import SKIP
from netadapt_trt.space.table import SpaceTable, free_skips

if TYPE_CHECKING:
    from netadapt_trt.lut.importers.table import ForeignFile
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.space.schema import Space

__all__ = ["from_named_blocks", "from_text", "has_named_blocks", "is_text", "text_doubts"]


def has_named_blocks(lut: Lut) -> bool:
    """Whether ``lut`` was imported from a table of blocks."""
    return any(is_block_key(layer) for layer in lut.layers())


def is_text(file: ForeignFile) -> bool:
    """Whether the first line of ``file`` that is not empty begins with a number."""
    line = next((line for line in file.data[:65536].splitlines() if line.strip()), b"")
    try:
        float(line.split()[0])
    except (IndexError, ValueError):
        return False
    return True


def from_text(space: Space, file: ForeignFile, *, energy: bool) -> SpaceTable:
    """Latency in seconds, or ``energy`` in joules: a line for each place of ``space``, a number for each of its columns.

    Raises FileFormatError naming the line for what is missing, no number, or no measurement.
    """
    values = read_numbers(file, blocks=space.columns, layers=len(space.places)) * 1e3
    nothing, where = np.full(values.shape, np.nan), str(file.path)
    if energy:
        return SpaceTable(space, nothing, values, source=where, notices=_named_otherwise(file, "energy"))
    return SpaceTable(space, values, nothing, source=where, notices=_named_otherwise(file, "latency"))


def text_doubts(space: Space, latency_ms: np.ndarray, energy_mj: np.ndarray) -> tuple[str, ...]:
    """What is doubtful about numbers [places, columns] out of text tables; nothing of columns that end in no skip."""
    if space.columns[-1] != SKIP or not np.isfinite(latency_ms).all():
        return ()
    said = doubts(latency_ms, energy_mj if np.isfinite(energy_mj).all() else None, None, space.columns)
    # A text table says "no skip in this layer" by 0; here the space says so.
    return tuple(text for text in said if not re.match(r"The \w+ of skip is 0 ", text))


def _named_otherwise(file: ForeignFile, read_as: str) -> tuple[str, ...]:
    """A file whose name says that it holds the other quantity."""
    words = {"latency": r"energ|joule|power|watt", "energy": r"speed|laten|time|power|watt"}[read_as]
    if not re.search(words, file.path.name.lower()):
        return ()
    return (f"{file.path.name} is read as the table of {read_as}, as its place says, but is named otherwise",)


def from_named_blocks(space: Space, lut: Lut) -> SpaceTable:
    """The costs by name of an imported ``lut``. A skip that it says nothing of costs nothing.

    Raises CoverageError for a table of another space.
    """
    found, where = read_block_table(lut), str(lut.path or "the LUT")
    layers, columns = len(space.places), space.columns
    if (count := max(found.layers)) != layers or len(found.layers) != layers:
        raise CoverageError(
            f"{where} is of another space: it has {len(found.layers)} layers, numbered up to {count}; space {space.name} "
            f"has {layers}. Name the space it was measured for, or measure this one: netadapt-trt search profile"
        )
    lacking = [name for name in columns if name not in found.blocks and name != SKIP]
    if lacking:
        raise CoverageError(
            f"{where} is of another space: it lacks the blocks {', '.join(lacking[:8])} of space {space.name} (it has "
            f"{', '.join(found.blocks[:12])}); name the space it was measured for, or measure this one"
        )
    latency, energy = (np.full((layers, len(columns)), np.nan) for _ in range(2))
    for column, name in enumerate(columns):
        if name in found.blocks:
            latency[:, column] = found.latency_ms[:, found.blocks.index(name)]
            energy[:, column] = found.energy_mj[:, found.blocks.index(name)]
    notices = _said(lut)
    if SKIP in columns and SKIP not in found.blocks:
        notices = (*notices, f"{where} says nothing of {SKIP}: it costs nothing here")
    has_energy = bool(np.isfinite(energy).any())
    return SpaceTable(
        space,
        free_skips(space, latency) if np.isfinite(latency).any() else latency,
        free_skips(space, energy) if has_energy else energy,
        source=where,
        notices=notices,
        identity=lut.identity,
    )


def _said(lut: Lut) -> tuple[str, ...]:
    """What was doubtful at the import; the session keeps it."""
    found = [
        str(value)
        for session in lut.sessions.values()
        for name, value in session.settings.items()
        if name.startswith("notice_") and value
    ]
    return tuple(dict.fromkeys(found))
