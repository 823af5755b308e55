"""Labelled pictures that yield batches, the same for the same seed on any machine.

Where the raw values come from is a :class:`Store`: a tensor in memory, or files decoded while training goes on. Cropping,
flipping and normalising are done here, on whole batches. Every draw of batch ``b`` derives from (seed, b), so an
interrupted epoch continues at any batch without replaying the ones before.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from netadapt_trt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from netadapt_trt.training.preprocessing import Preprocessing

__all__ = ["DataSet", "MemoryStore", "Split", "Store", "augmented"]


class Store(Protocol):
    """Raw examples by number."""

    @property
    def slow(self) -> bool:
        """True where reading takes long enough to be done ahead, in the background."""

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """[n, C, ...], uint8 or float32, for these example numbers in this order."""


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """Examples in one tensor; pictures are scaled to ``image_size`` and repeated to ``channels`` as they are read."""

    values: Tensor
    image_size: int | None = None
    channels: int | None = None
    slow: bool = False

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """See :class:`Store`."""
        values = self.values[torch.from_numpy(indices)]
        if self.image_size is not None and values.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            floats = functional.interpolate(values.float(), size, mode="bilinear", antialias=True)
            values = floats.round_().clamp_(0, 255).to(torch.uint8) if values.dtype == torch.uint8 else floats
        if self.channels is not None and values.shape[1] != self.channels:
            values = values.expand(-1, self.channels, -1, -1)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Some examples of a store. ``labels`` [n] are class numbers; ``indices`` [n] the examples' numbers in the store."""

    store: Store
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    preprocessing: Preprocessing
    flip: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Split:
        """The examples at these positions, in this order. Raises IndexError outside the split."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, labels=self.labels[chosen], indices=self.indices[chosen])

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: bool = False,
        device: str | torch.device = "cpu",
        channels_last: bool = False,
        start: int = 0,
        drop_last: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs [n, C, ...] float32, labels [n] int64) on ``device``; one pass, from batch ``start`` on.

        ``shuffle_seed`` None keeps the order. ``augment`` crops from a frame of an eighth of the picture and mirrors half
        of them. ``drop_last`` leaves an incomplete last batch out unless it is the only one.
        """
        order = np.arange(len(self)) if shuffle_seed is None else np.random.default_rng(shuffle_seed).permutation(len(self))
        size = min(batch_size, len(self))
        if size < 1:
            raise DataError(f"no batch of {batch_size} can be made of {len(self)} examples")
        count = len(self) // size if drop_last else -(-len(self) // size)

        def make(number: int) -> tuple[Tensor, Tensor]:
            return self._batch(order[number * size : (number + 1) * size], shuffle_seed or 0, number, augment)

        for inputs, labels in _made(make, start, count, ahead=self.store.slow):
            inputs = inputs.to(device, non_blocking=True)
            if channels_last and inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs, labels.to(device, non_blocking=True)

    def _batch(self, chosen: NDArray[np.int64], seed: int, number: int, augment: bool) -> tuple[Tensor, Tensor]:
        values = self.store.read(self.indices[chosen])
        if augment and values.dim() == 4:
            values = augmented(values, np.random.default_rng((seed, number)), flip=self.flip)
        return self.preprocessing.normalize(values), torch.from_numpy(self.labels[chosen])


def _made(
    make: Callable[[int], tuple[Tensor, Tensor]], start: int, count: int, *, ahead: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    if not ahead:
        yield from (make(number) for number in range(start, count))
        return
    with ThreadPoolExecutor(1) as background:
        waiting = [background.submit(make, number) for number in range(start, min(start + 2, count))]
        for number in range(start, count):
            result = waiting.pop(0).result()
            if number + 2 < count:
                waiting.append(background.submit(make, number + 2))
            yield result


def augmented(values: Tensor, generator: np.random.Generator, *, flip: bool) -> Tensor:
    """[n, C, H, W] shifted by up to an eighth of the size (black comes in) and, with ``flip``, half of them mirrored."""
    count, channels, height, width = values.shape
    rows, columns = height // 8, width // 8
    down = torch.from_numpy(generator.integers(0, 2 * rows + 1, count)).view(-1, 1)
    right = torch.from_numpy(generator.integers(0, 2 * columns + 1, count)).view(-1, 1)
    mirrored = torch.from_numpy(generator.random(count) < 0.5).view(-1, 1) & flip
    framed = functional.pad(values, (columns, columns, rows, rows))
    across = torch.arange(width).view(1, -1)
    from_columns = right + torch.where(mirrored, width - 1 - across, across)
    from_rows = down + torch.arange(height).view(1, -1)
    # Taken channel by channel out of flat pictures: one gather makes crop and mirror in a single pass.
    flat = (from_rows.unsqueeze(2) * (width + 2 * columns) + from_columns.unsqueeze(1)).view(count, 1, -1)
    taken = framed.flatten(2).gather(2, flat.expand(-1, channels, -1))
    return taken.view(count, channels, height, width)


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """A named data set; labels of both splits count in ``classes``."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing
