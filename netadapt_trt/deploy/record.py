"""deploy.json: what a deployed model is, where it came from and what was promised for it, tied to the file by checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import CheckError
from netadapt_trt.files import read_document, write_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["extend_record", "file_sha256", "find_record", "read_record", "write_record"]

_FORMAT, _VERSION = "netadapt-deploy", 1


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _own_name(model: Path) -> Path:
    return model.with_name(f"{model.stem}.deploy.json")


def write_record(model: Path, content: Mapping[str, Any]) -> Path:
    """Write deploy.json beside ``model``; where that one already describes another model, ``<model>.deploy.json``.

    ``content`` must hold ``files``, a map from file name to its ``sha256`` and ``size_bytes``.
    """
    path = model.with_name("deploy.json")
    if path.exists():
        others = set(read_record(path).get("files", {})) - {model.name}
        if any(model.with_name(name).exists() for name in others):
            path = _own_name(model)
    write_document(path, format=_FORMAT, version=_VERSION, content=content)
    return path


def extend_record(model: Path, engine: Path, content: Mapping[str, Any]) -> Path:
    """Write the record of ``engine`` and of the ONNX file it was built from, both in one directory.

    What deploy.json there says of ``model`` becomes part of it. Where that file describes something else, the pair gets a
    record of its own name.
    """
    path = model.with_name("deploy.json")
    if path.exists() and model.name not in read_record(path).get("files", {}):
        path = _own_name(engine)
    write_document(path, format=_FORMAT, version=_VERSION, content=content)
    return path


def read_record(path: Path) -> dict[str, Any]:
    """Read a deploy.json. Raises FileFormatError."""
    return read_document(path, format=_FORMAT, version=_VERSION)


def find_record(model: Path, sha256: str) -> dict[str, Any] | None:
    """The record beside ``model`` that describes it, or None where there is none.

    Raises:
        CheckError: a record names this file but another content; its promises would be another network's.
        FileFormatError: a damaged record.
    """
    for path in (_own_name(model), model.with_name("deploy.json")):
        if not path.exists():
            continue
        record = read_record(path)
        files = record.get("files")
        known = files.get(model.name) if isinstance(files, dict) else None
        if not isinstance(known, dict):
            continue
        if known.get("sha256") != sha256:
            raise CheckError(
                f"{model} is not the file that {path.name} describes: its checksum is {sha256[:12]}..., "
                f"the record says {str(known.get('sha256'))[:12]}...; copy both again, or remove {path.name}"
            )
        return record
    return None
