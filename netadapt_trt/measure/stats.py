"""Numbers out of samples. The median speaks for a latency: interrupts only lengthen runs, so a mean drifts with them.

Between rounds even the median is not enough. A neighbour on a shared machine makes a processor slow for milliseconds to
minutes (on one such machine 1.3 times as slow, half of the time), and the median of rounds jumps between two speeds; what
repeats itself is the quiet rounds' time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.spec import LatencyStats

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["latency_stats", "mape", "odd_even_medians", "quiet_median", "repeatability", "spearman", "unsettled"]

_QUIET_SHARE, _QUIET_ROUNDS = 4, 2


def latency_stats(samples_ms: Sequence[float]) -> LatencyStats:
    """Median, 10th and 90th percentile (linear between neighbouring samples) of at least one sample in milliseconds.

    Raises ValueError for no samples, or one that is negative or not finite.
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no samples: nothing was timed")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("a latency sample is negative or not finite")
    p10, median, p90 = np.percentile(values, (10, 50, 90))
    return LatencyStats(median=float(median), p10=float(p10), p90=float(p90), n=int(values.size))


def mape(estimates: Sequence[float], references: Sequence[float]) -> float:
    """Mean of ``|estimate / reference - 1|``: 0.04 means four percent.

    Raises ValueError when there are none, their numbers differ, or a reference is not positive.
    """
    if len(estimates) != len(references) or not estimates:
        raise ValueError(f"{len(estimates)} estimates stand against {len(references)} references")
    if min(references) <= 0:
        raise ValueError("a reference is not positive")
    ratios = np.asarray(estimates, dtype=np.float64) / np.asarray(references, dtype=np.float64)
    return float(np.abs(ratios - 1.0).mean())


def quiet_median(round_medians_ms: Sequence[float]) -> float:
    """Median of the quietest quarter of the rounds (two at least, where there are two).

    With 30 rounds on the machine above it once repeated itself within 1.0 %, the median of all rounds within 7 %; at
    worse hours within 3 to 5 %. Where nothing disturbs, all rounds are alike and it makes no difference.

    Raises ValueError for no rounds.
    """
    if len(round_medians_ms) == 0:
        raise ValueError("no rounds: nothing was timed")
    kept = max(-(-len(round_medians_ms) // _QUIET_SHARE), _QUIET_ROUNDS)
    return float(np.median(np.sort(np.asarray(round_medians_ms, dtype=np.float64))[:kept]))


def unsettled(round_medians_ms: Sequence[Sequence[float]], *, within: float, most: int) -> bool:
    """Whether more rounds are worth it: fewer than ``most``, and odd and even ones differ by more than ``within``.

    A runtime whose clock answers 0 is settled: nothing can be compared.
    """
    done = len(round_medians_ms[0]) if round_medians_ms else most
    if done >= most or min(min(rounds) for rounds in round_medians_ms) <= 0:
        return False
    return done < 2 or repeatability(round_medians_ms) > within


def odd_even_medians(round_medians_ms: Sequence[float]) -> tuple[float, float]:
    """:func:`quiet_median` of the first, third, ... round and of the second, fourth, ... Raises ValueError below two."""
    if len(round_medians_ms) < 2:
        raise ValueError("repeatability needs at least two rounds")
    return quiet_median(round_medians_ms[0::2]), quiet_median(round_medians_ms[1::2])


def repeatability(round_medians_ms: Sequence[Sequence[float]]) -> float:
    """How far a measurement disagrees with itself: the :func:`mape` of odd against even rounds over several networks.

    ``round_medians_ms[i]`` are the medians of network i, round by round. No estimate can be expected to agree better.
    """
    pairs = [odd_even_medians(rounds) for rounds in round_medians_ms]
    return mape([odd for odd, _ in pairs], [even for _, even in pairs])


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; equal values share the mean of their ranks. None where it is not defined.

    That is below two pairs, and where all values of one side are equal. Raises ValueError when their numbers differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values stand against {len(second)}")
    if len(first) < 2:
        return None
    one, other = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / spread) if spread > 0 else None


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)
