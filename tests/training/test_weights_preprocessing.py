"""Whose normalisation is used: asked for, the weights', the data set's, in this order; and that a difference is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import write_document
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import ModelSpec
from netadapt_trt.training.data import open_data
from netadapt_trt.training.preprocessing import Preprocessing, normalization, normalization_text
from netadapt_trt.training.weights_preprocessing import choose_normalization, trained_preprocessing

if TYPE_CHECKING:
    from pathlib import Path

GREY = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 1, 8, 8))
RESNET = ModelSpec(model="torchvision:resnet18", input_shape=(1, 3, 224, 224))
USED = Preprocessing(image_size=8, mean=(0.9,), std=(0.05,), channels=1)


class Told(QuietProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


def trained(folder: Path, preprocessing: Preprocessing = USED, data: str = "digits") -> str:
    """Weights with the record of a training; the tensors are never read."""
    content = {"preprocessing": preprocessing.to_json(), "data": data}
    write_document(folder / "seed.json", format="netadapt-weights", version=1, content=content)
    return str(folder / "seed.safetensors")


def test_weights_bring_their_normalisation_and_it_is_told(tmp_path: Path) -> None:
    told = Told()
    weights = trained(tmp_path)
    assert choose_normalization(None, data="digits", weights=weights, spec=GREY, progress=told) == "0.9/0.05"
    (line,) = told.lines
    assert "0.9/0.05" in line
    assert "not by digits" in line
    assert "seed.safetensors" in line


def test_what_was_asked_for_wins_over_the_weights_and_the_difference_is_told(tmp_path: Path) -> None:
    told = Told()
    weights = trained(tmp_path)
    assert choose_normalization("none", data="digits", weights=weights, spec=GREY, progress=told) == "none"
    assert "--normalize none is used instead" in told.lines[0]
    assert choose_normalization("0.9/0.05", data="digits", weights=weights, spec=GREY, progress=told) == "0.9/0.05"
    assert len(told.lines) == 1


def test_weights_of_the_same_normalisation_or_of_none_known_change_nothing(tmp_path: Path) -> None:
    told = Told()
    mean, std = normalization("digits", 1)
    same = trained(tmp_path, Preprocessing(image_size=8, mean=mean, std=std, channels=1))
    for weights in (same, None, str(tmp_path / "other.pth"), "torchvision:DEFAULT"):
        assert choose_normalization(None, data="digits", weights=weights, spec=GREY, progress=told) is None
    assert told.lines == []


def test_files_beside_the_weights_that_are_not_ours_are_left_alone_and_damaged_ones_told(tmp_path: Path) -> None:
    weights = str(tmp_path / "seed.safetensors")
    for text in ("{}", "[1]", "not json", '{"format": "other", "preprocessing": 3}'):
        (tmp_path / "seed.json").write_text(text)
        assert trained_preprocessing(weights, GREY) is None
    (tmp_path / "seed.json").write_text('{"format": "netadapt-weights", "version": 1, "preprocessing": {"mean": [1]}}')
    with pytest.raises(FileFormatError, match="preprocessing"):
        trained_preprocessing(weights, GREY)
    (tmp_path / "seed.json").write_text('{"format": "netadapt-weights", "version": 1, "preprocessing": 3}')
    with pytest.raises(FileFormatError, match=r"seed\.json"):
        trained_preprocessing(weights, GREY)


@pytest.mark.parametrize("weights", ["torchvision:DEFAULT", "torchvision:IMAGENET1K_V1", "some/resnet18-f37072fd.pth"])
def test_published_weights_want_imagenet_s_normalisation(weights: str) -> None:
    told = Told()
    assert choose_normalization(None, data="cifar10:somewhere", weights=weights, spec=RESNET, progress=told) == "imagenet"
    assert "not by cifar10" in told.lines[0]
    assert choose_normalization(None, data="imagefolder:somewhere", weights=weights, spec=RESNET) is None
    found = trained_preprocessing(weights, RESNET)
    assert found == Preprocessing(
        image_size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=3, crop=224 / 256
    )


def test_published_weights_on_another_size_are_told() -> None:
    told = Told()
    small = ModelSpec(model=RESNET.model, input_shape=(1, 3, 64, 64))
    choose_normalization("imagenet", data="digits", weights="torchvision:DEFAULT", spec=small, progress=told)
    assert told.lines == ["torchvision:DEFAULT was trained on pictures of 224 pixels, the network's input is 1x3x64x64"]


def test_data_of_a_factory_keep_their_own_unless_the_weights_were_trained_with_them(tmp_path: Path) -> None:
    told = Told()
    weights = trained(tmp_path, data="mine.py:values")
    assert choose_normalization(None, data="mine.py:values", weights=weights, spec=GREY, progress=told) == "0.9/0.05"
    assert choose_normalization(None, data="mine.py:others", weights=weights, spec=GREY, progress=told) is None
    assert "as its factory makes them" in told.lines[1]


def test_normalisation_is_refused_for_a_factory_that_brings_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from netadapt_trt.training.data import open_data\n"
        "def made():\n    return open_data('digits', input_shape=(1, 1, 8, 8))\n"
    )
    name = f"{file}:made"
    assert open_data(name, input_shape=(1, 1, 8, 8), normalize="digits").classes[3] == "3"
    with pytest.raises(SpecError, match="brings its own normalisation"):
        open_data(name, input_shape=(1, 1, 8, 8), normalize="0.9/0.05")


@pytest.mark.parametrize(
    ("text", "channels", "written"),
    [
        ("imagenet", 3, "imagenet"),
        ("imagenet", 1, "imagenet"),
        ("digits", 3, "digits"),
        ("none", 5, "none"),
        ("0.9/0.05", 3, "0.9/0.05"),
        ("0.1,0.2,0.30000000000000004/1,1,2", 3, "0.1,0.2,0.30000000000000004/1.0,1.0,2.0"),
    ],
)
def test_normalization_text_is_read_back_as_the_same_values(text: str, channels: int, written: str) -> None:
    values = normalization(text, channels)
    assert normalization_text(*values) == written
    assert normalization(written, channels) == values
