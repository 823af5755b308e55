from __future__ import annotations

import numpy as np
import pytest
import torch

from netadapt_trt.errors import DataError
from netadapt_trt.search.data import split_for_search
from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.split import MemoryStore, Split


def made(labels: list[int]) -> Split:
    store = MemoryStore(torch.zeros(len(labels), 1, 2, 2))
    preprocessing = Preprocessing(image_size=2, mean=(0.0,), std=(1.0,), channels=1)
    return Split(store, np.array(labels), np.arange(len(labels)), preprocessing)


def test_split_gives_theta_its_share_of_each_class() -> None:
    split = made([0] * 50 + [1] * 100 + [2] * 3)
    weights, theta = split_for_search(split, 0.2, seed=1)
    assert [(theta.labels == label).sum() for label in range(3)] == [10, 20, 1]
    assert sorted([*weights.indices, *theta.indices]) == list(range(153))


def test_split_follows_from_its_seed() -> None:
    split = made([0, 1] * 50)
    first, second, other = (split_for_search(split, 0.2, seed)[1].indices for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_split_of_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="at least two for each"):
        split_for_search(made([0, 0]), 0.2, 0)
