"""Widths of whole networks to measure: the ones estimates are anchored to, and random ones to test them with.

A random network has a base u, and each group keeps u times a factor of its own, on the grid of widths.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from netadapt_trt.plan.units import steps_in_units

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Plan

__all__ = ["ANCHORS", "anchor_widths", "random_widths", "uneven_widths"]

ANCHORS = 8
"""Narrower networks measured beside the uncut one. Two unknowns are fitted; the rest is for noise."""

_BASE = (0.15, 1.0)
_JITTER = (0.7, 1.3)


def _draw(plan: Plan, base: float, draw: random.Random, granularity: int) -> dict[str, int]:
    widths, steps = {}, steps_in_units(plan, granularity)
    for group in plan.groups:
        step = steps[group.name]
        wanted = round(group.size * base * draw.uniform(*_JITTER) / step) * step
        widths[group.name] = min(group.size, max(step, wanted))
    return widths


def random_widths(plan: Plan, count: int, seed: int, *, granularity: int = 8) -> list[dict[str, int]]:
    """``count`` random width settings of all groups; the base is uniform between 0.15 and 1."""
    draw = random.Random(seed)
    return [_draw(plan, draw.uniform(*_BASE), draw, granularity) for _ in range(count)]


def anchor_widths(plan: Plan, *, granularity: int = 8) -> list[dict[str, int]]:
    """The uncut network, then up to ANCHORS narrower ones whose bases are spread evenly; the same for every run."""
    draw = random.Random(0)
    low, high = _BASE
    bases = [low + (high - low) * (index + 0.5) / ANCHORS for index in range(ANCHORS)]
    settings = [plan.full_widths(), *(_draw(plan, base, draw, granularity) for base in bases)]
    return list({tuple(widths.values()): widths for widths in settings}.values())


def uneven_widths(plan: Plan, draw: random.Random, *, granularity: int = 8) -> dict[str, int]:
    """A network as adaptation leaves it: groups between an eighth and all of their size, however far their neighbours are.

    Half of them keep near a common base as in :func:`random_widths`, so that whole networks of all sizes occur.
    """
    base, near = draw.uniform(*_BASE), draw.random() < 0.5
    widths, steps = {}, steps_in_units(plan, granularity)
    for group in plan.groups:
        step = steps[group.name]
        share = base * draw.uniform(*_JITTER) if near else 2.0 ** draw.uniform(-3.0, 0.0)
        wanted = round(group.size * share / step) * step
        widths[group.name] = min(group.size, max(min(step, group.size), wanted))
    return widths
