"""Files that users send: taken in small pieces up to a limit, read by the tables' own readers, and only then kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from netadapt_trt.errors import FileFormatError, NetadaptError
from netadapt_trt.lut.importers.table import read_foreign
from netadapt_trt.webui.workspace import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netadapt_trt.lut.importers.table import ForeignFile
    from netadapt_trt.space.schema import Space
    from netadapt_trt.webui.workspace import Workspace

__all__ = [
    "DEFAULT_LIMIT_BYTES",
    "SPACE_LIMIT_BYTES",
    "TooLargeError",
    "Uploaded",
    "check_length",
    "receive_space",
    "receive_table",
    "too_large",
]

DEFAULT_LIMIT_BYTES = 64 << 20
SPACE_LIMIT_BYTES = 1 << 20
_PIECE = 1 << 16


class TooLargeError(NetadaptError):
    """A file above the limit of uploads."""


class Stream(Protocol):
    """What a request's body is read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, nothing at the end."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that was kept. ``name`` is its name in the workspace, ``told`` what there is to say about it."""

    name: str
    told: str


def check_length(declared: int | None, limit: int) -> None:
    """Refuse by what the sender says, before a byte is read. Raises TooLargeError."""
    if declared is not None and declared > limit:
        raise TooLargeError(too_large(declared, limit))


def too_large(size: int | None, limit: int) -> str:
    """Why a file of ``size`` bytes (None: not known, but above) is refused, and what to do."""
    has = f"is larger than {limit:,} bytes, which" if size is None else f"has {size:,} bytes,"
    may = "is what an upload may have" if size is None else f"an upload may have {limit:,}"
    return f"the file {has} {may}; start the page with a larger --upload-limit, or copy the file into the workspace"


def receive_table(
    workspace: Workspace,
    stream: Stream,
    name: str,
    *,
    spaces: Sequence[Space],
    length: int | None = None,
    limit: int = DEFAULT_LIMIT_BYTES,
) -> Uploaded:
    """Keep a LUT or a text table in the workspace's ``tables``.

    A text table (HANNA's) must fit one of ``spaces``. Raises TooLargeError, FileFormatError and what the readers raise;
    nothing is left then.
    """
    with _received(workspace.tables, stream, name, length, limit) as (temporary, wanted):
        with _called(temporary, wanted):
            file = read_foreign(temporary)
        if file.data.lstrip()[:1] == b"{":
            told = _check_lut(temporary, file.data, wanted)
            with temporary.open("rb") as stored:
                packed = stored.read(2) == b"\x1f\x8b"
            wanted = _ending(wanted, ".lut.jsonl.gz" if packed else ".lut.jsonl")
        else:
            told = _check_text(temporary, wanted, spaces)
            temporary.write_bytes(file.data)  # unpacked: a text table is read as it lies there
            wanted = _ending(wanted, ".txt")
        kept = _keep(temporary, workspace.tables, wanted)
        workspace.look()
    return Uploaded(workspace.name_of(kept), told)


def receive_space(
    workspace: Workspace, stream: Stream, name: str, *, length: int | None = None, limit: int = DEFAULT_LIMIT_BYTES
) -> Uploaded:
    """Keep the JSON file of a search space in the workspace's ``spaces``. Raises as :func:`receive_table`."""
    from netadapt_trt.space.store import load_space

    with _received(workspace.spaces, stream, name, length, limit) as (temporary, wanted):
        with _called(temporary, wanted):
            space = load_space(temporary)
        kept = _keep(temporary, workspace.spaces, _ending(wanted, ".json"))
        workspace.look()
    places, columns = len(space.places), len(space.columns)
    return Uploaded(workspace.name_of(kept), f"space {space.name}: {places} layers, {columns} candidates")


@contextlib.contextmanager
def _received(folder: Path, stream: Stream, name: str, length: int | None, limit: int) -> Iterator[tuple[Path, str]]:
    """Yields (the temporary file with the whole body, its safe name); the temporary file is gone in the end."""
    check_length(length, limit)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = safe_name(name)
    # The ending stays: readers tell JSON by it.
    handle, temporary = tempfile.mkstemp(prefix=".upload-", suffix=Path(wanted).suffix, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            left = limit
            while piece := stream.read(min(_PIECE, left + 1)):
                left -= len(piece)
                check_length(limit - left, limit)
                file.write(piece)
        if left == limit:
            raise FileFormatError(f"{wanted} is empty; choose a file with something in it")
        yield Path(temporary), wanted
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def _called(temporary: Path, name: str) -> Iterator[None]:
    """Messages call the file by the name that the user knows."""
    try:
        yield
    except NetadaptError as error:
        raise type(error)(str(error).replace(str(temporary), name)) from error


def _check_lut(temporary: Path, data: bytes, name: str) -> str:
    from netadapt_trt.lut.store import parse_lut

    with _called(temporary, name):
        lut = parse_lut(data, temporary)
    identity = lut.identity
    return (
        f"LUT of {identity.device}, {identity.backend} {identity.precision}: {len(lut.cells)} cells, "
        f"{len(lut.networks)} whole networks"
    )


def _check_text(temporary: Path, name: str, spaces: Sequence[Space]) -> str:
    from netadapt_trt.space.named import is_text

    with _called(temporary, name):
        file = read_foreign(temporary)
    if not is_text(file):
        raise FileFormatError(
            f"{name} is neither a LUT (.lut.jsonl) nor a text table of numbers (a line for each layer); upload one of these"
        )
    with _called(temporary, name):
        refusals = [_unlike(space, file) for space in spaces]
        fitting = next((space for space, refusal in zip(spaces, refusals, strict=True) if refusal is None), None)
        if fitting is None:
            known = [refusal for refusal in refusals if refusal is not None]
            raise known[0] if known else FileFormatError(f"{name}: there is no space that a text table could be of")
    return f"text table: {len(fitting.places)} layers of {len(fitting.columns)} candidates, as space {fitting.name} has"


def _unlike(space: Space, file: ForeignFile) -> NetadaptError | None:
    """Why a text table is not of ``space``; None where it may be."""
    from netadapt_trt.space.named import from_text

    try:
        from_text(space, file, energy=False)
    except NetadaptError as error:
        return error
    return None


def _ending(name: str, ending: str) -> str:
    """``name`` ending in ``ending``, which listings know files by."""
    if name.lower().endswith(ending):
        return name[: -len(ending)] + ending
    stem = name.removesuffix(".gz")
    for known in (".lut.jsonl", ".jsonl", ".json", ".txt"):
        stem = stem.removesuffix(known)
    return stem + ending


def _keep(temporary: Path, folder: Path, name: str) -> Path:
    """Give the file its name, never one that is taken; the same content under the same name is the same file."""
    content = temporary.read_bytes()
    ending = next((end for end in (".lut.jsonl.gz", ".lut.jsonl") if name.endswith(end)), Path(name).suffix)
    stem, number = name[: len(name) - len(ending)], 1
    os.chmod(temporary, 0o644)  # mkstemp makes files private
    while True:
        path = folder / (f"{stem}-{number}{ending}" if number > 1 else name)
        try:
            path.touch(exist_ok=False)  # the name is ours from here on
        except FileExistsError:
            if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
                return path
            number += 1
        else:
            os.replace(temporary, path)
            return path
