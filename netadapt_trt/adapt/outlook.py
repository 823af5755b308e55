"""Whether the budgets can be reached, said before the loop; and how far it got where they were not, said after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.figures import figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.adapt.course import Course
    from netadapt_trt.adapt.ground import Ground
    from netadapt_trt.adapt.resources import Widths
    from netadapt_trt.progress import Progress

__all__ = ["STUCK", "minimum_widths", "shortfall", "tell_outlook"]

STUCK = "no channel group can shrink any further towards the budget"
"""The reason of a run that no proposal takes any further."""

_LEAST_RATIO = 0.05
"""Below that nobody means a share of a network."""


def minimum_widths(full: Widths, steps: Mapping[str, int]) -> Widths:
    """The smallest network that the loop can come to: every group one step wide, or as it is where that is less."""
    return {group: min(steps[group], size) for group, size in full.items()}


def tell_outlook(ground: Ground, course: Course, progress: Progress) -> None:
    """Say which budgets hold before anything is cut, and which are below the smallest network. It is no verdict."""
    smallest = minimum_widths(ground.plan.full_widths(), ground.steps)
    for budget in ground.settings.budgets:
        name, model = budget.name, ground.resources.models[budget.name]
        value, limit, now = model.value(smallest), course.limits[name], course.achieved[name]
        if course.iteration == 0 and now <= limit:
            progress.notice(
                f"the budget {budget} holds before anything is cut: the initial network needs {figure(name, now)} of "
                f"{figure(name, limit)}"
                + ("" if budget.relative else f"; {name}=0.6x would ask for 0.6 times what it needs")
            )
        elif min(value, now) > limit:
            exact = model.scale is None
            progress.notice(
                f"warning: even the smallest network, every group at its minimum width, "
                f"{'needs' if exact else 'is estimated at'} {figure(name, value)}; the budget {budget} is "
                f"{figure(name, limit)}. The run goes as far as it can{'' if exact else ', estimates err'}"
                f"{_ratio_meant(name, budget.value, relative=budget.relative)}"
            )


def shortfall(content: Mapping[str, Any], path: Path, steps: Mapping[str, int]) -> str:
    """Why a finished run missed its budgets, by how much, and what would help it.

    Args:
        content: that of its result.json.
        path: where that lies.
        steps: the groups' granularities.
    """
    missed = [budget for budget in content["budgets"] if not budget["met"]]
    told = "; ".join(
        f"{name} came from {figure(name, b['initial'])} to {figure(name, b['achieved'])}, "
        f"the budget {b['budget']} is {figure(name, b['limit'])}"
        for b in missed
        if (name := _name(b))
    )
    return (
        f"the budget was not reached: {content['reason']}. {told}. The best network so far was finished and is described in "
        f"{path}; {_advice(content, path, steps)}"
    )


def _name(budget: Mapping[str, Any]) -> str:
    """What the resource of an entry of ``budgets`` is called: with its rail where it has one."""
    return f"{budget['resource']}@{budget['rail']}" if budget.get("rail") else str(budget["resource"])


def _advice(content: Mapping[str, Any], path: Path, steps: Mapping[str, int]) -> str:
    if content["reason"] != STUCK:
        more = 2 * max(int(content["iterations"]), 1)
        return f"go on from there with netadapt-trt adapt --resume {path.parent} --max-iterations {more}"
    widths = content["adapted"]["widths"]
    narrowest = all(width <= steps.get(group, 1) for group, width in widths.items())
    ways = ["a larger budget"]
    if any(steps.get(group, 1) > 1 for group in widths):
        ways.append(f"a smaller --granularity (now {_range(steps)})")
    if not narrowest:
        ways.append(f"a smaller --reduction (now {content['schedule']['reduction']:g})")
    why = "every group is at its minimum width; " if narrowest else ""
    meant = [_ratio_meant(_name(b), b["value"], relative=b["relative"]) for b in content["budgets"] if not b["met"]]
    return f"{why}a new run needs {_either(ways)}{''.join(meant)}"


def _either(ways: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))


def _range(steps: Mapping[str, int]) -> str:
    low, high = min(steps.values()), max(steps.values())
    return f"{low}" if low == high else f"{low} to {high}"


def _ratio_meant(resource: str, value: float, *, relative: bool) -> str:
    """A question to whoever wrote an absolute budget out of reach that reads like a ratio."""
    plausible = not relative and _LEAST_RATIO <= value <= 1
    return "" if not plausible else f"; did you mean {resource}={value:g}x, a share of the initial network's value?"
