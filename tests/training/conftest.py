from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.split import MemoryStore, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in a fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stripes() -> Split:
    """96 noisy 8x8 pictures: class 0 has horizontal stripes, class 1 vertical, class 2 none. Easily told apart."""
    generator = np.random.default_rng(0)
    labels = np.arange(96) % 3
    pictures = generator.integers(0, 60, (96, 1, 8, 8))
    pictures[labels == 0, :, ::2, :] += 190
    pictures[labels == 1, :, :, ::2] += 190
    pictures[labels == 2] += 95
    preprocessing = Preprocessing(image_size=8, mean=(0.5,), std=(0.25,), channels=1)
    store = MemoryStore(torch.from_numpy(pictures.astype(np.uint8)))
    return Split(store, labels, np.arange(96), preprocessing)


@pytest.fixture
def small_network() -> Callable[[], nn.Module]:
    """Makes the same convolutional network with batch norm and dropout each time."""

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(1, 8, 3, padding=1, bias=False),
                    norm=nn.BatchNorm2d(8),
                    act=nn.ReLU(),
                    pool=nn.AdaptiveMaxPool2d(2),
                    flat=nn.Flatten(),
                    drop=nn.Dropout(0.3),
                    head=nn.Linear(32, 3),
                )
            )

    return make
