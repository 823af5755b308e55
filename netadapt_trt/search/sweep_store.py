"""What a sweep began with, kept in its directory, so that all its searches rest on the same numbers.

``sweep.json`` is what was asked, with digests. ``space.json`` and ``table.json`` are as in a search; ``tables/1/NAME`` (and
``tables/2/NAME``) are copies of the files that were named, which the searches read: these may grow, move or vanish.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import CoverageError, FileFormatError, SpecError
from netadapt_trt.files import read_document, write_atomic, write_document
from netadapt_trt.search.state import read_table, table_digest, write_table
from netadapt_trt.search.sweep_settings import SweepSettings
from netadapt_trt.space.store import load_space, save_space, space_hash
from netadapt_trt.space.table import read_tables

if TYPE_CHECKING:
    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.space.schema import Space
    from netadapt_trt.space.table import SpaceTable

__all__ = ["FORMAT", "VERSION", "Kept", "claim", "keep_on", "read_named", "read_settings"]

FORMAT, VERSION = "netadapt-sweep", 1


@dataclass(frozen=True, eq=False)
class Kept:
    """Space and costs. ``space_file`` (or a preset's name) and ``files`` are where they were read."""

    space: Space
    table: SpaceTable
    space_file: str
    files: tuple[Path, ...]

    def given_to(self, search: SearchSettings) -> SearchSettings:
        """``search`` on this space and these costs."""
        return replace(search, space=self.space_file, tables=self.files)


def read_named(search: SearchSettings) -> Kept:
    """Space and costs as they were named.

    Raises:
        SpecError: a sweep in the output directory began with another space. Else as ``load_space`` and ``read_tables``.
    """
    path = search.output
    facts = _document(path) if (path / "sweep.json").is_file() else {}
    try:
        space = load_space(search.space)
        if facts.get("space_hash", space_hash(space)) != space_hash(space):
            raise _changed(path, f"the space {search.space}")
        return Kept(space, read_tables(space, search.tables), search.space, search.tables)
    except (CoverageError, FileFormatError) as error:
        if "table_digest" not in facts:
            raise
        raise type(error)(f"{error}. The sweep {path} has copies: --resume {path} goes on with them") from error


def read_settings(path: Path) -> SweepSettings:
    """What was asked of the sweep in ``path``. Raises FileFormatError: it is no sweep."""
    return SweepSettings.from_json(_document(path)["arguments"])


def claim(path: Path, settings: SweepSettings, named: Kept) -> Kept:
    """Begin a sweep in ``path``, or see that the one that is there was asked the same; what its searches are to use.

    The caller holds the directory. Raises SpecError: another run, other settings, or files that have changed since.
    """
    if (path / "sweep.json").is_file():
        before = read_settings(path)
        _same_costs(path, _facts(path, _document(path), before.search), named)
        _same_settings(path, before, settings)
        return keep_on(path, settings)
    if (path / "run.json").exists():
        raise SpecError(f"{path} holds a run of another kind; choose another directory for the sweep")
    _write(path, settings, _keep(path, named))
    return keep_on(path, settings)


def keep_on(path: Path, settings: SweepSettings) -> Kept:
    """What the searches of the sweep in ``path`` use; its ``settings`` may say anew where it works.

    The caller holds the directory. Raises FileFormatError: what is kept was damaged.
    """
    document = _document(path)
    facts = _facts(path, document, settings.search)
    space = load_space(path / "space.json")
    files = tuple(_copy(path, number, entry["path"]) for number, entry in enumerate(facts["tables"], 1))
    for file, entry in zip(files, facts["tables"], strict=True):
        if not file.is_file() or _sha256(file.read_bytes()) != entry["sha256"]:
            raise _damaged(path, file)
    table = read_table(path / "table.json", space)
    if space_hash(space) != facts["space_hash"]:
        raise _damaged(path, path / "space.json")
    if table_digest(table) != facts["table_digest"]:
        raise _damaged(path, path / "table.json")
    if table_digest(read_tables(space, files)) != facts["table_digest"]:
        raise FileFormatError(
            f"this version reads other costs from {path / 'tables'} than the one that began the sweep; go on with that one, "
            f"or start a new sweep"
        )
    _write(path, settings, facts)
    return Kept(space, table, str(path / "space.json"), files)


def _document(path: Path) -> dict[str, Any]:
    if not (path / "sweep.json").is_file():
        raise FileFormatError(f"{path} is not a sweep (no sweep.json in it); give the directory that search sweep -o wrote")
    document = read_document(path / "sweep.json", format=FORMAT, version=VERSION)
    if not isinstance(document.get("arguments"), dict):
        raise FileFormatError(f"{path / 'sweep.json'} holds no arguments; it is damaged")
    return document


def _write(path: Path, settings: SweepSettings, facts: dict[str, Any]) -> None:
    content = {"arguments": settings.to_json(), **facts}
    write_document(path / "sweep.json", format=FORMAT, version=VERSION, content=content)


def _facts(path: Path, document: dict[str, Any], search: SearchSettings) -> dict[str, Any]:
    """Digests of what is kept. A sweep of an earlier version kept nothing: then what it named is kept now."""
    if "table_digest" not in document:
        named = read_named(search)
        for file in sorted(path.glob("[0-9]*/run.json")):
            began = read_document(file, format="netadapt-search", version=1)
            if (began.get("space_hash"), began.get("table_digest")) != (space_hash(named.space), table_digest(named.table)):
                raise SpecError(
                    f"{_told(search.tables)} or the space {search.space} changed since the search {file.parent} began, and "
                    f"the sweep {path} kept no copy; put the old files back, or start a new sweep (-o)"
                )
        return _keep(path, named)
    facts = {name: document.get(name) for name in ("space_hash", "table_digest", "tables")}
    tables = facts["tables"]
    if not isinstance(tables, list) or not all(
        isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("path", "sha256")) for entry in tables
    ):
        raise FileFormatError(f"{path / 'sweep.json'} is damaged: it does not say which tables were used; start a new sweep")
    return facts


