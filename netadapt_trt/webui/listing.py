"""What lies in a workspace: one walk through its folders, which looks at so many entries and follows no link out of it."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LUT_ENDINGS", "MOST_ENTRIES", "OWN", "SMALL_BYTES", "Item", "Kind", "Listing", "Listings", "list_items"]

Kind = Literal["table", "space", "plan", "adapt", "search", "data"]

OWN = ("tables", "spaces", "runs")
"""Folders that the page itself writes to; they are looked at first, so that a crowd elsewhere never hides them."""
MOST_ENTRIES = 50_000
"""What one listing looks at, in case the workspace is somebody's home directory."""
LUT_ENDINGS = (".lut.jsonl", ".lut.jsonl.gz")
SMALL_BYTES = 1 << 20
_DEPTH = 5
_SKIPPED = frozenset({"jobs", "node_modules", "__pycache__", "site-packages"})
_RUN_FORMATS: dict[str, Kind] = {"netadapt-run": "adapt", "netadapt-search": "search"}
_KEPT_S = 3.0
_LONGEST_S = 30.0
_PATIENCE = 10
"""A listing is kept so many times as long as it took, so that a large workspace does not keep a processor busy."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be chosen. ``name`` is its path below the workspace, with slashes, and what users send back."""

    name: str
    kind: Kind
    path: Path
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that was found, by name. ``complete`` is false where there was more than one walk looks at."""

    items: tuple[Item, ...]
    complete: bool


class Listings:
    """The listing of ``root``, walked again when it is a few seconds old. Threads share it: one walks, the others wait."""

    def __init__(self, root: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._root, self._now = root, now
        self._lock = threading.Lock()
        self._latest: Listing | None = None
        self._until = 0.0

    def latest(self, *, fresh: bool = False) -> Listing:
        """What there is, as of a few seconds ago; ``fresh`` walks in any case."""
        with self._lock:
            if self._latest is None or fresh or self._now() >= self._until:
                began = self._now()
                self._latest = list_items(self._root)
                ended = self._now()
                self._until = ended + min(max(_KEPT_S, _PATIENCE * (ended - began)), _LONGEST_S)
            return self._latest

    def forget(self) -> None:
        """Something was written: the next one who asks is to see it."""
        with self._lock:
            self._latest = None


def list_items(root: Path, *, most: int = MOST_ENTRIES) -> Listing:
    """Everything that can be chosen below ``root``, of the first ``most`` entries."""
    walk = _Walk(root, most)
    found = sorted(walk.all(), key=lambda item: item.name)
    return Listing(tuple(found), complete=walk.left >= 0)


class _Walk:
    def __init__(self, root: Path, most: int) -> None:
        self.root, self.left = root, most

    def all(self) -> Iterator[Item]:
        for own in OWN:
            path = self.root / own
            if path.is_dir() and not path.is_symlink():
                yield from self._entries(path, f"{own}/", 1)
        yield from self._entries(self.root, "", 0)

    def _entries(self, folder: Path, prefix: str, depth: int) -> Iterator[Item]:
        if self.left < 0:
            return
        try:
            with os.scandir(folder) as found:
                # A folder of a million pictures is not read to its end, either.
                entries = sorted(itertools.islice(found, self.left + 1), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            self.left -= 1
            if self.left < 0:
                return
            if entry.name.startswith(".") or not entry.name.isprintable():  # what cannot be shown or sent is left out
                continue
            if not prefix and (entry.name in _SKIPPED or (entry.name in OWN and not entry.is_symlink())):
                continue
            path, name = Path(entry.path), prefix + entry.name
            if entry.is_symlink() and not path.resolve().is_relative_to(self.root):
                continue
            try:
                if entry.is_dir():
                    yield from self._folder(path, name, depth)
                elif entry.is_file():
                    size = entry.stat().st_size
                    kind = _kind_of(path, size)
                    if kind is not None:
                        yield Item(name, kind, path, size)
            except OSError:
                continue  # gone, or not ours to read

    def _folder(self, path: Path, name: str, depth: int) -> Iterator[Item]:
        kind = _run_kind(path)
        if kind is not None:
            yield Item(name, kind, path)
            return
        if (path / "train").is_dir() and ((path / "test").is_dir() or (path / "val").is_dir()):
            yield Item(name, "data", path)
            return
        linked = path.is_symlink()  # a link within the workspace would be listed twice, or for ever
        if depth < _DEPTH and not linked and path.name not in _SKIPPED:
            yield from self._entries(path, f"{name}/", depth + 1)


def _run_kind(path: Path) -> Kind | None:
    try:
        with (path / "run.json").open("rb") as file:
            head = file.read(400)
    except OSError:
        return None
    match = re.search(rb'"format"\s*:\s*"([a-z-]+)"', head)
    return _RUN_FORMATS.get(match[1].decode()) if match else None


def _kind_of(path: Path, size: int) -> Kind | None:
    if path.name.endswith(LUT_ENDINGS):
        return "table"
    if size > SMALL_BYTES and not path.name.endswith(".plan.json"):
        return None
    if path.suffix == ".txt":
        return "table" if _begins_with_numbers(path) else None
    if path.suffix == ".json":
        with path.open("rb") as file:
            head = file.read(400)
        if b'"netadapt-space"' in head:
            return "space"
        if b'"netadapt-plan"' in head:
            return "plan"
    return None


def _begins_with_numbers(path: Path) -> bool:
    """Whether the first line with anything in it is two numbers or more: a text table, not a text."""
    with path.open("rb") as file:
        line = next((line for line in file.read(8192).splitlines() if line.strip()), b"")
    words = line.split()
    try:
        return len(words) > 1 and all(abs(float(word)) >= 0 for word in words)
    except ValueError:
        return False
