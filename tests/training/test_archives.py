from __future__ import annotations

import gzip
import os
import pickle  # noqa: TID251  to write what the restricted reader must read or refuse
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.errors import DataError
from netadapt_trt.training.archives import read_cifar, read_cifar_pickle, read_fashion_mnist

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.random.default_rng(0).integers(0, 256, (6, 4, 3072), dtype=np.uint8)
NAMES = [f"class{number}" for number in range(10)]


def _python_archive(root: Path, protocol: int = 2) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    files = [f"data_batch_{part}" for part in range(1, 6)] + ["test_batch"]
    for name, values in zip(files, VALUES, strict=True):
        # The published files come from a numpy whose module had its old name.
        text = pickle.dumps({"data": values, "labels": [0, 1, 2, 9], "batch_label": name}, protocol=protocol)
        (folder / name).write_bytes(text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES, "num_vis": 3072}, protocol=2))
    return folder


def test_read_cifar_reads_the_python_archive(tmp_path: Path) -> None:
    folder = _python_archive(tmp_path)
    for directory in (tmp_path, folder):
        train, test, names = read_cifar(directory, 10)
        assert names == tuple(NAMES)
        assert np.array_equal(train[0], VALUES[:5].reshape(20, 3, 32, 32))
        assert np.array_equal(test[0], VALUES[5].reshape(4, 3, 32, 32))
        assert train[1].tolist() == [0, 1, 2, 9] * 5


@pytest.mark.parametrize(("classes", "labels"), [(10, 1), (100, 2)])
def test_read_cifar_reads_the_binary_archive(tmp_path: Path, classes: int, labels: int) -> None:
    folder = tmp_path / {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}[classes]
    folder.mkdir()
    rows = np.concatenate([np.full((4, labels), 7, dtype=np.uint8), VALUES[0]], axis=1)
    files = [f"data_batch_{part}" for part in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    for name in files:
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    meta = {10: "batches.meta.txt", 100: "fine_label_names.txt"}[classes]
    (folder / meta).write_text("\n".join(f"class{number}" for number in range(classes)) + "\n\n")
    train, test, names = read_cifar(tmp_path, classes)
    assert len(names) == classes
    assert train[0].shape == ((20 if classes == 10 else 4), 3, 32, 32)
    assert np.array_equal(test[0], VALUES[0].reshape(4, 3, 32, 32))
    assert set(test[1]) == {7}
    (folder / f"{files[0]}.bin").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        read_cifar(tmp_path, classes)


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_read_cifar_pickle_never_executes_a_file(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "executed"
    for evil in (_Call(os.mkdir, str(mark)), _Call(eval, f"__import__('os').mkdir({str(mark)!r})"), _Call(np.zeros, 3)):
        (tmp_path / "evil").write_bytes(pickle.dumps({"data": evil}, protocol=protocol))
        with pytest.raises(DataError, match="nothing in it was executed"):
            read_cifar_pickle(tmp_path / "evil")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"nonsense", pickle.dumps([1, 2]), pickle.dumps({"a": np.zeros(2)}, protocol=2)]
)
def test_read_cifar_pickle_refuses_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="not a CIFAR file"):
        read_cifar_pickle(tmp_path / "file")


def test_read_cifar_refuses_what_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no CIFAR-10"):
        read_cifar(tmp_path, 10)
    folder = _python_archive(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"labels": [1]}, protocol=2))
    with pytest.raises(DataError, match="not CIFAR-10"):
        read_cifar(tmp_path, 10)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3"):
        read_cifar(tmp_path, 10)


@pytest.mark.parametrize("packed", [False, True])
def test_read_fashion_mnist_reads_idx_files(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pictures = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    for part in ("train", "t10k"):
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">4I", 0x803, 2, 28, 28) + pictures.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">2I", 0x801, 2) + bytes([3, 9]),
        }
        for name, content in contents.items():
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    train, test, names = read_fashion_mnist(tmp_path)
    assert names[9] == "Ankle boot"
    assert np.array_equal(train[0], pictures[:, None])
    assert test[1].tolist() == [3, 9]
    broken = next(folder.glob("train-labels*"))
    broken.write_bytes(broken.read_bytes()[:5])
    with pytest.raises(DataError, match="train-labels"):
        read_fashion_mnist(tmp_path)


def test_read_fashion_mnist_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        read_fashion_mnist(tmp_path)
