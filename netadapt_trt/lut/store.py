"""A LUT in memory and on disk: read whole, appended line by line, never rewritten in place.

Appending holds an flock on the LUT file itself, so that no stray lock file is left beside data that is handed around; it
is never replaced while it is written, which is what makes that safe. Every line is on the disk before ``append`` returns.
A kill can only leave an unfinished last line; the next writer drops it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netadapt_trt.errors import FileFormatError, IdentityError, LockedError
from netadapt_trt.files import shown, write_atomic
from netadapt_trt.lut.fields import parse_object
from netadapt_trt.lut.packed import read_table_bytes, refuse_packed
from netadapt_trt.lut.schema import (
    ENERGY_FLAGS,
    FORMAT,
    ISOLATED,
    Cell,
    NetworkLine,
    Record,
    ReferenceLine,
    Session,
    format_header,
    format_record,
    parse_header,
    parse_record,
    trusted,
    without_lost_energy,
)
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Identity

__all__ = ["Lut", "LutWriter", "merge_luts", "parse_lut", "read_lut", "require_identity", "stored_identity"]

CellKey = tuple[str, tuple[int, ...], str]


class Lut:
    """All lines of one table, and the cells they add up to.

    ``torn`` says that the file ended in an unfinished line, which was ignored. Of several lines for one cell the latest
    without flags wins, a flagged one counts only alone; latency and energy are decided separately, so that a line with
    energy alone completes a cell.
    """

    def __init__(self, identity: Identity, path: Path | None = None) -> None:
        self.identity = identity
        self.path = path
        self.torn = False
        self.sessions: dict[str, Session] = {}
        self.cells: list[Cell] = []
        self.references: list[ReferenceLine] = []
        self.networks: list[NetworkLine] = []
        self._latency: dict[CellKey, Cell] = {}
        self._energy: dict[CellKey, Cell] = {}
        self._by_layer: dict[tuple[str, str], dict[tuple[int, ...], None]] = {}

    def add(self, record: Record) -> None:
        """Take one more line in.

        Raises:
            ValueError: a session that is there already, or a line of a session that is not.
        """
        if isinstance(record, Session):
            if record.id in self.sessions:
                raise ValueError(f"session {record.id!r} appears twice")
            self.sessions[record.id] = record
            return
        if record.session not in self.sessions:
            raise ValueError(f"session {record.session[:60]!r} has not been introduced")
        match record:
            case Cell():
                self._add_cell(record)
            case ReferenceLine():
                self.references.append(record)
            case NetworkLine():
                self.networks.append(record)

    def _add_cell(self, cell: Cell) -> None:
        self.cells.append(cell)
        key = (cell.layer, cell.widths, cell.context)
        energy = without_lost_energy(cell).energy_mj
        for index, value in ((self._latency, cell.latency_ms), (self._energy, energy)):
            if value is not None and (key not in index or index[key].flags or not cell.flags):
                index[key] = cell
        self._by_layer.setdefault((cell.layer, cell.context), {})[cell.widths] = None

    def cell(self, layer: str, widths: Sequence[int], context: str = ISOLATED) -> Cell | None:
        """What is known of this layer at these widths, from all its lines; None when nothing is."""
        key = (layer, tuple(widths), context)
        latency, energy = self._latency.get(key), self._energy.get(key)
        if energy is None:
            return latency and without_lost_energy(latency)
        if latency is None or latency is energy:
            return energy
        # What was said against the energy of the one line says nothing against that of the other.
        flags = tuple(dict.fromkeys([*(flag for flag in latency.flags if flag not in ENERGY_FLAGS), *energy.flags]))
        return replace(latency, energy_mj=energy.energy_mj, power_mw=energy.power_mw, flags=flags)

    def layers(self, context: str = ISOLATED) -> list[str]:
        """Keys of all layers with a cell, in the order they came."""
        return [layer for layer, where in self._by_layer if where == context]

    def layer_cells(self, layer: str, context: str = ISOLATED) -> list[Cell]:
        """The completed cells of one layer, one per widths."""
        found = (self.cell(layer, widths, context) for widths in self._by_layer.get((layer, context), ()))
        return [cell for cell in found if cell is not None]

    def network(self, plan: str, widths: Mapping[str, int], *, energy: bool = False) -> NetworkLine | None:
        """The latest whole-network measurement of this plan hash at these widths (given in the plan's order), or None.

        One under which the device moved counts only alone, an energy with missing readings not at all. Widths are compared
        by position: plans of equal hash may name their groups differently.
        """
        wanted, doubtful = tuple(widths.values()), None
        for line in reversed(self.networks):
            value = without_lost_energy(line).energy_mj if energy else line.latency_ms
            if line.plan == plan and value is not None and tuple(line.widths.values()) == wanted:
                if trusted(line):
                    return line
                doubtful = doubtful or line
        return doubtful

    def timed(self, layer: str, widths: Sequence[int], context: str = ISOLATED) -> Cell | None:
        """The one line that the latency of :meth:`cell` is from, with that line's own flags; None when there is none."""
        return self._latency.get((layer, tuple(widths), context))


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    *lines, tail = data.split(b"\n")
    return lines, tail


def _complete(tail: bytes) -> bool:
    """Whether a last line without newline is whole. A JSON object has no proper prefix that is one."""
    try:
        parse_object(tail)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _naming_line(path: Path, number: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise FileFormatError(f"{path} line {number}: {error}; remove or restore that line") from error


def parse_lut(data: bytes, path: Path) -> Lut:
    """The table in ``data``; ``path`` is where it came from, for messages. Raises as :func:`read_lut`."""
    lines, tail = _split(data)
    torn = bool(tail) and not _complete(tail)
    if tail and not torn:
        lines.append(tail)
    if not lines:
        raise FileFormatError(f"{path} is not a {FORMAT} file: it has no complete first line; profile into a new file")
    _refuse_other_document(data, path)
    with _naming_line(path, 1):
        lut = Lut(parse_header(parse_object(lines[0]), where=str(path)), path)
    for number, line in enumerate(lines[1:], start=2):
        with _naming_line(path, number):
            lut.add(parse_record(parse_object(line)))
    lut.torn = torn
    return lut


def _refuse_other_document(data: bytes, path: Path) -> None:
    """A file of ours of another kind is JSON over many lines; "line 1 is not JSON" would send people looking there."""
    if data.startswith(b'{"'):
        return
    try:
        kind = json.loads(data).get("format")
    except (ValueError, RecursionError, AttributeError):
        return
    raise FileFormatError(f"{path} is not a LUT: it is a JSON document of format {shown(kind)}; name a .lut.jsonl file")


def read_lut(path: Path | str) -> Lut:
    """The whole table, also a compressed one (``.gz``). An unfinished last line is ignored (and remembered in ``torn``).

    Raises:
        FileFormatError: no such file, another format, or a bad line (its number is named). TooOldError, TooNewError.
    """
    path = Path(path)
    return parse_lut(read_table_bytes(path), path)


def stored_identity(path: Path | str) -> Identity | None:
    """The identity of the LUT at ``path``; None where there is none yet. Raises FileFormatError as :func:`read_lut`."""
    path = Path(path)
    if not path.exists() or _header_is_torn(read_table_bytes(path)):
        return None
    return read_lut(path).identity


def _header_is_torn(data: bytes) -> bool:
    """An empty file, or one that holds nothing but the beginning of our own first line.

    Only such a file may be started anew: a file of any other content, named by mistake, is left alone.
    """
    start = f'{{"format": "{FORMAT}"'.encode()
    return b"\n" not in data and not _complete(data) and (data.startswith(start) or start.startswith(data))


def require_identity(mine: Identity, theirs: Identity, *, where: str) -> None:
    """Raises IdentityError naming every key that differs and both values."""
    differences = mine.differences(theirs)
    if differences:
        text = "; ".join(f"{key}: the LUT has {old!r}, this run {new!r}" for key, old, new in differences)
        raise IdentityError(f"{where} was measured under other conditions ({text}); use another --lut file for this run")


class LutWriter:
    """Appends to the LUT at ``path``; makes it when there is none. A context manager that holds the lock.

    ``lut`` is the table as read on entering, kept up to date by :meth:`append`.

    Raises on entering:
        LockedError: another process is appending. IdentityError: it holds other conditions. FileFormatError: a bad line,
        or a compressed file.
    """

    def __init__(self, path: Path | str, identity: Identity, *, progress: Progress = QUIET) -> None:
        self.path = Path(path)
        self.identity = identity
        self.lut = Lut(identity, self.path)
        self._progress = progress
        self._file = -1
        self._size = 0

    def __enter__(self) -> LutWriter:
        refuse_packed(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_locked(self.path)
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1

    def _open(self) -> None:
        with os.fdopen(os.dup(self._file), "rb") as file:
            data = file.read()
        if _header_is_torn(data):
            os.ftruncate(self._file, 0)
            self._write(format_header(self.identity).encode() + b"\n")
            return
        self.lut = parse_lut(data, self.path)
        require_identity(self.lut.identity, self.identity, where=str(self.path))
        self._size = len(data)
        _, tail = _split(data)
        if self.lut.torn:
            self._size -= len(tail)
            os.ftruncate(self._file, self._size)
            self.lut.torn = False
            self._progress.notice(
                f"{self.path}: the last line was unfinished ({len(tail)} bytes, an interrupted run) and has been dropped"
            )
        elif tail:
            self._write(b"\n")

    def append(self, *records: Record) -> None:
        """Write these lines in one go and wait until they are on the disk.

        Raises:
            OSError: the disk is full or gone; the file keeps everything that was in it before.
            ValueError: a line of an unknown session, or one that would not be read back.
        """
        lines = [format_record(record).encode() for record in records]
        for line in lines:
            self.lut.add(parse_record(parse_object(line)))
        self._write(b"".join(line + b"\n" for line in lines))

    def _write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            hint = "free some space and run" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "run"
            reason = f"{error.strerror}; what was measured before is kept: {hint} the same command again"
            raise OSError(error.errno, reason, str(self.path)) from error
        self._size += len(data)


def _open_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A merge may have put a new file in this place between opening and locking.
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
            os.close(file)
        except FileNotFoundError:
            os.close(file)
        except OSError as error:
            os.close(file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise LockedError(
                f"{path} is being written by another process; wait until that one has finished, or stop it"
            ) from error


def merge_luts(sources: Sequence[Path | str], output: Path | str) -> Lut:
    """Combine tables of one identity into ``output`` (which may be one of them); equal lines are kept once.

    Lines keep their sessions; keys this version does not know are dropped. Sessions come in the order of their dates, each
    followed by its lines, so that "the latest line wins" means the latest measurement, whatever the order of ``sources``.

    Raises:
        IdentityError: the tables differ in their conditions. FileFormatError: a bad line, or two sessions of one id.
        LockedError: ``output`` is being written.
    """
    tables = [read_lut(path) for path in sources]
    if not tables:
        raise FileFormatError("nothing to merge: name at least one LUT")
    output = Path(output)
    refuse_packed(output)
    sessions: dict[str, Session] = {}
    lines: dict[str, dict[str, Record]] = {}
    for table in tables:
        differences = tables[0].identity.differences(table.identity)
        if differences:
            told = "; ".join(f"{key}: {one!r} and {other!r}" for key, one, other in differences)
            raise IdentityError(
                f"{tables[0].path} and {table.path} were measured under different conditions ({told}) and stay apart; "
                f"merge only tables of one device, runtime and precision"
            )
        for session in table.sessions.values():
            if sessions.setdefault(session.id, session) != session:
                raise FileFormatError(f"{table.path}: session {session.id!r} differs from the one in another file")
        for record in _records(table):
            lines.setdefault(record.session, {}).setdefault(format_record(record), record)
    merged = Lut(tables[0].identity, output)
    text = [format_header(merged.identity)]
    for session in sorted(sessions.values(), key=lambda item: item.date):
        merged.add(session)
        text.append(format_record(session))
        for line, measured in lines.get(session.id, {}).items():
            merged.add(measured)
            text.append(line)
    with _held(output):
        write_atomic(output, "\n".join(text) + "\n")
    return merged


def _records(table: Lut) -> Iterator[Cell | ReferenceLine | NetworkLine]:
    yield from table.cells
    yield from table.references
    yield from table.networks


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock of the file that is about to be replaced; nothing to hold when there is none."""
    if not path.exists():
        yield
        return
    file = _open_locked(path)
    try:
        yield
    finally:
        os.close(file)
