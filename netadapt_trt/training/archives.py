"""The files in which CIFAR and Fashion-MNIST are published, read without executing anything they say.

The CIFAR archives for Python are pickles. The usual loaders feed them to an unrestricted unpickler, so that whoever can
change the file runs code here. :func:`read_cifar_pickle` admits plain containers, numbers and text, and collects arrays
of bytes itself: no constructor named by the file is ever called. The binary archives need no such care and are read, too.
"""

from __future__ import annotations

import gzip
import io
import pickle  # noqa: TID251  only as the base of the restricted reader below
import struct
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from netadapt_trt.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Images", "read_cifar", "read_cifar_pickle", "read_fashion_mnist"]

Images = tuple["NDArray[np.uint8]", "NDArray[np.int64]"]
"""([N, C, H, W] values, [N] class numbers)."""

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class _ByteArray:
    """Stands for a numpy array while its pickle is read; only one-byte elements are taken."""

    values: NDArray[np.uint8]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _ElementType) or fortran or not isinstance(data, bytes | str):
            raise pickle.UnpicklingError("an array of another kind than bytes")
        content = data.encode("latin-1") if isinstance(data, str) else data
        self.values = np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()


class _ElementType:
    """Stands for ``numpy.dtype``; the byte order and flags that follow its name say nothing for single bytes."""

    def __init__(self, name: object = "", *_: object) -> None:
        if name not in ("u1", "uint8"):
            raise pickle.UnpicklingError(f"array elements of type {name!r}")

    def __setstate__(self, state: object) -> None:
        pass


def _new_array(*_: object) -> _ByteArray:
    return _ByteArray()


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    # Python 3 writes bytes into old pickle protocols as text plus this call.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in an unexpected encoding")
    return text.encode("latin-1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _ByteArray,
    ("numpy", "dtype"): _ElementType,
    ("_codecs", "encode"): _encoded,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ADMITTED[(module, name)]

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("it refers to outside objects")


def read_cifar_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in one file of a CIFAR archive for Python; arrays as uint8.

    Raises:
        DataError: missing, damaged, or holding anything that such a file has no need of.
    """
    try:
        content = _Restricted(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; unpack the archive there") from error
    except Exception as error:  # a damaged or hostile pickle can end in nearly any exception
        raise DataError(f"{path} is not a CIFAR file: {error}; nothing in it was executed, get the archive again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a CIFAR file: it holds a {type(content).__name__}")
    return {str(key): value.values if isinstance(value, _ByteArray) else value for key, value in content.items()}


def read_cifar(directory: Path, classes: int) -> tuple[Images, Images, tuple[str, ...]]:
    """(train, test, class names) of CIFAR-10 or CIFAR-100, from the archive for Python or the binary one, unpacked.

    ``directory`` is the unpacked folder or the one it lies in. Raises DataError.
    """
    python = {10: "cifar-10-batches-py", 100: "cifar-100-python"}[classes]
    binary = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}[classes]
    first = {10: "data_batch_1", 100: "train"}[classes]
    for folder in (directory, directory / python):
        if (folder / first).is_file():
            return _python_archive(folder, classes)
    for folder in (directory, directory / binary):
        if (folder / f"{first}.bin").is_file():
            return _binary_archive(folder, classes)
    raise DataError(f"{directory} holds no CIFAR-{classes}: neither {python}/{first} nor {binary}/{first}.bin is there")


def _python_archive(folder: Path, classes: int) -> tuple[Images, Images, tuple[str, ...]]:
    train, test = _cifar_files(classes)
    label, meta, names = {10: ("labels", "batches.meta", "label_names"), 100: ("fine_labels", "meta", "fine_label_names")}[
        classes
    ]

    def read(files: list[str]) -> Images:
        parts = [read_cifar_pickle(folder / name) for name in files]
        try:
            values = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
            labels = np.concatenate([np.asarray(part[label], dtype=np.int64) for part in parts])
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{folder} is not CIFAR-{classes}: {error!r}") from error
        return _checked(values, labels, classes, folder)

    found = read_cifar_pickle(folder / meta).get(names)
    if not isinstance(found, list) or len(found) != classes:
        raise DataError(f"{folder / meta} does not name {classes} classes")
    return read(train), read(test), tuple(str(name) for name in found)


def _binary_archive(folder: Path, classes: int) -> tuple[Images, Images, tuple[str, ...]]:
    train, test = _cifar_files(classes)
    label_bytes = {10: 1, 100: 2}[classes]  # CIFAR-100 has a coarse label first

    def read(files: list[str]) -> Images:
        data = b"".join(_content(folder / f"{name}.bin") for name in files)
        if not data or len(data) % (label_bytes + 3072):
            raise DataError(f"{folder} is not CIFAR-{classes}: a file is cut short; unpack the archive again")
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, label_bytes + 3072)
        labels = rows[:, label_bytes - 1].astype(np.int64)
        return _checked(rows[:, label_bytes:].reshape(-1, 3, 32, 32).copy(), labels, classes, folder)

    file = folder / {10: "batches.meta.txt", 100: "fine_label_names.txt"}[classes]
    names = _content(file).decode("utf-8", "replace").split()
    if len(names) != classes:
        raise DataError(f"{file} does not name {classes} classes")
    return read(train), read(test), tuple(names)


def _cifar_files(classes: int) -> tuple[list[str], list[str]]:
    return ([f"data_batch_{part}" for part in range(1, 6)], ["test_batch"]) if classes == 10 else (["train"], ["test"])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; unpack the archive again") from error


def _checked(values: NDArray[np.uint8], labels: NDArray[np.int64], classes: int, where: Path) -> Images:
    if len(values) != len(labels) or not len(values):
        raise DataError(f"{where}: {len(values)} pictures with {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{where}: labels outside 0..{classes - 1}")
    return values, labels


def read_fashion_mnist(directory: Path) -> tuple[Images, Images, tuple[str, ...]]:
    """(train, test, class names) from the four IDX files, packed (.gz) or not. Raises DataError."""
    for folder in (directory, directory / "FashionMNIST" / "raw", directory / "raw"):
        if any(folder.glob("train-images-idx3-ubyte*")):
            return _idx_pair(folder, "train"), _idx_pair(folder, "t10k"), _FASHION
    raise DataError(f"{directory} holds no Fashion-MNIST: train-images-idx3-ubyte (or .gz) is not there")


def _idx_pair(folder: Path, part: str) -> Images:
    images = _idx(folder / f"{part}-images-idx3-ubyte", 3)
    labels = _idx(folder / f"{part}-labels-idx1-ubyte", 1).astype(np.int64)
    return _checked(images[:, None], labels, 10, folder)


def _idx(path: Path, dims: int) -> NDArray[np.uint8]:
    packed = path.with_name(path.name + ".gz")
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
        magic, *shape = struct.unpack_from(f">{dims + 1}I", data)
        if magic != 0x0800 + dims:
            raise DataError(f"{path} is not an IDX file of {dims} dimensions of bytes")
        return np.frombuffer(data, dtype=np.uint8, offset=4 * (dims + 1)).reshape(shape).copy()
    except (OSError, EOFError, struct.error, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; get the file again") from error
