"""The training set in two: weights learn on the larger part, theta on the other. The test set takes no part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import DataError

if TYPE_CHECKING:
    from netadapt_trt.training.split import Split

__all__ = ["split_for_search"]


def split_for_search(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """(for weights, for theta): ``share`` of each class goes to theta, rounded, at least one of a class that has two.

    Raises:
        DataError: fewer than two examples for either.
    """
    generator = np.random.default_rng((seed, 0x7E7A))
    chosen = np.zeros(len(split), dtype=bool)
    for label in np.unique(split.labels):
        members = generator.permutation(np.flatnonzero(split.labels == label))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[:count]] = True
    weights, theta = split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))
    if min(len(weights), len(theta)) < 2:
        raise DataError(
            f"{len(split)} training examples leave {len(weights)} for weights and {len(theta)} for theta; a search needs at "
            f"least two for each, and learns little from fewer than hundreds"
        )
    return weights, theta
