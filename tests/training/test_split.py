from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from netadapt_trt.errors import DataError
from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.split import MemoryStore, Split, augmented

PLAIN = Preprocessing(image_size=None, mean=(0.0,), std=(1.0,), channels=1)


def _split(count: int = 10, *, slow: bool = False) -> Split:
    values = torch.arange(count, dtype=torch.float32).view(-1, 1)
    return Split(MemoryStore(values, slow=slow), np.arange(count) % 3, np.arange(count), PLAIN)


def _order(split: Split, size: int, **options: object) -> list[list[int]]:
    return [inputs.flatten().int().tolist() for inputs, _ in split.batches(size, **options)]  # type: ignore[arg-type]


def test_batches_keep_the_order_without_a_seed() -> None:
    assert _order(_split(), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert _order(_split(), 4, drop_last=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert _order(_split(3), 8, drop_last=True) == [[0, 1, 2]]


def test_batches_shuffle_the_same_way_for_the_same_seed_and_continue_anywhere() -> None:
    once = _order(_split(), 3, shuffle_seed=5)
    assert once == _order(_split(), 3, shuffle_seed=5)
    assert once != _order(_split(), 3, shuffle_seed=6)
    assert sorted(number for batch in once for number in batch) == list(range(10))
    assert _order(_split(), 3, shuffle_seed=5, start=2) == once[2:]


def test_batches_read_ahead_gives_the_same_and_stops_when_left() -> None:
    assert _order(_split(slow=True), 3, shuffle_seed=5) == _order(_split(), 3, shuffle_seed=5)
    before = threading.active_count()
    for _ in _split(slow=True).batches(2):
        break
    assert threading.active_count() <= before + 1


def test_subset_picks_examples_and_labels() -> None:
    part = _split().subset([7, 2]).subset([1, 0])
    assert _order(part, 5) == [[2, 7]]
    assert part.labels.tolist() == [2, 1]
    with pytest.raises(IndexError):
        part.subset([2])


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="0 examples"):
        list(_split().subset([]).batches(4))


def test_augmented_pictures_are_shifted_and_mirrored_windows_of_the_framed_ones() -> None:
    generator = np.random.default_rng(0)
    values = torch.from_numpy(generator.integers(1, 255, (40, 2, 16, 8), dtype=np.uint8))
    result = augmented(values, np.random.default_rng(1), flip=True)
    assert torch.equal(result, augmented(values, np.random.default_rng(1), flip=True))
    framed = np.pad(values.numpy(), ((0, 0), (0, 0), (2, 2), (1, 1)))
    kinds = set()
    for number, picture in enumerate(result.numpy()):
        found = [
            (mirror, top, left)
            for mirror in (False, True)
            for top in range(5)
            for left in range(3)
            if np.array_equal(picture[..., ::-1] if mirror else picture, framed[number, :, top : top + 16, left : left + 8])
        ]
        assert len(found) == 1
        kinds.add(found[0])
    assert {mirror for mirror, _, _ in kinds} == {False, True}
    assert {top for _, top, _ in kinds} == set(range(5))
    assert {left for _, _, left in kinds} == set(range(3))


def test_augmented_without_flip_never_mirrors() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).view(1, 1, 1, 16).repeat(30, 1, 16, 1) + 1
    result = augmented(ramp, np.random.default_rng(0), flip=False).int()
    inner = result[:, 0, 4:12, 4:12]
    assert bool((inner.diff(dim=2) == 1).all())


def test_memory_store_scales_and_repeats_as_it_reads() -> None:
    values = torch.tensor([10, 200], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    read = MemoryStore(values, image_size=8, channels=3).read(np.array([1]))
    assert read.shape == (1, 3, 8, 8)
    assert read.dtype == torch.uint8
    assert bool((read == 200).all())
