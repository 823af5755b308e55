"""The run directory: what a run knows, on disk, so that a kill at any moment costs at most the proposals under way.

``run.json`` is written once. ``history.jsonl`` only grows, a line at a time, each on the disk before the run goes on; a torn
last line (a kill while writing) is cut off on opening. One process holds the directory (``run.lock``).
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import append_line, check_header, exclusive_lock, read_document, write_atomic, write_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["History", "Record", "RunDirectory", "create_run", "open_run", "refuse_existing"]

Record = dict[str, Any]
"""One line of the history; its ``type`` says which."""

_RUN_FORMAT, _HISTORY_FORMAT, _VERSION = "netadapt-run", "netadapt-history", 1
_PACKAGES = ("netadapt-trt", "torch", "torchvision", "onnx", "onnxruntime", "numpy")


class History:
    """The lines of ``history.jsonl``. Appending adds ``wall_s``, the seconds since the line before it in this process."""

    def __init__(self, path: Path, records: list[Record]) -> None:
        self._path = path
        self._records = records
        self._last_ns = time.perf_counter_ns()

    @property
    def records(self) -> tuple[Record, ...]:
        """All lines after the header, in the order they were written."""
        return tuple(self._records)

    def of(self, kind: str, **values: Any) -> list[Record]:
        """Lines of one type whose named entries have these values."""
        return [
            record
            for record in self._records
            if record.get("type") == kind and all(record.get(key) == value for key, value in values.items())
        ]

    def append(self, kind: str, **content: Any) -> Record:
        """Write a line and wait until it is on the disk. Raises OSError when the disk is full."""
        now = time.perf_counter_ns()
        record = {"type": kind, **content, "wall_s": round((now - self._last_ns) / 1e9, 3)}
        append_line(self._path, json.dumps(record, allow_nan=False))
        self._last_ns = now
        self._records.append(record)
        return record

    def seconds(self) -> float:
        """Wall time of all lines together, over every process that worked on the run."""
        return float(sum(record.get("wall_s", 0.0) for record in self._records))


class RunDirectory:
    """An open, locked run directory; ``facts`` is what its run.json holds beside the arguments."""

    def __init__(self, path: Path, settings: AdaptSettings, history: History, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.history = history
        self.facts = facts

    def iteration(self, number: int) -> Path:
        """Where the network decided in that iteration lies; 0 is the uncut one."""
        return self.path / f"iter-{number:03d}"

    def proposals(self, number: int) -> Path:
        """Where the proposals of that iteration lie until its decision."""
        return self.iteration(number) / "proposals"


def refuse_existing(path: Path) -> None:
    """Raise FileFormatError where ``path`` already holds a run."""
    if (path / "run.json").exists():
        raise FileFormatError(f"{path} already holds a run; continue it with --resume {path}, or choose another directory")


@contextlib.contextmanager
def create_run(settings: AdaptSettings, facts: Mapping[str, Any] | None = None) -> Iterator[RunDirectory]:
    """Start a run in ``settings.output`` and hold it; ``facts`` go into its run.json beside the arguments.

    Raises:
        FileFormatError: the directory already holds a run.
        LockedError: another process is working there.
    """
    path = settings.output
    path.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(path / "run.lock", what=f"the run {path}"):
        if (path / "run.json").exists():
            raise FileFormatError(
                f"{path} already holds a run; continue it with --resume {path}, or choose another directory"
            )
        # The history comes first: a run.json promises that a history is there.
        write_atomic(path / "history.jsonl", json.dumps({"format": _HISTORY_FORMAT, "version": _VERSION}) + "\n")
        content = {"arguments": settings.to_json(), "seed": settings.seed, "versions": _versions(), **(facts or {})}
        write_document(path / "run.json", format=_RUN_FORMAT, version=_VERSION, content=content)
        yield RunDirectory(path, settings, _read_history(path / "history.jsonl"), facts or {})


@contextlib.contextmanager
def open_run(path: Path, overrides: Mapping[str, Any] | None = None) -> Iterator[RunDirectory]:
    """Open an existing run and hold it; ``overrides`` replace settings for this process only.

    Raises:
        FileFormatError: it is no run, or a line other than the last is damaged.
        LockedError: another process is working there.
        SpecError: its settings were written by another version.
    """
    if not (path / "run.json").is_file():
        raise FileFormatError(f"{path} is not a run directory (no run.json in it); give the directory that adapt -o wrote")
    with exclusive_lock(path / "run.lock", what=f"the run {path}"):
        document = read_document(path / "run.json", format=_RUN_FORMAT, version=_VERSION)
        if not isinstance(document.get("arguments"), dict):
            raise FileFormatError(f"{path / 'run.json'} holds no arguments; it is damaged")
        settings = replace(AdaptSettings.from_json(document["arguments"]), output=path, **(overrides or {}))
        yield RunDirectory(path, settings, _read_history(path / "history.jsonl"), document)


def _read_history(path: Path) -> History:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist; the run directory is damaged") from error
    whole, _, torn = content.rpartition(b"\n")
    if torn:
        write_atomic(path, whole + b"\n" if whole else b"")
    rows = whole.split(b"\n") if whole else []
    if not rows:
        raise FileFormatError(f"{path} is empty; the run directory is damaged")
    lines = [_parse(row, number, path) for number, row in enumerate(rows, 1)]
    check_header(lines[0], where=str(path), format=_HISTORY_FORMAT, version=_VERSION)
    return History(path, lines[1:])


def _parse(row: bytes, number: int, path: Path) -> Record:
    try:
        record = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}, line {number}, is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise FileFormatError(f"{path}, line {number}: a JSON object was expected")
    return record


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
