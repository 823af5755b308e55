"""Which widths an iteration proposes: for every channel group the widest that meets all of the step's targets.

Each group's candidates are evaluated at once, as arrays; nothing here trains or measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.adapt.width_search import candidate_widths, search_width
from netadapt_trt.errors import SpecError
from netadapt_trt.plan.units import channels_per_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.adapt.resources import ResourceModel, Widths
    from netadapt_trt.adapt.settings import AdaptSettings, SearchMethod
    from netadapt_trt.plan.schema import Plan

__all__ = ["Proposed", "granularities", "propose"]

_STEP = 8
"""Where neither the user nor the table knows better."""

_WIDE_LINEAR, _WIDE_LINEAR_STEP = 1024, 64
"""Linear layers of 1024 features or more step by 64, as in Marichal et al.; their 4096 features have 512 steps of 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """One group narrowed to ``width``: the whole network's widths and the value of every budgeted resource there."""

    group: str
    width: int
    widths: Widths
    resources: Mapping[str, float]


def granularities(plan: Plan, settings: AdaptSettings, staircase: Mapping[str, int] | None = None) -> dict[str, int]:
    """The step of every group's widths. ``staircase``: by group what the table shows; what the settings name wins over it.

    A group of fewer than two such steps could not shrink at all, and steps by 8. Steps are of channels, except that
    ``group_granularity`` is of that group's own widths, whose units may be of several channels.

    Raises:
        SpecError: ``group_granularity`` names a group that the network does not have.
    """
    sizes = plan.full_widths()
    unknown = sorted(set(settings.group_granularity) - set(sizes))
    if unknown:
        raise SpecError(f"no channel group is named {', '.join(unknown)}; groups: {', '.join(sizes)}")
    found = {}
    for group in plan.groups:
        linear = all(len(plan.weights[weight].shape) == 2 for weight in group.weights if weight in plan.weights)
        unit = channels_per_unit(plan, group)
        step = (staircase or {}).get(group.name, _STEP)
        step = step if group.size * unit >= 2 * step else _STEP
        step = settings.granularity or step
        if linear and group.weights and settings.linear_granularity is not None:
            step = settings.linear_granularity
        elif linear and group.weights and group.size >= _WIDE_LINEAR:
            step = max(step, _WIDE_LINEAR_STEP)
        found[group.name] = settings.group_granularity.get(group.name, max(1, step // unit))
    return found


def propose(
    models: Mapping[str, ResourceModel],
    targets: Mapping[str, float],
    widths: Widths,
    steps: Mapping[str, int],
    method: SearchMethod = "envelope",
) -> list[Proposed]:
    """One proposal for each group that can meet all ``targets``, in the order of ``steps`` (the network's).

    Args:
        models: by resource; those named in ``targets`` are asked.
        targets: the most each resource may need, in its unit.
        widths: the current network.
        steps: every group and the granularity of its widths.
        method: which width search.
    """
    found = []
    for group, step in steps.items():
        candidates = candidate_widths(widths[group], step)
        if not len(candidates):
            continue
        curves = {name: models[name].curve(widths, group, candidates) for name in targets}
        # The largest excess over any target; its sign is exact, so one search serves one budget and several.
        excess = np.max([curves[name] - target for name, target in targets.items()], axis=0)
        index = search_width(excess, 0.0, method).index
        if index is not None:
            width = int(candidates[index])
            resources = {name: float(curve[index]) for name, curve in curves.items()}
            found.append(Proposed(group=group, width=width, widths={**widths, group: width}, resources=resources))
    return found
