from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from netadapt_trt.errors import SpecError
from netadapt_trt.zoo.mobilenet_v1 import mobilenet_v1


def test_mobilenet_v1_has_the_published_number_of_parameters() -> None:
    # Keras documents 4,253,864 values for its MobileNet 1.0, of which 21,888 are running statistics.
    assert sum(parameter.numel() for parameter in mobilenet_v1().parameters()) == 4_253_864 - 21_888


def test_mobilenet_v1_half_width_parameters_follow_from_the_table() -> None:
    widths = [16, 32, 64, 64, 128, 128, *[256] * 6, 512, 512]
    expected = 3 * 16 * 9 + 2 * 16
    for before, after in pairwise(widths):
        expected += 9 * before + 2 * before + before * after + 2 * after
    expected += 512 * 10 + 10
    model = mobilenet_v1(width=0.5, num_classes=10, stem="cifar")
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(("stem", "size", "last"), [("imagenet", 224, 7), ("cifar", 32, 2)])
def test_mobilenet_v1_stems_end_at_the_stated_size(stem: Any, size: int, last: int) -> None:
    model = mobilenet_v1(width=0.25, num_classes=5, in_channels=1, stem=stem).eval()
    images = torch.zeros(2, 1, size, size)
    assert model.features(images).shape == (2, 256, last, last)
    assert model(images).shape == (2, 5)


def test_mobilenet_v1_names_its_layers() -> None:
    names = dict(mobilenet_v1(width=0.25).named_modules())
    assert {"features.0.conv", "features.1.depthwise.conv", "features.13.pointwise.norm", "classifier"} <= names.keys()


@pytest.mark.parametrize(
    "bad", [{"width": 0}, {"width": "wide"}, {"stem": "mnist"}, {"num_classes": 0}, {"in_channels": 1.5}]
)
def test_mobilenet_v1_refuses_bad_arguments(bad: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(bad))):
        mobilenet_v1(**bad)
