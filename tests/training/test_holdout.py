from __future__ import annotations

import numpy as np
import pytest
import torch

from netadapt_trt.errors import DataError
from netadapt_trt.training.holdout import holdout, holdout_sizes
from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.split import MemoryStore, Split


def _split(labels: list[int]) -> Split:
    plain = Preprocessing(image_size=None, mean=(0.0,), std=(1.0,), channels=1)
    store = MemoryStore(torch.arange(len(labels)).float().view(-1, 1))
    return Split(store, np.array(labels), np.arange(len(labels)), plain)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5000] * 10, [500] * 10),  # a tenth
        ([200, 50], [20, 10]),  # at least ten of a class
        ([12, 200], [6, 20]),  # never more than half of a class
        ([1, 40], [0, 10]),
        ([1300] * 1000, [10] * 1000),  # at most 10,000 in all
        ([100] * 2000, [5] * 2000),
    ],
)
def test_holdout_sizes_follow_the_rule(counts: list[int], expected: list[int]) -> None:
    assert holdout_sizes(np.array(counts)).tolist() == expected


def test_holdout_sizes_stay_within_the_limit_when_small_classes_get_their_minimum() -> None:
    sizes = holdout_sizes(np.array([100_000] + [20] * 900))
    assert sizes.sum() == 10_000
    assert sizes[1:].tolist() == [10] * 900


def test_holdout_is_a_stratified_partition_that_repeats_for_a_seed() -> None:
    split = _split([0] * 300 + [1] * 100)
    fit, held = holdout(split, seed=3)
    assert sorted([*fit.indices, *held.indices]) == list(range(400))
    assert np.bincount(held.labels).tolist() == [30, 10]
    assert np.array_equal(holdout(split, seed=3)[1].indices, held.indices)
    assert not np.array_equal(holdout(split, seed=4)[1].indices, held.indices)


def test_holdout_refuses_too_little_data_and_odd_fractions() -> None:
    with pytest.raises(DataError, match="too few"):
        holdout(_split([0, 1, 2]), seed=0)
    with pytest.raises(DataError, match="fraction"):
        holdout(_split([0, 0]), seed=0, fraction=0.9)
