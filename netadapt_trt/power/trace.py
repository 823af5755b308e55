"""Power over time: what a sampler recorded, as plain arrays.

Invariant: times rise strictly and every value is finite, so that whoever integrates a trace need not look again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.power.rails import total_series

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trace"]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Samples of every rail.

    Attributes:
        times_s: [n] seconds on a monotonic clock, rising strictly.
        rails: names, in the order of the columns.
        power_mw: [n, rails] milliwatts.

    Raises ValueError when the shapes disagree, times do not rise or a value is not finite.
    """

    times_s: NDArray[np.float64]
    rails: tuple[str, ...]
    power_mw: NDArray[np.float64]

    def __post_init__(self) -> None:
        times = np.asarray(self.times_s, dtype=np.float64)
        power = np.asarray(self.power_mw, dtype=np.float64)
        if times.ndim != 1 or power.shape != (len(times), len(self.rails)):
            raise ValueError(
                f"a trace of {times.size} samples of {len(self.rails)} rails needs power_mw of shape "
                f"({times.size}, {len(self.rails)}), got {power.shape}"
            )
        if len(set(self.rails)) != len(self.rails):
            raise ValueError(f"a rail stands twice in {self.rails}")
        if not (np.isfinite(times).all() and np.isfinite(power).all()):
            raise ValueError("a trace holds finite numbers only; leave a missing sample out")
        if (np.diff(times) <= 0).any():
            raise ValueError("the times of a trace must rise strictly")
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "power_mw", power)

    def __len__(self) -> int:
        return len(self.times_s)

    def rail(self, name: str) -> NDArray[np.float64]:
        """Power of one rail, mW [n]. Raises KeyError for a rail that was not recorded."""
        try:
            return self.power_mw[:, self.rails.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def total_mw(self) -> NDArray[np.float64] | None:
        """Power of the whole board, mW [n], by the rail table; None where it knows no total or the labels look wrong."""
        return total_series(self.rails, self.power_mw)

    def window(self, t0: float, t1: float) -> Trace:
        """The samples with ``t0 <= time <= t1``, seconds of the same clock. May be empty."""
        inside = (self.times_s >= t0) & (self.times_s <= t1)
        return Trace(self.times_s[inside], self.rails, self.power_mw[inside])
