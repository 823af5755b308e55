"""Reading and writing files so that a kill at any moment leaves either the old content or the new.

Every file of this package carries ``format`` and ``version``; :func:`read_document` tells "too old" from "too new".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, LockedError, TooNewError, TooOldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = [
    "append_line",
    "check_header",
    "exclusive_lock",
    "finite",
    "read_document",
    "shown",
    "write_atomic",
    "write_document",
]


_LONGEST_SHOWN = 60


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` in one step; on failure the old file stays and no temporary one is left.

    Raises OSError (disk full, no permission) with the path in it.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; what we hand to other people follows the umask like any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def append_line(path: Path, line: str) -> None:
    """Append ``line`` and a newline and wait until it is on the disk. The caller holds the lock where one is needed."""
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def write_document(path: Path, *, format: str, version: int, content: Mapping[str, Any]) -> None:
    """Write a JSON document with its ``format`` and ``version`` first."""
    text = json.dumps({"format": format, "version": version, **content}, indent=1, allow_nan=False)
    write_atomic(path, text + "\n")


def read_document(path: Path, *, format: str, version: int, oldest: int = 1) -> dict[str, Any]:
    """Read a JSON document of ``format``.

    Raises:
        FileFormatError: not JSON, not an object, or another format (TooOldError, TooNewError for its version).
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist; expected a {format} file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a {format} file: {error}") from error
    if not isinstance(document, dict):
        raise FileFormatError(f"{path} is not a {format} file: a JSON object was expected")
    check_header(document, where=str(path), format=format, version=version, oldest=oldest)
    return document


def finite(value: object) -> float | None:
    """``value`` of a file in double precision; None of what is no finite number there: JSON has integers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def shown(value: object) -> str:
    """``value`` of a file as a message shows it: cut, since a damaged file may hold a megabyte there or a deep nest."""
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def check_header(document: Mapping[str, Any], *, where: str, format: str, version: int, oldest: int = 1) -> None:
    """Refuse another format, a version from before ``oldest`` and one after ``version``, each in its own words."""
    if document.get("format") != format:
        raise FileFormatError(f"{where} is not a {format} file: it says format = {shown(document.get('format'))}")
    found = document.get("version")
    if not isinstance(found, int) or isinstance(found, bool):
        raise FileFormatError(f"{where} carries no version number")
    if found > version:
        raise TooNewError(
            f"{where} is a {format} of version {shown(found)}, this program reads up to {version}; upgrade netadapt-trt"
        )
    if found < oldest:
        raise TooOldError(
            f"{where} is a {format} of version {shown(found)}, this program reads {oldest} and later; make the file again"
        )


@contextlib.contextmanager
def exclusive_lock(path: Path, *, what: str) -> Iterator[None]:
    """Hold ``path`` (a file kept beside the data, made when missing) for this process alone.

    The kernel drops the lock with the process, so nothing needs cleaning after a kill.

    Raises:
        LockedError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"{what} is being written by another process; wait until that one has finished, or stop it"
            ) from error
        yield
