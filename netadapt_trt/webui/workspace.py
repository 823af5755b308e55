"""The workspace: one directory whose tables, spaces, plans, data and runs the page offers, and into which it writes.

Nothing outside of it is ever read or written because somebody named it: what a user names must be in the listing, and the
listing does not follow links out of the workspace.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["Item", "Kind", "Workspace", "check_run_name", "read_small_json", "safe_name"]

Kind = Literal["table", "space", "plan", "adapt", "search", "data"]

_DEPTH = 5
_MOST_ENTRIES = 50_000
"""What one listing looks at, in case the workspace is somebody's home directory."""
_LONGEST_BYTES = 120
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LUT_ENDINGS = (".lut.jsonl", ".lut.jsonl.gz")
_ENDINGS = (*_LUT_ENDINGS, ".jsonl.gz", ".txt.gz")
_SMALL = 1 << 20
_SKIPPED = frozenset({"jobs", "node_modules", "__pycache__", "site-packages"})
_RUN_FORMATS: dict[str, Kind] = {"netadapt-run": "adapt", "netadapt-search": "search"}


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be chosen. ``name`` is its path below the workspace, with slashes, and what users send back."""

    name: str
    kind: Kind
    path: Path
    size_bytes: int = 0


def safe_name(text: str, *, default: str = "upload") -> str:
    """``text`` as the name of one file: its last part, letters, digits and ``._-`` kept, never hidden, never long.

    Whatever comes in, the result is one component of a path that names neither a parent nor an absolute place.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", text))[-1]
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in last).lstrip(".")
    stem, ending = _split(plain)
    encoded = stem.encode("utf-8", errors="ignore")[: _LONGEST_BYTES - len(ending.encode("utf-8", errors="ignore"))]
    stem = encoded.decode("utf-8", errors="ignore").strip("._-")
    return (stem or default) + ending.encode("utf-8", errors="ignore").decode("utf-8")


def _split(name: str) -> tuple[str, str]:
    """(stem, ending), where ``.lut.jsonl.gz`` is one ending; an ending of more than 16 characters is part of the stem."""
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)], name[-len(ending) :]
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot and stem and len(ending) < 16 else (name, "")


def check_run_name(name: str) -> str:
    """``name``, if a new run's directory may have it. Raises SpecError."""
    if not _RUN_NAME.fullmatch(name):
        raise SpecError(
            f"{shown(name)} cannot be the name of a run; use up to 64 letters, digits, dots, dashes and underscores, "
            f"beginning with a letter or digit"
        )
    return name


