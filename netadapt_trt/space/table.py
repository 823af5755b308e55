"""What each block costs in each layer of a space: the numbers that a search believes.

They come from a LUT that was measured for the space (``search profile``), from an imported table of named blocks, or from
HANNA's text files as they are. What is missing or cannot be is refused; what is doubtful is kept as a notice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import CoverageError, FileFormatError, IdentityError, SpecError
from netadapt_trt.lut.importers.table import read_foreign
from netadapt_trt.lut.store import parse_lut
from netadapt_trt.space.schema import SKIP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.space.doubts import Origin
    from netadapt_trt.space.schema import Space
    from netadapt_trt.spec import Identity

__all__ = ["SpaceTable", "check_table", "free_skips", "read_tables"]

# Bounds of what can be, with room: a network of blocks on a large GPU, and HANNA's on a Raspberry Pi takes 4 s.
_NETWORK_MS = (0.02, 60_000.0)
_POWER_W = (0.02, 2_000.0)


@dataclass(frozen=True, eq=False)
class SpaceTable:
    """Costs of every block: ``latency_ms`` and ``energy_mj`` are float arrays [places, columns].

    NaN where a place does not offer a column; ``energy_mj`` is NaN throughout where nothing is known of energy.
    ``fixed_latency_ms`` and ``fixed_energy_mj`` are of stem and head, 0 in tables that leave them out. ``source`` says where
    the numbers come from, ``notices`` how they were read and what is doubtful about them, ``identity`` the conditions where
    they are known.
    """

    space: Space
    latency_ms: np.ndarray
    energy_mj: np.ndarray
    fixed_latency_ms: float = 0.0
    fixed_energy_mj: float = 0.0
    source: str = ""
    notices: tuple[str, ...] = ()
    identity: Identity | None = None

    @property
    def has_energy(self) -> bool:
        """Whether energies are known."""
        return not bool(np.isnan(self.energy_mj).all())

    @property
    def sums_blocks(self) -> tuple[str, ...]:
        """Of ``latency`` and ``energy`` those whose estimates are sums of blocks alone: stem and head cost something."""
        known = (("latency", self.fixed_latency_ms), *((("energy", self.fixed_energy_mj),) if self.has_energy else ()))
        return tuple(what for what, fixed in known if not fixed)

    def latency(self, choice: Sequence[int]) -> float:
        """Milliseconds of the child with these columns, one for each place. Raises SpecError for one that is not offered."""
        return self._sum(self.latency_ms, choice) + self.fixed_latency_ms

    def energy(self, choice: Sequence[int]) -> float:
        """Millijoules of that child; NaN without a table of energy. Raises SpecError as :meth:`latency`."""
        return self._sum(self.energy_mj, choice) + self.fixed_energy_mj if self.has_energy else math.nan

    def _sum(self, costs: np.ndarray, choice: Sequence[int]) -> float:
        from netadapt_trt.space.plan import names_of

        names_of(self.space, choice)
        return float(costs[np.arange(len(choice)), np.asarray(choice, dtype=np.int64)].sum())

    def uniform(self) -> np.ndarray:
        """Probabilities [places, columns] that favour no block: where every search starts."""
        found = np.zeros(self.latency_ms.shape)
        for row, place in enumerate(self.space.places):
            found[row, list(place.candidates)] = 1 / len(place.candidates)
        return found

    def expected_latency(self, probabilities: np.ndarray) -> float:
        """Expected milliseconds under ``probabilities`` [places, columns], which are 0 where nothing is offered."""
        return _expected(self.latency_ms, probabilities) + self.fixed_latency_ms

    def expected_energy(self, probabilities: np.ndarray) -> float:
        """Expected millijoules; NaN without a table of energy."""
        return _expected(self.energy_mj, probabilities) + self.fixed_energy_mj if self.has_energy else math.nan


def _expected(costs: np.ndarray, probabilities: np.ndarray) -> float:
    return float((np.where(np.isnan(costs), 0.0, costs) * probabilities).sum())


def read_tables(space: Space, paths: Sequence[Path | str]) -> SpaceTable:
    """The costs of ``space`` from one file, or latency from the first and energy from the second of two.

    A file is a LUT, or a text table as HANNA's: a line for each place, a number for each column, seconds in the first file
    and joules in the second.

    Raises:
        CoverageError: blocks or layers of the space that the table lacks, or a table of another space.
        FileFormatError: a file that is neither, or numbers that cannot be (negative, NaN, in a wrong unit).
        IdentityError: two LUTs of different conditions. SpecError: no file, or more than two.
    """
    files = [Path(path) for path in paths]
    if not 1 <= len(files) <= 2:
        raise SpecError(
            f"{len(files)} tables were named; name one with latency and energy, or one of latency and one of energy"
        )
    from netadapt_trt.space.doubts import doubts_of
    from netadapt_trt.space.named import text_doubts

    read = [_read(space, path, energy=number == 1) for number, path in enumerate(files)]
    if len(read) == 2 and (np.isnan(read[0][0].latency_ms).all() or not read[1][0].has_energy):
        read.reverse()  # in the order they were named, or in the only one that works
    (latency, latency_origin), (energy, energy_origin) = read[0], read[-1]
    table = check_table(latency if len(read) == 1 else _joined(latency, energy))
    doubts = doubts_of(table, latency_origin, energy_origin)
    if "text" in (latency_origin, energy_origin):
        # Before the cells of blocks that are not offered were emptied: a file says them, too.
        doubts = (*doubts, *text_doubts(space, latency.latency_ms, energy.energy_mj))
    return replace(table, notices=tuple(dict.fromkeys((*doubts, *table.notices))))


def _read(space: Space, path: Path, *, energy: bool) -> tuple[SpaceTable, Origin]:
    from netadapt_trt.space.measured import from_measured
    from netadapt_trt.space.named import from_named_blocks, from_text, has_named_blocks, is_text

    file = read_foreign(path)
    if file.data.lstrip()[:1] == b"{":
        lut = parse_lut(file.data, path)
        return (from_named_blocks(space, lut), "named") if has_named_blocks(lut) else (from_measured(space, lut), "measured")
    if is_text(file):
        return from_text(space, file, energy=energy), "text"
    raise FileFormatError(f"{path} is neither a LUT (.lut.jsonl) nor a text table of numbers; name one of these")


def _joined(first: SpaceTable, second: SpaceTable) -> SpaceTable:
    """Latency of the one, energy of the other."""
    if np.isnan(first.latency_ms).all() or not second.has_energy:
        lacking = "latency" if np.isnan(first.latency_ms).all() else "energy"
        raise CoverageError(f"neither {first.source} nor {second.source} says anything of {lacking}; name a table that does")
    if first.identity is not None and second.identity is not None and first.identity != second.identity:
        told = "; ".join(f"{key}: {one!r} and {other!r}" for key, one, other in first.identity.differences(second.identity))
        raise IdentityError(
            f"{first.source} and {second.source} were measured under different conditions ({told}); latency and energy of "
            f"one search must be of one device"
        )
    return replace(
        first,
        energy_mj=second.energy_mj,
        fixed_energy_mj=second.fixed_energy_mj,
        source=f"{first.source}, {second.source}",
        notices=tuple(dict.fromkeys((*first.notices, *second.notices))),
        identity=first.identity or second.identity,
    )


def free_skips(space: Space, costs: np.ndarray) -> np.ndarray:
    """``costs`` [places, columns] where a skip that nothing is said of costs nothing: it computes nothing."""
    found = costs.copy()
    for row, place in enumerate(space.places):
        for column in place.candidates:
            if space.columns[column] == SKIP and math.isnan(found[row, column]):
                found[row, column] = 0.0
    return found


def check_table(table: SpaceTable) -> SpaceTable:
    """``table`` with NaN wherever nothing is offered, if a search may believe it.

    Raises:
        CoverageError: a candidate without a cost. FileFormatError: a cost that cannot be, or of an impossible unit.
    """
    offered = table.uniform() > 0
    latency = np.where(offered, table.latency_ms, np.nan)
    energy = np.where(offered, table.energy_mj, np.nan)
    table = replace(table, latency_ms=latency, energy_mj=energy)
    for what, costs in (("latency", latency), *((("energy", energy),) if table.has_energy else ())):
        _complete(table, what, costs, offered)
        if (costs[offered] < 0).any() or not np.isfinite(costs[offered]).all():
            row, column = np.argwhere(offered & ~(np.isfinite(costs) & (costs >= 0)))[0]
            raise FileFormatError(
                f"{table.source}: the {what} of {table.space.columns[column]} in layer {row + 1} is {costs[row, column]}, "
                f"which cannot be a measurement; mend the table, or measure that block again"
            )
    _believable(table)
    return table


def _complete(table: SpaceTable, what: str, costs: np.ndarray, offered: np.ndarray) -> None:
    missing = np.argwhere(offered & np.isnan(costs))
    if not len(missing):
        return
    columns = table.space.columns
    shown = ", ".join(f"{columns[column]} in layer {row + 1}" for row, column in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise CoverageError(
        f"{table.source} lacks the {what} of {len(missing)} of {int(offered.sum())} blocks of space {table.space.name}: "
        f"{shown}{more}; complete it (netadapt-trt search profile measures what a LUT lacks), or name the space's own table"
    )


def _believable(table: SpaceTable) -> None:
    """Refuse what no device does: a wrong unit is off by three orders of magnitude and shows."""
    milliseconds = table.expected_latency(table.uniform())
    low, high = _NETWORK_MS
    if not low <= milliseconds <= high:
        raise FileFormatError(
            f"{table.source}: the unit of latency looks wrong: a network of average blocks would take "
            f"{milliseconds / 1e3:.3g} s ({milliseconds:.3g} ms). A text table is read in seconds, a LUT in milliseconds; "
            f"nothing was changed, convert the table (or import it with its unit: netadapt-trt lut import --unit s|ms|us)"
        )
    if not table.has_energy:
        return
    millijoules = table.expected_energy(table.uniform())
    watts = millijoules / milliseconds
    if not _POWER_W[0] <= watts <= _POWER_W[1]:
        raise FileFormatError(
            f"{table.source}: the units of latency and energy do not go together: {millijoules / 1e3:.3g} J in "
            f"{milliseconds / 1e3:.3g} s would be {watts:.3g} W. Text tables are read in seconds and joules; nothing was "
            f"changed, convert the one that is off by 1000"
        )
