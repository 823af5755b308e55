"""The run directory of a search, so that a kill at any moment costs at most the last minute.

``run.json``, ``space.json`` and ``table.json`` are written once. ``history.jsonl`` has a header and a line for each epoch;
``theta/epoch-NNN.json`` is theta after it. ``checkpoint.safetensors`` is where a search goes on from; lines of the history
beyond it are dropped then, because they are made again. One process holds the directory (``run.lock``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import (
    append_line,
    check_header,
    exclusive_lock,
    finite,
    read_document,
    shown,
    write_atomic,
    write_document,
)
from netadapt_trt.search.settings import CHANGEABLE, SearchSettings
from netadapt_trt.space.store import load_space, save_space, space_hash
from netadapt_trt.space.table import SpaceTable, check_table
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from netadapt_trt.space.schema import Space

__all__ = [
    "SearchDirectory",
    "changeable",
    "create_search",
    "open_search",
    "read_history",
    "read_search",
    "read_table",
    "refuse_existing",
    "table_digest",
    "write_table",
]

RUN_FORMAT, HISTORY_FORMAT, TABLE_FORMAT, VERSION = "netadapt-search", "netadapt-search-history", "netadapt-space-table", 1
_CLASSES = 1 << 20
_PACKAGES = ("netadapt-trt", "torch", "torchvision", "numpy")


class SearchDirectory:
    """A search on disk; ``facts`` is what its run.json holds beside the arguments."""

    def __init__(
        self, path: Path, settings: SearchSettings, space: Space, table: SpaceTable, facts: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.settings = settings
        self.space = space
        self.table = table
        self.facts = facts

    @property
    def checkpoint(self) -> Path:
        """Where the search goes on from."""
        return self.path / "checkpoint.safetensors"

    def theta(self, epoch: int) -> Path:
        """Theta after ``epoch``, counted from 1."""
        return self.path / "theta" / f"epoch-{epoch:03d}.json"

    def append(self, line: Mapping[str, Any]) -> None:
        """Add an epoch to the history. Raises OSError when the disk is full."""
        append_line(self.path / "history.jsonl", json.dumps(dict(line), allow_nan=False))

    def keep_history(self, epochs: int) -> None:
        """Drop the lines of epochs after ``epochs``, and a torn last one."""
        lines = read_history(self.path)
        kept = [line for line in lines if line.get("epoch", 0) <= epochs]
        header = json.dumps({"format": HISTORY_FORMAT, "version": VERSION})
        write_atomic(self.path / "history.jsonl", "".join(f"{text}\n" for text in (header, *map(json.dumps, kept))))


def refuse_existing(path: Path) -> None:
    """Raise FileFormatError where ``path`` already holds a run of any kind."""
    if (path / "run.json").exists():
        raise FileFormatError(f"{path} already holds a run; continue it with --resume {path}, or choose another directory")


@contextlib.contextmanager
def create_search(
    settings: SearchSettings, space: Space, table: SpaceTable, facts: Mapping[str, Any]
) -> Iterator[SearchDirectory]:
    """Start a search in ``settings.output`` and hold it; ``facts`` go into its run.json beside the arguments.

    Raises:
        FileFormatError: the directory already holds a run.
        LockedError: another process is working there.
    """
    path = settings.output
    path.mkdir(parents=True, exist_ok=True)
    with _held(path):
        refuse_existing(path)
        save_space(space, path / "space.json")
        write_table(path / "table.json", table)
        header = json.dumps({"format": HISTORY_FORMAT, "version": VERSION})
        write_atomic(path / "history.jsonl", header + "\n")
        content = {
            "arguments": settings.to_json(),
            "seed": settings.seed,
            "space_hash": space_hash(space),
            "table_digest": table_digest(table),
            "versions": _versions(),
            **facts,
        }
        write_document(path / "run.json", format=RUN_FORMAT, version=VERSION, content=content)
        yield SearchDirectory(path, settings, space, table, content)


@contextlib.contextmanager
def open_search(path: Path, overrides: Mapping[str, Any] | None = None) -> Iterator[SearchDirectory]:
    """Open an existing search and hold it; ``overrides`` replace settings for this process only.

    Raises:
        FileFormatError: it is no search, or a file in it is damaged.
        LockedError: another process is working there.
        SpecError: its settings were written by another version.
    """
    _require_search(path)
    with _held(path):
        run = read_search(path)
        run.settings = replace(run.settings, **(overrides or {}))
        yield run


def read_search(path: Path) -> SearchDirectory:
    """Open a search to read from it, also while another process works there. Raises as :func:`open_search`."""
    _require_search(path)
    document = read_document(path / "run.json", format=RUN_FORMAT, version=VERSION)
    if not isinstance(document.get("arguments"), dict):
        raise FileFormatError(f"{path / 'run.json'} holds no arguments; it is damaged")
    _check_facts(path / "run.json", document)
    settings = replace(SearchSettings.from_json(document["arguments"]), output=path)
    space = load_space(path / "space.json")
    table = read_table(path / "table.json", space)
    for what, key, found in (("space", "space_hash", space_hash(space)), ("table", "table_digest", table_digest(table))):
        if document.get(key) != found:
            raise FileFormatError(
                f"{path / f'{what}.json'} is not the {what} that the search began with; put the old file back, or start a "
                f"new search"
            )
    return SearchDirectory(path, settings, space, table, document)


def _check_facts(path: Path, document: Mapping[str, Any]) -> None:
    """What children are made from, beside the arguments. Raises FileFormatError."""
    classes, tables = document.get("num_classes", 1), document.get("tables", [])
    if not isinstance(classes, int) or not 1 <= classes <= _CLASSES:
        raise FileFormatError(f"{path} is damaged: it says that the data have {shown(classes)} classes")
    if not isinstance(tables, list) or not all(
        isinstance(each, dict) and isinstance(each.get("path"), str) for each in tables
    ):
        raise FileFormatError(f"{path} is damaged: it does not say which tables were used")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a search's history, one for each epoch done; a torn last one is left out.

    Raises:
        FileFormatError: a file that is missing or damaged.
    """
    file = path / "history.jsonl"
    try:
        whole, _, _ = file.read_bytes().rpartition(b"\n")
        lines = [json.loads(row) for row in whole.split(b"\n")] if whole else []
    except FileNotFoundError as error:
        raise FileFormatError(f"{file} does not exist; {path} is no search, or a damaged one") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{file} is damaged: {error}") from error
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise FileFormatError(f"{file} is damaged: a header and a JSON object for each epoch were expected")
    check_header(lines[0], where=str(file), format=HISTORY_FORMAT, version=VERSION)
    for number, line in enumerate(lines[1:], 2):
        if not isinstance(line.get("epoch"), int) or finite(line.get("seconds")) is None:
            raise FileFormatError(f"{file}, line {number} is damaged: it lacks its epoch or its seconds")
    return lines[1:]


