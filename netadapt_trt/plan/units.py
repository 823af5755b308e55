"""How many of a network's channels one step of a group's width is.

A group's channel may be a unit of several: between grouped convolutions one of each block (see ``graph/layout.py``). What is
said of channels, like the steps of widths that suit a runtime's kernels, is divided by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Group, Plan

__all__ = ["channels_per_unit", "steps_in_units"]


def channels_per_unit(plan: Plan, group: Group) -> int:
    """Channels that the layers of ``group`` make for each step of its width; of layers that differ the fewest."""
    made = [
        factor
        for name in group.weights
        if name in plan.weights
        for size in plan.weights[name].shape[:1]
        for term, factor in size.terms
        if term == group.name
    ]
    return min(made, default=1)


def steps_in_units(plan: Plan, channels: int) -> dict[str, int]:
    """For every group the step of its width that is a step of ``channels`` channels, or the finest where a unit is more."""
    return {group.name: max(1, channels // channels_per_unit(plan, group)) for group in plan.groups}
