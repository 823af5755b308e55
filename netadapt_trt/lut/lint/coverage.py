"""What a table lacks: gaps between its widths, and what one network needs of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.held_out import held_out
from netadapt_trt.lut.lint.finding import ELSEWHERE, Finding, Hit, Place, anew, counted, measurable, places
from netadapt_trt.lut.networks import random_widths
from netadapt_trt.lut.reading import initial_measured, profile_command
from netadapt_trt.lut.schema import IN_NETWORK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["coverage", "holes"]

GAP_FACTOR = 2.0
"""Widths further apart than that: on real staircases a straight line over an octave misses steps of tens of per cent."""
GAP_SHARE = 0.25
"""A gap must also be this share of the range: ``profile`` puts five points between the ends, so its own gaps are smaller."""
GRID = 8
"""Widths are chosen on multiples of this; a gap with fewer than MIN_INSIDE of them is none."""
MIN_INSIDE = 3
SETTINGS = 20
"""Random settings of widths at which it is asked whether estimates leave what was measured."""


def holes(lut: Lut) -> list[Finding]:
    """Gaps between neighbouring sizes of an axis, of layers timed alone.

    A layer within a network is measured at whatever widths the sampled networks had; that is no grid to have holes. Where
    there are such cells, those timed alone are the corners only.
    """
    hits = []
    totals: dict[str, int] = {}
    inside_networks = set(lut.layers(IN_NETWORK))
    for layer in lut.layers():
        if layer in inside_networks:
            continue
        cells = lut.layer_cells(layer)  # a flagged one fills a gap, too, while nothing better is there
        totals[layer] = len(cells)
        if len({len(cell.widths) for cell in cells}) > 1:
            continue
        for axis, sizes in enumerate(zip(*(cell.widths for cell in cells), strict=True)):
            values = sorted(set(sizes))
            for low, high in pairwise(values):
                inside = (high - 1) // GRID - low // GRID
                if high > GAP_FACTOR * low and high - low > GAP_SHARE * (values[-1] - values[0]) and inside >= MIN_INSIDE:
                    ends = [max(cell.widths for cell in cells if cell.widths[axis] == end) for end in (low, high)]
                    words = f"size {axis + 1} is measured at {low} and next at {high}"
                    hits += [Hit(layer, end, high / low, words) for end in ends]
    if not hits:
        return []
    found = places(hits, totals)
    found = tuple(
        Place(place.layer, place.cells, place.text.partition(": ")[2]) for place in found
    )  # ends of gaps, no cells
    text = f"{len(found)} of {len(totals)} layers have gaps in their widths (neighbours over {GAP_FACTOR:g} x apart)"
    why = "estimates go straight across, while real times have steps"
    action = anew(lut, "run profile again, without --cells and --time-limit", str(lut.path or "LUT"))
    return [Finding("warning", "holes", text, why, action, found)]


def coverage(lut: Lut, plan: Plan, layers: Sequence[Layer], source: str | None = None) -> list[Finding]:
    """Whether ``lut`` covers this network; ``source`` is the file of ``plan``, for the command that measures the rest."""
    try:
        return _coverage(lut, NetworkEstimator(lut, plan, layers), source)
    except CoverageError as error:
        why = "figures of its cells or networks cannot be true"
        action = "remove the damaged lines (the findings beside this one name cells), then run profile again"
        return [Finding("error", "no-estimate", f"nothing can be estimated: {error}", why, action)]


def _coverage(lut: Lut, estimator: NetworkEstimator, source: str | None) -> list[Finding]:
    plan = estimator.plan
    command = f"run: {profile_command(lut, plan, source)}" if measurable(lut) else ELSEWHERE
    findings = []
    missing = dict.fromkeys(layer.key for layer in estimator.missing())
    if missing:
        text = counted(len(missing), f"layer of {plan.model} has", f"layers of {plan.model} have") + " too few cells"
        why = "nothing can be estimated while a layer is missing"
        found = tuple(Place(key, (), _known(lut, key)) for key in missing)
        findings.append(Finding("error", "missing-layers", text, why, command, found))
    try:
        initial_measured(lut, plan)
    except CoverageError:
        text = f"the uncut {plan.model} has not been measured end to end"
        why = "budgets have nothing to refer to, and estimates nothing to be brought to"
        action = "the same command measures it" if missing and measurable(lut) else command
        return [*findings, Finding("error", "missing-network", text, why, action)]
    if missing:
        return findings
    return [*_extrapolated(estimator, plan, command), _covered(estimator, plan)]


def _covered(estimator: NetworkEstimator, plan: Plan) -> Finding:
    """What estimates of this network rest on."""
    found = held_out(estimator)
    if found is not None:
        steps = sorted(set(estimator.staircase().values()))
        stairs = f"; widths step by {' and '.join(map(str, steps))}" if steps else ""
        text = (
            f"all layers of {plan.model} are covered; each of {found.networks} whole networks is estimated from the others "
            f"within {found.error:.1%} on average, {found.worst:.1%} at worst{stairs}"
        )
        return Finding(
            "info", "covered", text, "noise of their own measurements is in it", "test it: netadapt-trt lut validate"
        )
    sign = "less" if estimator.offset < 0 else "plus"
    offset = f" {sign} {abs(estimator.offset):.3g} ms" if estimator.offset else ""
    text = f"all layers of {plan.model} are covered; it takes {estimator.scale:.2f} x (the sum of its layers{offset})"
    why = "layers timed alone pay for calls and reorders that the network does not"
    return Finding("info", "covered", text, why, "nothing; estimates take it into account")


def _known(lut: Lut, key: str) -> str:
    cells = lut.layer_cells(key)
    if not cells:
        return "no cell"
    return f"measured at {', '.join(str(list(cell.widths)) for cell in cells[:3])}{' and so on' if cells[3:] else ' only'}"


def _extrapolated(estimator: NetworkEstimator, plan: Plan, command: str) -> list[Finding]:
    """Layers that are read outside their cells: uncut, at one step of the grid, at random settings."""
    narrow = {name: min(size, GRID) for name, size in plan.full_widths().items()}
    settings = [plan.full_widths(), narrow, *random_widths(plan, SETTINGS, seed=0, granularity=GRID)]
    outside = Counter(key for setting in settings for key in estimator.extrapolates(setting))
    # At the narrowest end alone it is one step of the grid, which few budgets reach.
    ends = estimator.extrapolates(plan.full_widths())
    doubtful = {key: count for key, count in outside.most_common() if count > 1 or key in ends}
    if not doubtful:
        return []
    text = f"{counted(len(doubtful), 'layer', 'layers')} of {plan.model} must be read outside their cells"
    text = f"{text}, at up to {max(doubtful.values())} of {len(settings)} settings of widths"
    why = "what lies outside is extrapolated along a straight line"
    found = tuple(Place(key, (), f"at {count} of {len(settings)} settings") for key, count in doubtful.items())
    return [Finding("warning", "extrapolated", text, why, command, found)]
