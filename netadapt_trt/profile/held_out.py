"""Which networks a table is tested with: random ones that it was not fitted to, in portions that fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.errors import SpecError
from netadapt_trt.lut.networks import random_widths
from netadapt_trt.measure.network import portion_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from netadapt_trt.plan.schema import Plan

__all__ = ["choose_anchors", "held_out", "portions"]

ANCHORS = 4
_TRIES = 64  # draws for each network asked for; a network of many groups hardly ever draws one setting twice
_SLOW_MS = 300.0
"""An anchor that takes longer than this is timed a handful of times a round at most; a narrower one says more."""


def held_out(
    plan: Plan, count: int, seed: int, known: Iterable[Mapping[str, int]], *, granularity: int = 8
) -> tuple[list[dict[str, int]], int]:
    """``count`` random settings that are not among ``known``, each once, and how many draws were passed over for that.

    The first draws of a seed are the same whatever the count. Raises SpecError where the network has too few settings.
    """
    if count < 1:
        raise SpecError(f"{count} networks say nothing about a table; ask for at least one")
    taken = {tuple(widths[group] for group in plan.full_widths()) for widths in known}
    found: list[dict[str, int]] = []
    tried = 0
    for tried, widths in enumerate(random_widths(plan, count * _TRIES, seed, granularity=granularity), 1):
        setting = tuple(widths.values())
        if setting not in taken:
            taken.add(setting)
            found.append(widths)
            if len(found) == count:
                return found, tried - count
    raise SpecError(
        f"only {len(found)} different networks of {plan.model} came out of {tried} draws that the table does not hold; "
        + (f"ask for --networks {len(found)}, or a finer --granularity" if found else "a finer --granularity has more")
    )


def choose_anchors(plan: Plan, known: Sequence[tuple[dict[str, int], float]], count: int = ANCHORS) -> list[dict[str, int]]:
    """The networks timed in every portion, ``count`` at most: one measurement's noise would be in all estimates.

    The uncut one (or the slowest of ``known`` that is neither slow nor large), others spread over the times of ``known``.

    ``known``: settings and milliseconds of the table's whole networks.
    """
    full = plan.full_widths()
    table_ms = next((value for widths, value in known if widths == full), None)
    fit = [(value, widths) for widths, value in known if value <= _SLOW_MS and _size(plan, widths) <= portion_bytes() / 2]
    fit.sort(key=lambda pair: pair[0])
    first = full
    if fit and not ((table_ms is None or table_ms <= _SLOW_MS) and _size(plan, full) <= portion_bytes() / 2):
        first = fit[-1][1]
    others = [widths for _, widths in fit if widths != first]
    wanted = min(count - 1, len(others))
    return [first, *(others[(2 * index + 1) * len(others) // (2 * wanted)] for index in range(wanted))]


def portions(
    plan: Plan, settings: Sequence[dict[str, int]], anchors: Sequence[Mapping[str, int]]
) -> list[list[dict[str, int]]]:
    """``settings`` in portions: what is timed in turn is held in memory at once, the anchors with each of them."""
    found: list[list[dict[str, int]]] = []
    room = 0.0
    for widths in settings:
        size = _size(plan, widths)
        if not found or size > room:
            found.append([])
            room = portion_bytes() - sum(_size(plan, anchor) for anchor in anchors)
        found[-1].append(widths)
        room -= size
    return found


def _size(plan: Plan, widths: Mapping[str, int]) -> float:
    """Bytes of the weights, which most of a network's memory is."""
    from netadapt_trt.plan.sizes import network_params

    return 4.0 * network_params(plan, widths)
