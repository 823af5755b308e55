"""Set a part of the training examples aside to score proposals with. Never the test set (NetAdapt, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from netadapt_trt.training.split import Split

__all__ = ["holdout", "holdout_sizes"]

_PER_CLASS = 10
_AT_MOST = 10_000


def holdout_sizes(counts: NDArray[np.int64], fraction: float = 0.1) -> NDArray[np.int64]:
    """How many examples of each class to set aside, given how many there are.

    ``fraction`` of them, at least 10 of a class, at most 10,000 in all, never more than half of a class.
    """
    wanted = min(fraction, _AT_MOST / max(1, counts.sum()))
    # More than 1,000 classes cannot have 10 each within 10,000; then fewer each.
    least = max(1, min(_PER_CLASS, _AT_MOST // max(1, len(counts))))
    sizes: NDArray[np.int64] = np.minimum(np.maximum(np.floor(counts * wanted).astype(np.int64), least), counts // 2)
    while sizes.sum() > _AT_MOST:  # where small classes got their minimum, the largest give way
        sizes[np.argmax(sizes)] -= 1
    return sizes


def holdout(split: Split, seed: int, fraction: float = 0.1) -> tuple[Split, Split]:
    """(the rest, the holdout), stratified by class; the same for the same seed.

    Raises:
        DataError: a fraction outside (0, 0.5], or no class with two examples.
    """
    if not 0 < fraction <= 0.5:
        raise DataError(f"the holdout fraction must be above 0 and at most 0.5, not {fraction}")
    generator = np.random.default_rng((seed, 0x401D))
    classes = np.unique(split.labels)
    counts = np.array([(split.labels == label).sum() for label in classes], dtype=np.int64)
    chosen = np.zeros(len(split), dtype=bool)
    for label, size in zip(classes, holdout_sizes(counts, fraction), strict=True):
        chosen[generator.permutation(np.flatnonzero(split.labels == label))[:size]] = True
    if not chosen.any():
        raise DataError(f"{len(split)} training examples are too few to set some aside; give at least two of a class")
    return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))
