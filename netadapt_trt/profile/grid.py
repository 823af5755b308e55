"""Which cells of a network's layers to measure, and in which order.

Per layer and parameter (sizes that vary together count once): the full width, one granule, and up to five points between.
The points lie halfway between even and geometric spacing. A layer's time is roughly linear in a width with steps in it, so
even spacing bounds the error in milliseconds; but a network that shrinks ends up narrow, where the same milliseconds are a
larger share, so the narrow end is denser.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from netadapt_trt.lut.axes import Parameter, Space, space_of
from netadapt_trt.plan.units import steps_in_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.backend import Backend
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Identity

__all__ = ["GRANULARITY", "PlannedCell", "full_grid", "levels", "plan_cells", "spread", "write_cell"]

GRANULARITY = 8
"""The default step of widths, as of the width search where a table shows no steps of its own."""

_BETWEEN = 5
_OWN_GRIDS = 3
"""Layers of one key that differ in their full widths each get a grid of their own up to this many. Beyond (dense blocks
have dozens) they share the grid of the largest, and add only their own full widths."""

_CORNER, _FULL = 0, -1


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell to measure: any layer of the plan that has this key, at these axis values.

    ``level`` -1: a layer at its full widths; 0: the other corners of its grid; from 1 on ever finer points between.
    """

    layer: Layer
    widths: tuple[int, ...]
    level: int


def write_cell(plan: Plan, cell: PlannedCell, backend: Backend, identity: Identity) -> bytes:
    """The cell's layer as ONNX for ``backend``, in precision and recipe of the LUT's ``identity``."""
    from netadapt_trt.plan.write import write_layer

    opset, ir_version = backend.opset()
    return write_layer(
        plan,
        cell.layer,
        cell.widths,
        opset=opset,
        ir_version=ir_version,
        precision=identity.precision,
        recipe=identity.recipe,
    )