class Workspace:
    """The directory ``root``; ``data`` are data specs that whoever started the page allows besides what lies in it."""

    def __init__(self, root: Path | str, *, data: Sequence[str] = ()) -> None:
        self.root = Path(root).resolve()
        if self.root.exists() and not self.root.is_dir():
            raise SpecError(f"{self.root} is a file; name a directory for the workspace")
        self.root.mkdir(parents=True, exist_ok=True)
        self._data = tuple(data)

    @property
    def jobs(self) -> Path:
        """State and logs of jobs."""
        return self.root / "jobs"

    @property
    def tables(self) -> Path:
        """Where uploaded tables go."""
        return self.root / "tables"

    @property
    def spaces(self) -> Path:
        """Where uploaded spaces go."""
        return self.root / "spaces"

    @property
    def runs(self) -> Path:
        """Where new runs go."""
        return self.root / "runs"

    def items(self, *kinds: Kind) -> list[Item]:
        """Everything of these kinds (of all, when none is named) in the workspace, by name."""
        found = [item for item in self._walk(self.root, "", 0, [0]) if not kinds or item.kind in kinds]
        return sorted(found, key=lambda item: item.name)

    def find(self, name: object, *kinds: Kind) -> Item:
        """The item of that name. Raises SpecError for one that the listing does not have, whatever its name points to."""
        if isinstance(name, str):
            # Nothing is joined to a path here: a name is in the listing or it is not.
            found = next((item for item in self.items(*kinds) if item.name == name), None)
            if found is not None:
                return found
        what = " or ".join(_WORDS[kind] for kind in kinds) or "file"
        raise SpecError(f"the workspace has no {what} {shown(name)}; choose one that is listed, or upload it")

    def data_specs(self) -> list[str]:
        """What searches can train on: the embedded digits, what was allowed at the start, folders of pictures in here."""
        here = [f"imagefolder:{item.name}" for item in self.items("data")]
        return list(dict.fromkeys(["digits", *self._data, *here]))

    def data_argument(self, spec: object) -> str:
        """The ``--data`` of one of :meth:`data_specs`, with a full path. Raises SpecError for anything else."""
        if not isinstance(spec, str) or spec not in self.data_specs():
            raise SpecError(
                f"no data {shown(spec)} is offered here (there are: {', '.join(self.data_specs())}); put a folder with "
                f"train/ and test/ into the workspace, or start the page with --data imagefolder:DIR"
            )
        scheme, _, name = spec.partition(":")
        if spec in self._data or scheme != "imagefolder":
            return spec
        return f"imagefolder:{self.find(name, 'data').path}"

    def new_run(self, name: str | None, prefix: str, *, taken: Collection[str] = ()) -> Path:
        """The directory of a new run: of that name, which must be free, else ``prefix`` and the next number.

        ``taken`` are names (below the workspace) that somebody is going to use. Raises SpecError for a name that is taken or
        cannot be one.
        """

        def free(path: Path) -> bool:
            return not path.exists() and not path.is_symlink() and self.name_of(path) not in taken

        if name is not None:
            path = self.runs / check_run_name(name)
            if not free(path):
                raise SpecError(f"there is a run {shown(name)} already; choose another name, or resume that one")
            return path
        number = 1
        while not free(path := self.runs / f"{prefix}-{number:03d}"):
            number += 1
        return path

    def name_of(self, path: Path) -> str:
        """The name of a path in the workspace."""
        return path.relative_to(self.root).as_posix()

    def _walk(self, folder: Path, prefix: str, depth: int, seen: list[int]) -> Iterator[Item]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            seen[0] += 1
            if seen[0] > _MOST_ENTRIES:
                return
            if entry.name.startswith(".") or (not prefix and entry.name in _SKIPPED) or not _printable(entry.name):
                continue
            path, name = Path(entry.path), prefix + entry.name
            if entry.is_symlink() and not path.resolve().is_relative_to(self.root):
                continue
            try:
                if entry.is_dir():
                    yield from self._folder(path, name, depth, seen)
                elif entry.is_file():
                    size = entry.stat().st_size
                    kind = _kind_of(path, size)
                    if kind is not None:
                        yield Item(name, kind, path, size)
            except OSError:
                continue  # gone, or not ours to read

    def _folder(self, path: Path, name: str, depth: int, seen: list[int]) -> Iterator[Item]:
        kind = _run_kind(path)
        if kind is not None:
            yield Item(name, kind, path)
            return
        if (path / "train").is_dir() and ((path / "test").is_dir() or (path / "val").is_dir()):
            yield Item(name, "data", path)
            return
        linked = path.is_symlink()  # a link within the workspace would be listed twice, or for ever
        if depth < _DEPTH and not linked and path.name not in _SKIPPED:
            yield from self._walk(path, f"{name}/", depth + 1, seen)


_WORDS: dict[Kind, str] = {
    "table": "table", "space": "space", "plan": "plan", "adapt": "run", "search": "search", "data": "data set",
}  # fmt: skip


def _printable(name: str) -> bool:
    """Names that cannot be shown or sent (broken encodings, control characters) are left out."""
    return name.isprintable()


def _run_kind(path: Path) -> Kind | None:
    try:
        with (path / "run.json").open("rb") as file:
            head = file.read(400)
    except OSError:
        return None
    match = re.search(rb'"format"\s*:\s*"([a-z-]+)"', head)
    return _RUN_FORMATS.get(match[1].decode()) if match else None


def _kind_of(path: Path, size: int) -> Kind | None:
    if path.name.endswith(_LUT_ENDINGS):
        return "table"
    if size > _SMALL and not path.name.endswith(".plan.json"):
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


def read_small_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most a megabyte. Raises FileFormatError."""
    try:
        if path.stat().st_size > _SMALL:
            raise FileFormatError(f"{path.name} is too large to be shown")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path.name} is no JSON object")
    return content