def changeable(path: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``overrides``, if none of them would change what a search decides. Raises SpecError naming those that would."""
    from netadapt_trt.errors import SpecError

    fixed = sorted(set(overrides) - CHANGEABLE)
    if fixed:
        raise SpecError(f"{path} has its settings already; {', '.join(fixed)} cannot change (start a new search for that)")
    return dict(overrides)


def table_digest(table: SpaceTable) -> str:
    """16 hexadecimal digits over the costs alone."""
    rows = [_rows(table.latency_ms), _rows(table.energy_mj), table.fixed_latency_ms, table.fixed_energy_mj]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _require_search(path: Path) -> None:
    if not (path / "run.json").is_file():
        raise FileFormatError(f"{path} is not a search (no run.json in it); give the directory that search run -o wrote")


def _held(path: Path) -> contextlib.AbstractContextManager[None]:
    return exclusive_lock(path / "run.lock", what=f"the search {path}")


def write_table(path: Path, table: SpaceTable) -> None:
    """Keep ``table`` as a search uses it; :func:`read_table` reads it back."""
    content = {
        "space": table.space.name,
        "columns": list(table.space.columns),
        "latency_ms": _rows(table.latency_ms),
        "energy_mj": _rows(table.energy_mj),
        "fixed_latency_ms": table.fixed_latency_ms,
        "fixed_energy_mj": table.fixed_energy_mj,
        "source": table.source,
        "notices": list(table.notices),
        "identity": None if table.identity is None else table.identity.to_json(),
    }
    write_document(path, format=TABLE_FORMAT, version=VERSION, content=content)


def _rows(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in np.asarray(values).tolist()]


def read_table(path: Path, space: Space) -> SpaceTable:
    """What :func:`write_table` wrote for ``space``. Raises FileFormatError."""
    content = read_document(path, format=TABLE_FORMAT, version=VERSION)
    try:
        identity = content["identity"]
        table = SpaceTable(
            space=space,
            latency_ms=_array(content["latency_ms"], space),
            energy_mj=_array(content["energy_mj"], space),
            fixed_latency_ms=float(content["fixed_latency_ms"]),
            fixed_energy_mj=float(content["fixed_energy_mj"]),
            source=str(content["source"]),
            notices=tuple(str(text) for text in content["notices"]),
            identity=None if identity is None else Identity.from_json(identity),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # JSON has integers of any length
        raise FileFormatError(f"{path} is damaged: {error!r}; put the old file back, or start a new search") from error
    return check_table(table)


def _array(rows: Sequence[Sequence[float | None]], space: Space) -> NDArray[np.float64]:
    values = np.array([[math.nan if value is None else float(value) for value in row] for row in rows], dtype=np.float64)
    if values.shape != (len(space.places), len(space.columns)):
        raise ValueError(f"{values.shape} costs for {len(space.places)} places of {len(space.columns)} columns")
    return values


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
