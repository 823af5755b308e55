from __future__ import annotations

import json

import pytest
import torch

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.training.preprocessing import Preprocessing, normalization

SOME = Preprocessing(image_size=8, mean=(0.5, 0.25), std=(0.5, 0.1), channels=2, crop=0.875)


def test_preprocessing_survives_json() -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(SOME.to_json()))) == SOME


@pytest.mark.parametrize("change", [{"mean": [0.5]}, {"mean": None}, {"image_size": "big"}, {"channels": None}])
def test_preprocessing_refuses_other_json(change: dict[str, object]) -> None:
    with pytest.raises(FileFormatError, match="preprocessing"):
        Preprocessing.from_json({**SOME.to_json(), **change})


def test_normalize_maps_bytes_and_floats_alike() -> None:
    values = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).repeat(1, 2, 1, 1)
    expected = torch.tensor([[-1.0, -0.6, 1.0], [-2.5, -0.5, 7.5]]).view(1, 2, 1, 3)
    assert torch.allclose(SOME.normalize(values), expected, atol=1e-5)
    assert torch.allclose(SOME.normalize(values.float() / 255), expected, atol=1e-5)


def test_normalization_reads_names_and_numbers() -> None:
    assert normalization("none", 3) == ((0.0,) * 3, (1.0,) * 3)
    assert normalization("0.5/0.25", 3) == ((0.5,) * 3, (0.25,) * 3)
    assert normalization("0.1,0.2,0.3/1,2,3", 3) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert normalization("imagenet", 1)[0][0] == pytest.approx(0.449)
    assert normalization("digits", 3)[1] == (0.3760,) * 3


@pytest.mark.parametrize("bad", ["imagnet", "0.5", "a/b", "0.1,0.2/1,1", "0.5/0", "0.5/nan", "1/2/3"])
def test_normalization_refuses_what_it_does_not_understand(bad: str) -> None:
    with pytest.raises(SpecError, match="normalization"):
        normalization(bad, 3)
