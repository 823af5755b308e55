from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from netadapt_trt.errors import DataError, SpecError
from netadapt_trt.training.data import open_data

if TYPE_CHECKING:
    from pathlib import Path


def test_digits_are_split_by_class_once_and_for_all() -> None:
    data = open_data("digits", input_shape=(1, 1, 16, 16))
    assert len(data.train) + len(data.test) == 1797
    assert np.bincount(data.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    inputs, labels = next(iter(data.train.batches(64)))
    assert inputs.shape == (64, 1, 16, 16)
    assert labels.dtype == torch.int64
    assert not data.train.flip
    again = open_data("digits", input_shape=(4, 3, 16, 16))
    assert np.array_equal(again.train.labels, data.train.labels)
    assert next(iter(again.train.batches(2)))[0].shape == (2, 3, 16, 16)


def test_digits_are_normalised_to_mean_zero_and_deviation_one() -> None:
    data = open_data("digits", input_shape=(1, 1, 8, 8))
    inputs, _ = next(iter(data.train.batches(2000)))
    assert abs(float(inputs.mean())) < 0.02
    assert float(inputs.std()) == pytest.approx(1, abs=0.02)
    assert data.train.preprocessing == data.preprocessing
    plain, _ = next(iter(open_data("digits", input_shape=(1, 1, 8, 8), normalize="none").train.batches(2000)))
    assert float(plain.min()) == 0
    assert float(plain.max()) == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("digts", "nearest: digits"),
        ("cifar", "cifar10"),
        ("digits:here", "write digits"),
        ("imagefolder", "imagefolder:DIR"),
        ("no_module_here:make", "no_module_here.*working directory$"),
        ("imagefoldr:/somewhere", r"did you mean imagefolder:DIR\?"),
        ("imagenet:/somewhere", r"did you mean imagefolder:DIR\?"),
        ("cifar1:/somewhere", r"did you mean cifar10:DIR or cifar100:DIR\?"),
    ],
)
def test_open_data_names_the_nearest(spec: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        open_data(spec, input_shape=(1, 3, 32, 32))


def test_open_data_refuses_sizes_and_places_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="size 64"):
        open_data("digits", input_shape=(1, 3, 32, 32), image_size=64)
    for shape in ((1, 4, 32, 32), (1, 3, 32, 16), (1, 64)):
        with pytest.raises(SpecError, match="square grey or colour"):
            open_data("digits", input_shape=shape)
    with pytest.raises(DataError, match="no directory"):
        open_data(f"cifar10:{tmp_path / 'none'}", input_shape=(1, 3, 32, 32))


def test_open_data_calls_a_factory(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def vectors():\n    return (np.ones((6, 5)), np.arange(6) % 3), (np.zeros((3, 5)), [0, 1, 2])\n"
        "def floats():\n    return (np.ones((6, 5)), np.ones(6)), (np.zeros((3, 5)), [0, 1, 2])\n"
        "def infinite():\n    return (np.full((2, 5), np.inf), [0, 1]), (np.zeros((2, 5)), [0, 1])\n"
        "def nothing():\n    return None\n"
    )
    data = open_data(f"{file}:vectors", input_shape=(1, 5))
    assert data.classes == ("0", "1", "2")
    inputs, labels = next(iter(data.train.batches(4, augment=True, channels_last=True)))
    assert inputs.dtype == torch.float32
    assert labels.tolist() == [0, 1, 2, 0]
    for name, said in (("floats", "class number"), ("infinite", "not finite"), ("nothing", "NoneType")):
        with pytest.raises(DataError, match=said):
            open_data(f"{file}:{name}", input_shape=(1, 5))
    with pytest.raises(DataError, match="6x5 do not fit"):
        open_data(f"{file}:vectors", input_shape=(1, 7))
