"""Tables that are kept compressed: read like any other, never appended to.

A ``.lut.jsonl.gz`` is for tables that no device adds to any more (imported ones) and that are large. A line cannot be added
to it so that a kill leaves the rest readable, which is what appending promises.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from netadapt_trt.errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_UNPACKED_BYTES", "is_packed", "pack", "read_table_bytes", "refuse_packed", "unpack"]

MAX_UNPACKED_BYTES = 1 << 28
"""A few kilobytes can unpack to gigabytes; the largest table we know has 20 MB."""


def is_packed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.name.endswith(".gz")


def pack(data: bytes) -> bytes:
    """``data`` compressed, the same bytes every time."""
    return gzip.compress(data, mtime=0)


def unpack(data: bytes, where: str, *, limit: int = MAX_UNPACKED_BYTES) -> bytes:
    """What the compressed ``data`` holds, at most ``limit`` bytes. Raises FileFormatError, starting with ``where``."""
    parts, size = [], 0
    while data:
        stream = zlib.decompressobj(wbits=31)  # gzip's own header and checksum
        try:
            parts.append(stream.decompress(data, limit + 1 - size))
        except zlib.error as error:
            raise FileFormatError(f"{where} cannot be unpacked ({error}); copy the file again") from error
        size += len(parts[-1])
        if size > limit:
            raise FileFormatError(f"{where} unpacks to more than {limit} bytes, which is more than is read")
        if not stream.eof:
            raise FileFormatError(f"{where} ends in the middle of its compressed data; copy the file again")
        data = stream.unused_data
    return b"".join(parts)


def read_table_bytes(path: Path) -> bytes:
    """The lines of the LUT at ``path``, unpacked where its name ends in ``.gz``. Raises FileFormatError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist; measure one with: netadapt-trt profile ... --lut {path}") from error
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror}") from error
    return unpack(data, str(path)) if is_packed(path) else data


def refuse_packed(path: Path) -> None:
    """Raises FileFormatError where lines would be written into a compressed table."""
    if is_packed(path):
        raise FileFormatError(
            f"{path} is compressed, and such tables are only read; unpack it first (gunzip -k {path}) or name another file"
        )
