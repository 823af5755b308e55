"""An external power meter that writes a table: seconds and watts.

The header names ``time_s`` and one of ``power_w`` and ``power_mw``; other columns are ignored. Separator: a comma, a tab or
a semicolon (with a semicolon, decimal commas are read too). Lines that start with ``#`` are comments. The meter's clock is
not ours: ``offset_s`` is what must be added to ``time_s`` to get this machine's monotonic seconds.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
import time
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import EXTERNAL
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["CsvMeter", "read_meter"]

_COLUMNS_MW = {"power_w": 1000.0, "power_mw": 1.0}
_STALE_INTERVALS = 3.0
_SILENT_S = 5.0  # and ten intervals: after that the meter has stopped
_ASSUMED_INTERVAL_S = 0.1


class _Table:
    """Rows of a meter's file as they come; a last line without newline is not a row yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tail = b""
        self._line = 0
        self._split: Callable[[str], list[str]] | None = None
        self._time_column = self._power_column = 0
        self._scale = 1.0
        self.times_s: list[float] = []
        self.power_mw: list[float] = []

    @property
    def has_header(self) -> bool:
        return self._split is not None

    def feed(self, data: bytes) -> int:
        """Take more of the file; how many rows that made. Raises PowerError for a line that is no row."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        before = len(self.times_s)
        for raw in lines:
            self._line += 1
            text = raw.decode("utf-8-sig" if self._line == 1 else "utf-8", errors="replace").strip()
            if not text or text.startswith("#"):
                continue
            if self._split is None:
                self._header(text)
            else:
                self._row(text, self._split)
        return len(self.times_s) - before

    def _header(self, text: str) -> None:
        separator = next((mark for mark in "\t;" if mark in text), ",")
        names = [name.strip().strip('"').lower() for name in text.split(separator)]
        powers = [name for name in names if name in _COLUMNS_MW]
        if "time_s" not in names or len(powers) != 1:
            raise PowerError(
                f"csv: {self._path} line {self._line} must name the columns time_s and one of power_w and power_mw; "
                f"found {', '.join(names)[:200]}. Rename the columns of the meter's file"
            )
        self._time_column, self._power_column = names.index("time_s"), names.index(powers[0])
        self._scale = _COLUMNS_MW[powers[0]]
        comma = separator == ";"
        self._split = lambda line: (line.replace(",", ".") if comma else line).split(separator)

    def _row(self, text: str, split: Callable[[str], list[str]]) -> None:
        fields = [field.strip().strip('"') for field in split(text)]
        try:
            moment, power = float(fields[self._time_column]), float(fields[self._power_column]) * self._scale
        except (IndexError, ValueError):
            moment = power = math.nan
        if not (math.isfinite(moment) and math.isfinite(power)):
            raise PowerError(
                f"csv: {self._path} line {self._line} is not a row of numbers: {text[:80]!r}; mend or remove it"
            )
        if self.times_s and moment <= self.times_s[-1]:
            raise PowerError(
                f"csv: {self._path} line {self._line}: time_s goes from {self.times_s[-1]:g} to {moment:g}; times must rise"
            )
        self.times_s.append(moment)
        self.power_mw.append(power)

    def interval_s(self) -> float:
        """Middle distance of the last rows, seconds."""
        last = self.times_s[-50:]
        steps = [after - before for before, after in itertools.pairwise(last)]
        return statistics.median(steps) if steps else _ASSUMED_INTERVAL_S


def read_meter(path: Path, *, offset_s: float = 0.0) -> Trace:
    """A finished file as a trace with the one rail ``external``; ``offset_s`` is added to its times.

    Raises PowerError for a file that is missing, has no rows, or holds a line that is none; a torn last line is left out.
    """
    table = _Table(path)
    try:
        table.feed(path.read_bytes())
    except OSError as error:
        raise PowerError(f"csv: {path} cannot be read: {error.strerror or error}; check the name") from error
    if not table.times_s:
        raise PowerError(f"csv: {path} has no rows; let the meter write first")
    times = np.array(table.times_s) + offset_s
    return Trace(times, (EXTERNAL,), np.array(table.power_mw)[:, None])


class CsvMeter:
    """A meter's file as it grows, or, with ``offset_s``, any file whose clock was brought to ours.

    Without an offset the newest row is now, so the meter's delay shifts every sample by as much.
    """

    name = "csv"
    scope: Scope = "external"
    counts_energy = False
    step_mw = None
    time_constant_s = 0.0
    rails = (EXTERNAL,)

    def __init__(self, path: Path, *, offset_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._offset_s = offset_s
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._table = _Table(path)
        self._grown_s = 0.0

    @property
    def interval_s(self) -> float:
        """Middle distance of the last rows, seconds; a tenth of a second before there are two."""
        return self._table.interval_s()

    def __enter__(self) -> Self:
        """Open the file and read what is there. Raises PowerError when it is missing or has no header yet."""
        self._table = _Table(self._path)
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise PowerError(
                f"csv: {self._path} cannot be opened: {error.strerror or error}; start the meter first, check the name"
            ) from error
        self._grown_s = self._clock()
        try:
            self._grow()
            if not self._table.has_header:
                raise PowerError(f"csv: {self._path} has no header line yet; start the meter first")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _grow(self) -> None:
        if self._file is None:
            raise PowerError("csv: it was read before it was entered; use it as a context manager")
        try:
            if self._path.stat().st_size < self._file.tell():
                raise PowerError(f"csv: {self._path} became shorter while measuring; the meter must append to its file")
            fresh = self._table.feed(self._file.read())
        except OSError as error:
            raise PowerError(f"csv: {self._path} is gone ({error.strerror or error}); start the meter again") from error
        if fresh:
            self._grown_s = self._clock()

    def read(self) -> dict[str, float] | None:
        """Power of the row for this moment, mW; None when the meter is late by three intervals.

        Raises PowerError when the meter has stopped writing, or its file is gone or malformed.
        """
        self._grow()
        now, interval = self._clock(), self.interval_s
        times = self._table.times_s
        if self._offset_s is None:
            index, age = len(times) - 1, now - self._grown_s
        else:
            index = bisect.bisect_right(times, now - self._offset_s) - 1
            age = now - self._offset_s - times[index] if index >= 0 else 0.0
        if age > max(_SILENT_S, 10.0 * interval) and index == len(times) - 1:
            raise PowerError(
                f"csv: {self._path} has had no new row for {age:.1f} s; check the meter. For a finished file give the "
                "offset between its clock and this one"
            )
        if index < 0 or age > _STALE_INTERVALS * interval:
            return None
        return {EXTERNAL: self._table.power_mw[index]}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Close the file; the meter keeps writing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def details(self) -> dict[str, Any]:
        """The file, its interval and the offset between the clocks."""
        return {
            "source": self.name,
            "scope": self.scope,
            "file": self._path.name,
            "interval_s": self.interval_s,
            "offset_s": self._offset_s,
            "board": EXTERNAL + " meter",
            "total": [EXTERNAL],
            "step_mw": self.step_mw,
            "time_constant_s": self.time_constant_s,
        }
