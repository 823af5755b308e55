from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from netadapt_trt.errors import DataError
from netadapt_trt.training import image_folder as module
from netadapt_trt.training.image_folder import CACHE_VARIABLE, decode, image_folder
from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.split import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PLAIN = Preprocessing(image_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = tmp_path / "set"
    for number, (part, name) in enumerate((part, name) for part in ("train", "val") for name in ("cat", "dog")):
        for picture in range(3):
            path = root / part / name / f"{picture}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number * 10, picture, 7)).save(path)
    return root


def _first_values(split_root: Path, limit: int = 2**30) -> list[tuple[int, int]]:
    data = image_folder(split_root, PLAIN, memory_limit_bytes=limit)
    inputs, labels = next(iter(data.train.batches(6)))
    return [(round(float(picture[0, 0, 0]) * 255), int(label)) for picture, label in zip(inputs, labels, strict=True)]


def test_image_folder_reads_classes_in_order_and_val_as_test(folder: Path) -> None:
    data = image_folder(folder, PLAIN)
    assert data.classes == ("cat", "dog")
    assert len(data.train) == len(data.test) == 6
    assert isinstance(data.train.store, MemoryStore)
    assert _first_values(folder) == [(0, 0)] * 3 + [(10, 1)] * 3


def test_image_folder_streams_what_does_not_fit_and_gives_the_same(folder: Path) -> None:
    assert _first_values(folder, limit=10) == _first_values(folder)
    assert image_folder(folder, PLAIN, memory_limit_bytes=10).train.store.slow


def test_image_folder_maps_its_cache_until_a_picture_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _first_values(folder)
    decoded: list[Path] = []

    def watched(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        decoded.append(path)
        return decode(path, preprocessing)

    monkeypatch.setattr(module, "decode", watched)
    assert _first_values(folder) == before
    assert not decoded
    changed = folder / "train" / "cat" / "0.png"
    Image.new("RGB", (8, 8), (99, 0, 0)).save(changed)
    os.utime(changed, (1, 1))
    assert _first_values(folder)[0] == (99, 0)
    assert len(decoded) == 6


def test_image_folder_survives_a_damaged_cache_and_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _first_values(folder)
    for file in (folder.parent / "cache").rglob("*.npy"):
        file.write_bytes(b"\x93NUMPY damaged")
    assert _first_values(folder) == before
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    assert _first_values(folder) == before


def test_decode_scales_the_shorter_side_and_cuts_the_centre(tmp_path: Path) -> None:
    # 8 rows by 24 columns: left third red, middle green, right blue; the centre square is green.
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    for third in range(3):
        wide[:, third * 8 : third * 8 + 8, third] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    picture = decode(tmp_path / "wide.png", PLAIN)
    assert picture.shape == (3, 8, 8)
    assert picture[1].min() == 255
    grey = decode(tmp_path / "wide.png", Preprocessing(image_size=4, mean=(0.0,), std=(1.0,), channels=1, crop=0.5))
    assert grey.shape == (1, 4, 4)
    assert grey.min() == grey.max() == 150  # green's share of luma, 0.587 of 255


def test_image_folder_names_what_is_wrong(folder: Path) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"dog/1\.png"):
        image_folder(folder, PLAIN)
    for file in (folder / "train" / "dog").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="train/dog holds no pictures"):
        image_folder(folder, PLAIN)
    (folder / "train" / "dog").rmdir()
    with pytest.raises(DataError, match=r"has classes that .*: dog"):
        image_folder(folder, PLAIN)
    with pytest.raises(DataError, match="no folder"):
        image_folder(folder / "train", PLAIN)
