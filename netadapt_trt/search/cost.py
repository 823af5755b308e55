"""What a network is expected to cost, as a differentiable function of the weights of its candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from netadapt_trt.space.table import SpaceTable

__all__ = ["ExpectedCost"]


class ExpectedCost:
    """LAT in seconds and ENER in joules of weights [places, columns] float64, rows of which sum to 1.

    Both are sums over places of weights times table entries, and the fixed cost of stem and head: linear in the weights, so
    the gradient by a weight is its table entry. With one-hot weights they are the table's own sum.
    """

    def __init__(self, table: SpaceTable) -> None:
        self._latency = _entries(table.latency_ms)
        self._fixed_latency = table.fixed_latency_ms
        self._energy = _entries(table.energy_mj) if table.has_energy else None
        self._fixed_energy = table.fixed_energy_mj

    def latency_s(self, weights: Tensor) -> Tensor:
        """LAT, a scalar in seconds."""
        return ((weights * self._latency).sum() + self._fixed_latency) / 1e3

    def energy_j(self, weights: Tensor) -> Tensor | None:
        """ENER, a scalar in joules; None where the table says nothing of energy."""
        if self._energy is None:
            return None
        return ((weights * self._energy).sum() + self._fixed_energy) / 1e3


def _entries(values: NDArray[np.float64]) -> Tensor:
    # A candidate that is not offered has the weight 0, and 0 times NaN would be NaN.
    return torch.from_numpy(np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0))