def _keep(path: Path, named: Kept) -> dict[str, Any]:
    """Copy space and costs into ``path``; returns their digests. Raises SpecError: a file changed meanwhile."""
    entries, copies = [], []
    for number, file in enumerate(named.files, 1):
        data = file.read_bytes()
        copies.append(_copy(path, number, str(file)))
        write_atomic(copies[-1], data)
        entries.append({"path": str(file), "sha256": _sha256(data)})
    digest = table_digest(named.table)
    if table_digest(read_tables(named.space, copies)) != digest:
        raise SpecError(f"{_told(named.files)} changed while it was read; wait until nothing writes there, and try again")
    save_space(named.space, path / "space.json")
    write_table(path / "table.json", named.table)
    return {"space_hash": space_hash(named.space), "table_digest": digest, "tables": entries}


def _same_costs(path: Path, facts: dict[str, Any], named: Kept) -> None:
    """What was named holds what is kept. A file that only moved, or grew by what the space does not use, does no harm."""
    if space_hash(named.space) != facts["space_hash"]:
        raise _changed(path, f"the space {named.space_file}")
    if table_digest(named.table) != facts["table_digest"]:
        before = [entry["sha256"] for entry in facts["tables"]]
        files = [file for file in named.files if _sha256(file.read_bytes()) not in before]
        raise _changed(path, f"the table {_told(files or named.files)}")


def _changed(path: Path, what: str) -> SpecError:
    return SpecError(
        f"{what} changed since the sweep {path} began, and its searches could no longer be compared; go on with what the "
        f"sweep stored (--resume {path}), or choose another directory (-o)"
    )


def _same_settings(path: Path, before: SweepSettings, now: SweepSettings) -> None:
    old, new = before.decisive(), now.decisive()
    for name in new:
        if old.get(name) != new[name]:
            raise SpecError(
                f"{path} holds a sweep with other settings: {name} was {_cut(old.get(name))}, now it is "
                f"{_cut(new[name])}; give the same to go on (or --resume {path}), or choose another directory"
            )


def _copy(path: Path, number: int, file: str) -> Path:
    """Under its own name: a text table's says what it holds."""
    return path / "tables" / str(number) / Path(file).name


def _damaged(path: Path, file: Path) -> FileFormatError:
    return FileFormatError(
        f"{file} is not what the sweep {path} began with, or is gone; put the old file back, or start a new sweep"
    )


def _told(files: tuple[Path, ...] | list[Path]) -> str:
    return " and ".join(map(str, files))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
