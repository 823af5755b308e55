"""Pictures in folders: ``DIR/train/CLASS/*.jpg`` and ``DIR/test/CLASS/*.jpg`` (or ``val``).

A set that fits in memory is decoded once, by several threads, and kept as one uint8 tensor, also in a cache file that later
processes map instead of decoding again. A larger set is decoded batch by batch, ahead of the training.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from netadapt_trt.errors import DataError
from netadapt_trt.files import write_atomic
from netadapt_trt.progress import QUIET
from netadapt_trt.training.split import DataSet, MemoryStore, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from netadapt_trt.progress import Progress
    from netadapt_trt.training.preprocessing import Preprocessing
    from netadapt_trt.training.split import Store

__all__ = ["CACHE_VARIABLE", "FileStore", "decode", "image_folder"]

CACHE_VARIABLE = "NETADAPT_TRT_CACHE"  # a directory for decoded pictures; "off" for none
MEMORY_LIMIT_BYTES = 2**30
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
_CHUNK = 512


def decode(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """One picture as [C, image_size, image_size].

    Raises:
        DataError: not a readable picture; the file is named.
    """
    from PIL import Image, UnidentifiedImageError

    size, mode = preprocessing.image_size or 0, "L" if preprocessing.channels == 1 else "RGB"
    scaled = round(size / preprocessing.crop)
    try:
        with Image.open(path) as opened:
            opened.draft(mode, (scaled, scaled))  # a JPEG decoder skips what would be scaled away
            picture = opened.convert(mode)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable picture: {error}; repair or remove it") from error
    width, height = picture.size
    if min(width, height) != scaled:
        ratio = scaled / min(width, height)
        picture = picture.resize((round(width * ratio), round(height * ratio)), Image.Resampling.BILINEAR)
        width, height = picture.size
    left, top = (width - size) // 2, (height - size) // 2
    array = np.asarray(picture)[top : top + size, left : left + size]
    return np.ascontiguousarray(array[None] if mode == "L" else array.transpose(2, 0, 1))


@dataclass(frozen=True, slots=True)
class FileStore:
    """Pictures read from their files when asked for."""

    paths: tuple[Path, ...]
    preprocessing: Preprocessing
    threads: int = field(default_factory=lambda: min(16, os.cpu_count() or 1))
    slow: bool = True

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """See :class:`~netadapt_trt.training.split.Store`. Raises DataError naming an unreadable file."""
        with ThreadPoolExecutor(self.threads) as pool:
            pictures = list(pool.map(lambda index: decode(self.paths[index], self.preprocessing), indices.tolist()))
        return torch.from_numpy(np.stack(pictures))


def image_folder(
    root: Path,
    preprocessing: Preprocessing,
    *,
    progress: Progress = QUIET,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> DataSet:
    """Read ``root``; classes are the folders of ``train`` in alphabetical order.

    Raises:
        DataError: a folder is missing, a class is empty, ``test`` has a class that ``train`` has not, a file is unreadable.
    """
    train = root / "train"
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), root / "test")
    for folder in (train, test):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}; an image folder has train/CLASS/ and test/CLASS/ (or val/CLASS/)")
    classes = _class_names(train)
    unknown = sorted(set(_class_names(test)) - set(classes))
    if unknown:
        raise DataError(f"{test} has classes that {train} has not: {', '.join(unknown[:6])}")
    listings = [_listing(train, classes), _listing(test, classes)]
    size = (preprocessing.image_size or 0) ** 2 * preprocessing.channels * sum(len(paths) for paths, _ in listings)
    splits = []
    for paths, labels in listings:
        store: Store = FileStore(paths, preprocessing)
        if size <= memory_limit_bytes:
            store = MemoryStore(_decoded(root, FileStore(paths, preprocessing), progress))
        splits.append(Split(store, labels, np.arange(len(labels)), preprocessing))
    return DataSet(f"imagefolder:{root}", splits[0], splits[1], classes, preprocessing)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise DataError(f"{folder} has no class folders; put each class's pictures in a folder of its name")
    return names


def _listing(folder: Path, classes: tuple[str, ...]) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue  # a test set may lack a class
        found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise DataError(
                f"class folder {folder / name} holds no pictures ({', '.join(sorted(_SUFFIXES))}); fill or remove it"
            )
        paths += found
        labels += [label] * len(found)
    return tuple(paths), np.array(labels, dtype=np.int64)


def _decoded(root: Path, store: FileStore, progress: Progress) -> Tensor:
    cache = _cache_file(root, store)
    size = store.preprocessing.image_size or 0
    shape = (len(store.paths), store.preprocessing.channels, size, size)
    if cache is not None and cache.is_file():
        # Private mapping: shared pages between processes, and torch wants an array that could be written.
        with contextlib.suppress(OSError, ValueError, EOFError):
            array = np.load(cache, mmap_mode="c", allow_pickle=False)
            if array.shape == shape and array.dtype == np.uint8:
                return torch.from_numpy(array)
    values = torch.empty(shape, dtype=torch.uint8)
    with progress.task(f"read {len(store.paths)} pictures", total=len(store.paths)) as task:
        for first in range(0, len(store.paths), _CHUNK):
            chosen = np.arange(first, min(first + _CHUNK, len(store.paths)))
            values[first : first + len(chosen)] = store.read(chosen)
            task.advance(len(chosen))
    if cache is not None:
        buffer = io.BytesIO()
        np.save(buffer, values.numpy(), allow_pickle=False)
        with contextlib.suppress(OSError):  # no room, no permission: it is only a cache
            write_atomic(cache, buffer.getvalue())
    return values


def _cache_file(root: Path, store: FileStore) -> Path | None:
    """Named by everything that decides the decoded values: names, sizes and dates of the files, and the preprocessing."""
    place = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    if place == "off":
        return None
    digest = hashlib.sha256(f"1 {store.preprocessing.to_json()}".encode())
    for path in store.paths:
        status = path.stat()
        digest.update(f"\0{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return Path(place).expanduser() / "netadapt-trt" / "pictures" / f"{digest.hexdigest()[:32]}.npy"
