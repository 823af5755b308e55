"""What all importers share: the files they are given, the conditions a user tells, and the LUT that comes out.

A foreign table never says everything a LUT's identity asks for. What neither the table nor the user says is "unknown" there,
not guessed; what the import found out or assumed is kept in the session.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import write_atomic
from netadapt_trt.lut.fields import parse_object
from netadapt_trt.lut.packed import is_packed, pack, unpack
from netadapt_trt.lut.schema import Session, format_header, format_record, parse_header, parse_record
from netadapt_trt.lut.store import Lut
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from netadapt_trt.lut.schema import Cell, Record
    from netadapt_trt.spec import Precision

__all__ = [
    "UNITS",
    "Conditions",
    "ForeignFile",
    "Imported",
    "above_idle",
    "identity_of",
    "latency_once",
    "read_foreign",
    "write_imported",
]

UNITS: Mapping[str, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3}
"""Milliseconds in one of each."""
MAX_FOREIGN_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file of another project: ``data`` is unpacked where it was compressed, ``digest`` is of the file as it is."""

    path: Path
    data: bytes
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the user knows about the measurements; None for what the format's own default, or "unknown", stands for.

    ``date`` is when they were taken, ``source`` and ``licence`` where they come from and what allows passing them on.
    """

    device: str
    backend: str | None = None
    runtime: str | None = None
    runtime_version: str | None = None
    provider: str | None = None
    precision: Precision | None = None
    batch: int | None = None
    threads: int | None = None
    unit: str | None = None
    activation: str = "none"
    date: str | None = None
    source: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A table that was read. ``notices`` is what there is to say about it, each a sentence; they go into the session, too.

    The cells' session is filled in when the table is written.
    """

    identity: Identity
    cells: tuple[Cell, ...]
    notices: tuple[str, ...]
    settings: Mapping[str, str | float | None] = field(default_factory=dict)


def read_foreign(path: Path) -> ForeignFile:
    """The file, unpacked where it is gzip by its first bytes. Raises FileFormatError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FOREIGN_BYTES + 1)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist; name a file to import") from error
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FOREIGN_BYTES:
        raise FileFormatError(
            f"{path} is larger than {MAX_FOREIGN_BYTES} bytes, which is more than is read from a foreign table"
        )
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(b"\x1f\x8b"):
        data = unpack(data, str(path), limit=MAX_FOREIGN_BYTES)
    return ForeignFile(path, data, digest)


def identity_of(conditions: Conditions, *, backend: str, runtime: str, precision: Precision, batch: int) -> Identity:
    """The identity, with the format's own values where the user says nothing."""
    return Identity(
        backend=conditions.backend or backend,
        device=conditions.device,
        runtime=conditions.runtime or runtime,
        runtime_version=conditions.runtime_version or "unknown",
        provider=conditions.provider or "unknown",
        precision=conditions.precision or precision,
        recipe="none" if (conditions.precision or precision) != "int8" else "unknown",
        batch=batch,
        threads=conditions.threads or 1,
    )


def _short(value: float) -> float:
    """Twelve digits: what a change of unit adds at the end is dropped, and a small value stays above 0."""
    return float(f"{value:.12g}")


def latency_once(milliseconds: float) -> LatencyStats:
    """A time of which only one figure is known: no spread, and no number of runs."""
    milliseconds = _short(milliseconds)
    return LatencyStats(median=milliseconds, p10=milliseconds, p90=milliseconds, n=1)


def above_idle(millijoules: float) -> EnergyStats:
    """An energy of which only what was used beyond idling is known: it has to stand for the total, too."""
    millijoules = _short(millijoules)
    return EnergyStats(total=millijoules, dynamic=millijoules)


def write_imported(table: Imported, files: Iterable[ForeignFile], conditions: Conditions, output: Path) -> Lut:
    """Write ``table`` as the LUT ``output``, compressed where its name ends in ``.gz``; the table as it will be read back.

    Raises:
        FileFormatError: ``output`` is there already, or a value that a LUT cannot hold. OSError: it cannot be written.
    """
    if output.exists():
        raise FileFormatError(f"{output} exists, and an import only makes new files; name another -o, or remove it")
    session = _session(table, list(files), conditions)
    lut = Lut(table.identity, output)
    records: list[Record] = [session, *(replace(cell, session=session.id) for cell in table.cells)]
    lines = [format_header(table.identity)]
    try:
        parse_header(parse_object(lines[0].encode()), where=str(output))
        for record in records:
            lines.append(format_record(record))
            lut.add(parse_record(parse_object(lines[-1].encode())))
    except ValueError as error:
        raise FileFormatError(f"a line of {output} could not be read back ({error}); nothing was written") from error
    data = ("\n".join(lines) + "\n").encode()
    write_atomic(output, pack(data) if is_packed(output) else data)
    return lut


def _session(table: Imported, files: list[ForeignFile], conditions: Conditions) -> Session:
    digest = hashlib.sha256("\n".join([*(file.digest for file in files), repr(conditions)]).encode()).hexdigest()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    settings: dict[str, str | float | None] = {
        "imported_from": ", ".join(file.path.name for file in files),
        "sha256": ", ".join(file.digest for file in files),
        "source": conditions.source or "unknown",
        "licence": conditions.licence or "unknown",
        "date_is": "as told at the import" if conditions.date else "of the import",
        "threads_is": "as said" if conditions.threads else "unknown; 1 stands for it",
        "statistic": "one figure a cell; spread and number of runs are not in the source",
        **table.settings,
    }
    settings |= {f"notice_{number}": text for number, text in enumerate(table.notices, start=1)}
    return Session(id=digest[:12], date=conditions.date or now, settings=settings)
