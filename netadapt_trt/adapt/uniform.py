"""The baseline everybody tries first: one multiplier for all widths, at the same granularity, no slower than the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from netadapt_trt.adapt.resources import Widths

__all__ = ["Uniform", "find_uniform", "uniform_networks"]

_MISSES = 3
"""How many wider networks in a row may be too slow before the search stops: measurements and staircases wiggle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """A network whose widths are ``multiplier`` times the full ones, rounded down to the granularity."""

    multiplier: float
    widths: Widths


def uniform_networks(sizes: Mapping[str, int], steps: Mapping[str, int]) -> list[Uniform]:
    """All different networks that a single multiplier up to 1 makes, narrowest first. No width falls below one step."""
    breaks = {1.0}
    for group, size in sizes.items():
        breaks.update(width / size for width in range(steps[group], size, steps[group]))
    found: list[Uniform] = []
    for multiplier in sorted(breaks):
        widths = {group: _rounded(multiplier, size, steps[group]) for group, size in sizes.items()}
        if not found or found[-1].widths != widths:
            found.append(Uniform(multiplier=multiplier, widths=widths))
    return found


def _rounded(multiplier: float, size: int, step: int) -> int:
    if multiplier >= 1.0:
        return size
    # The small addend keeps a break point such as (8 / 24) * 24 on its own side of the floor.
    return min(size, max(step, int(multiplier * size / step + 1e-9) * step))


def find_uniform(
    networks: Sequence[Uniform],
    *,
    estimate: Callable[[Widths], float],
    limit: float,
    measured_share: Callable[[Widths], float] | None,
) -> Uniform | None:
    """The widest of ``networks`` (narrowest first) that needs at most what the adapted network does.

    Args:
        networks: from :func:`uniform_networks`.
        estimate: a network's estimated value; ``limit`` is the adapted network's, in the same unit.
        limit: the most it may need.
        measured_share: a network's measured value over the adapted one's; None where nothing can be measured, then the
            estimate decides alone.

    Returns:
        None when even the narrowest needs more.
    """
    start = next((index for index in reversed(range(len(networks))) if estimate(networks[index].widths) <= limit), None)
    if measured_share is None:
        return None if start is None else networks[start]
    index = 0 if start is None else start
    best, misses, above = None, 0, index
    while above < len(networks) and misses < _MISSES:
        if measured_share(networks[above].widths) <= 1.0:
            best, misses = above, 0
        else:
            misses += 1
        above += 1
    while best is None and index > 0:
        index -= 1
        if measured_share(networks[index].widths) <= 1.0:
            best = index
    return None if best is None else networks[best]