def spread(low: int, full: int, step: int, between: int = _BETWEEN) -> tuple[int, ...]:
    """``low``, ``full`` and up to ``between`` multiples of ``step`` inside, denser at the narrow end; ascending."""
    if full <= low:
        return (full,)
    multiples = range((low // step + 1) * step, full, step)
    if len(multiples) <= between:
        return (low, *multiples, full)
    parts = between + 1
    found = set()
    for index in range(1, parts):
        geometric = low * (full / low) ** (index / parts)
        even = low + (full - low) * index / parts
        nearest = round((geometric + even) / 2 / step) * step
        found.add(min(max(nearest, multiples[0]), multiples[-1]))
    return (low, *sorted(found), full)


def levels(count: int) -> list[int]:
    """How early each of ``count`` ascending points is worth measuring: the ends 0, the middle 1, middles of halves 2, ..."""
    result = [0] * count
    pending = [(0, count - 1, 1)]
    while pending:
        first, last, level = pending.pop()
        if last - first < 2:
            continue
        middle = (first + last) // 2
        result[middle] = level
        pending += [(first, middle, level + 1), (middle, last, level + 1)]
    return result


def _low(parameter: Parameter, sizes: Mapping[str, int], steps: Mapping[str, int]) -> int:
    """One granule of every group of the parameter; one channel of a group that is no larger than a granule."""
    return sum(factor * (steps[group] if sizes[group] > steps[group] else 1) for group, factor in parameter.terms)


@dataclass(frozen=True, slots=True)
class _Family:
    """Layers that read one table alike up to their full widths: same key, same fixed sizes, same ties."""

    key: str
    space: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Member:
    """A layer of a family, the narrowest value of each of its parameters and the step between values."""

    layer: Layer
    space: Space
    low: tuple[int, ...]
    steps: tuple[int, ...]


def _points(low: Sequence[int], full: Sequence[int], steps: Sequence[int]) -> dict[tuple[int, ...], int]:
    """Parameter values -> level, for one layer."""
    if len(full) > 2:
        return _diagonal(low, full, steps)
    axes = [spread(a, b, step) for a, b, step in zip(low, full, steps, strict=True)]
    marks = [levels(len(values)) for values in axes]
    found = {}
    for places in product(*(range(len(values)) for values in axes)):
        value = tuple(values[place] for values, place in zip(axes, places, strict=True))
        found[value] = max((mark[place] for mark, place in zip(marks, places, strict=True)), default=_CORNER)
    return found


def _diagonal(low: Sequence[int], full: Sequence[int], steps: Sequence[int]) -> dict[tuple[int, ...], int]:
    """All parameters shrink by the same fraction: a product over more than two would be too many cells."""
    widest = max(range(len(full)), key=lambda index: full[index])
    values = spread(low[widest], full[widest], steps[widest])
    marks = levels(len(values))
    found: dict[tuple[int, ...], int] = {}
    for value, mark in zip(values, marks, strict=True):
        share = (value - low[widest]) / max(full[widest] - low[widest], 1)
        point = []
        for a, b, step in zip(low, full, steps, strict=True):
            rounded = round((a + share * (b - a)) / step) * step
            point.append(a if share == 0 else b if share == 1 else min(max(rounded, a), b))
        found.setdefault(tuple(point), mark)
    return found


def plan_cells(plan: Plan, layers: Sequence[Layer], *, granularity: int = GRANULARITY) -> list[PlannedCell]:
    """Every cell worth measuring, each (key, widths) once, ordered so that stopping early leaves a usable table.

    First every layer at its full widths, then the other corners of all grids, then ever finer points of all layers.
    ``granularity`` is the step of widths (channels).
    """
    sizes, units = plan.full_widths(), steps_in_units(plan, granularity)
    families: dict[_Family, dict[tuple[int, ...], _Member]] = defaultdict(dict)
    for layer in layers:
        space = space_of(layer)
        full = tuple(parameter.value(sizes) for parameter in space.parameters)
        low = tuple(_low(parameter, sizes, units) for parameter in space.parameters)
        steps = tuple(min(units[group] for group, _ in parameter.terms) for parameter in space.parameters)
        member = _Member(layer, space, low, steps)
        families[_Family(layer.key, (space.const, space.factor, space.owner))].setdefault(full, member)
    found: dict[tuple[str, tuple[int, ...]], PlannedCell] = {}
    for members in families.values():
        for layer, space, point, level in _family_points(members):
            cell = PlannedCell(layer, space.axes(point), level)
            known = found.get((layer.key, cell.widths))
            if known is None or level < known.level:
                found[layer.key, cell.widths] = cell
    place = {key: index for index, key in enumerate(dict.fromkeys(layer.key for layer in layers))}
    return sorted(found.values(), key=lambda cell: (cell.level, place[cell.layer.key], [-width for width in cell.widths]))


def full_grid(plan: Plan, layers: Sequence[Layer], *, granularity: int = GRANULARITY) -> int:
    """Cells of a table with every layer key of ``plan`` at every setting of its widths: what nobody wants to measure."""
    sizes, units = plan.full_widths(), steps_in_units(plan, granularity)
    settings: dict[str, set[tuple[int, ...]]] = {}
    for layer in layers:
        space = space_of(layer)
        ranges = []
        for parameter in space.parameters:
            # Groups that are added up (a concatenation) reach every multiple between their least and their full widths.
            step = math.gcd(*(factor * units[group] for group, factor in parameter.terms))
            full = parameter.value(sizes)
            ranges.append(sorted({*range(_low(parameter, sizes, units), full, step), full}))
        settings.setdefault(layer.key, set()).update(space.axes(values) for values in product(*ranges))
    return sum(len(found) for found in settings.values())


def _family_points(members: Mapping[tuple[int, ...], _Member]) -> list[tuple[Layer, Space, tuple[int, ...], int]]:
    points = [(member.layer, member.space, full, _FULL) for full, member in members.items()]
    if len(members) <= _OWN_GRIDS:
        grids = list(members.items())
    else:
        widest = members[max(members, key=sum)]
        full = tuple(max(sizes) for sizes in zip(*members, strict=True))
        low, steps = (
            tuple(min(values) for values in zip(*rows, strict=True))
            for rows in ([member.low for member in members.values()], [member.steps for member in members.values()])
        )
        grids = [(full, _Member(widest.layer, widest.space, low, steps))]
    for full, member in grids:
        found = _points(member.low, full, member.steps)
        points += [(member.layer, member.space, point, level) for point, level in found.items()]
    return points
