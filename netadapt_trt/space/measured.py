"""The costs of a space from a LUT that was measured for it: blocks as sums of their layers, held against whole children.

A layer's cost is what whole networks showed of it, the machine's pace taken out, or that of the layer timed alone where no
network told. Lines of whole children carry the space's hash and the names of their blocks in their details.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.backend import load_backend
from netadapt_trt.errors import CoverageError, SpecError
from netadapt_trt.lut.reading import pace_of, value_of
from netadapt_trt.lut.schema import IN_NETWORK, trusted
from netadapt_trt.space.children import space_layers
from netadapt_trt.space.fit import Costs, Manner, corrected, likeliest
from netadapt_trt.space.plan import choice_of
from netadapt_trt.space.store import preset_names, space_hash
from netadapt_trt.space.table import SpaceTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.schema import Cell, NetworkLine
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.space.children import Cost, SpaceLayers
    from netadapt_trt.space.schema import Space

__all__ = [
    "BLOCKS",
    "CHILD",
    "SPACE",
    "Child",
    "HeldOut",
    "children_of",
    "from_measured",
    "held_out",
    "lacking",
    "profile_words",
]

SPACE, BLOCKS, CHILD = "space", "blocks", "child"
"""Details of lines: the space's hash and the blocks of a whole child; the plan's hash of the child a cell was seen in."""

_SEPARATOR = "+"
_FEWEST_ENERGIES = 3
_FEWEST_HELD_OUT = 6
_LARGE_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class Child:
    """A child that was measured whole: columns, ms with the machine's pace taken out and mJ, None where not measured."""

    plan: str
    choice: tuple[int, ...]
    latency_ms: float | None
    energy_mj: float | None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Relative errors of estimates of measured children, each left out in turn: the mean, the largest, of how many."""

    error: float
    worst: float
    children: int


def profile_words(space: Space, lut: Lut) -> str:
    """The command that measures what ``lut`` lacks of ``space``."""
    identity = lut.identity
    # A space does not know the file it was read from; its name is what such a file is mostly called.
    name = space.name if space.name in preset_names() else f"{space.name}.json"
    words = ["netadapt-trt", "search", "profile", name, "--backend", identity.backend]
    return shlex.join([*words, "--precision", identity.precision, "--lut", str(lut.path or "FILE")])


def children_of(space: Space, lut: Lut) -> list[Child]:
    """Every child of ``space`` that ``lut`` has whole lines of; the latest trusted line counts."""
    wanted, found = space_hash(space), dict[str, tuple[tuple[int, ...], dict[str, float]]]()
    for line in sorted(lut.networks, key=trusted):  # a stable sort: the doubtful first, to be overwritten
        choice = _choice(space, line) if line.details.get(SPACE) == wanted else None
        if choice is None:
            continue
        _, values = found.setdefault(line.plan, (choice, {}))
        if (latency := value_of(line, "latency")) is not None:
            values["latency"] = latency / pace_of(line)
        if (energy := value_of(line, "energy")) is not None:
            values["energy"] = energy
    return [Child(plan, choice, said.get("latency"), said.get("energy")) for plan, (choice, said) in found.items()]


def _choice(space: Space, line: NetworkLine) -> tuple[int, ...] | None:
    try:
        return choice_of(space, str(line.details.get(BLOCKS)).split(_SEPARATOR))
    except SpecError:
        return None  # a line of nobody's: the table is a stranger's


@dataclass(frozen=True)
class _Evidence:
    """What is known of each layer: values and the children they were seen in, and values of the layer alone.

    The median of several counts: one child may have been disturbed.
    """

    seen: dict[Cost, list[tuple[float, str]]]
    doubtful: dict[Cost, list[tuple[float, str]]]
    alone: dict[Cost, float]

    def value(self, cost: Cost, without: str | None = None) -> float | None:
        """The median of what networks showed, else what the layer takes alone."""
        for source in (self.seen, self.doubtful):
            values = [value for value, child in source.get(cost, ()) if without is None or child != without]
            if values:
                return float(np.median(values))
        return self.alone.get(cost)


def _latencies(lut: Lut) -> _Evidence:
    evidence = _Evidence({}, {}, {})
    for cell in lut.cells:
        if cell.context == IN_NETWORK and cell.latency_ms is not None:
            # A share of a piece that several layers ran in is better than nothing, and no measurement of this layer.
            source = evidence.seen if trusted(cell) else evidence.doubtful
            said = cell.latency_ms.median / pace_of(cell), str(cell.details.get(CHILD))
            source.setdefault((cell.layer, cell.widths), []).append(said)
    for layer in lut.layers():
        for cell in lut.layer_cells(layer):
            if cell.latency_ms is not None:
                evidence.alone[layer, cell.widths] = cell.latency_ms.median / pace_of(cell)
    return evidence


def _energies(lut: Lut) -> _Evidence:
    def energy(cell: Cell) -> float | None:
        return value_of(cell, "energy")

    cells = [cell for layer in lut.layers() for cell in lut.layer_cells(layer)]
    alone = {(cell.layer, cell.widths): value for cell in cells if (value := energy(cell)) is not None}
    return _Evidence({}, {}, alone)


def lacking(lut: Lut, layers: SpaceLayers) -> list[Cost]:
    """Layers of a space that ``lut`` says nothing of, in a fixed order."""
    evidence = _latencies(lut)
    return sorted(cost for cost in layers.all() if evidence.value(cost) is None)


def _costs(space: Space, layers: SpaceLayers, evidence: _Evidence, *, without: str | None = None) -> Costs | None:
    """Sums over the layers of each block; None where a layer is not known."""
    shape = len(space.places), len(space.columns)
    values, counts = np.full(shape, np.nan), np.zeros(shape)
    for at, costs in layers.blocks.items():
        known = [evidence.value(cost, without) for cost in costs]
        if None in known:
            return None
        values[at], counts[at] = sum(value for value in known if value is not None), len(costs)
    fixed = [evidence.value(cost, without) for cost in layers.fixed]
    if None in fixed:
        return None
    stages = [place.stage for place in space.places]
    return Costs(values, counts, float(sum(value for value in fixed if value is not None)), len(fixed), stages)


def _measurements(children: Sequence[Child], resource: str) -> tuple[list[Child], np.ndarray, np.ndarray]:
    """The children with a value, their choices [n, places] and values [n]."""
    known = [(child, child.latency_ms if resource == "latency" else child.energy_mj) for child in children]
    kept = [(child, value) for child, value in known if value is not None and value > 0]
    choices = np.array([child.choice for child, _ in kept], dtype=np.int64)
    return [child for child, _ in kept], choices, np.array([value for _, value in kept], dtype=float)


def from_measured(space: Space, lut: Lut) -> SpaceTable:
    """The costs of ``space`` from ``lut``.

    Raises:
        CoverageError: layers of the space that the table says nothing of; the message holds the command that measures them.
        SpecError, BackendError: the LUT's backend is not installed here (only how it divides networks is asked of it).
    """
    layers = space_layers(space, load_backend(lut.identity.backend).partition, batch=lut.identity.batch)
    evidence, children = _latencies(lut), children_of(space, lut)
    raw = _costs(space, layers, evidence)
    if raw is None:
        raise _incomplete(space, lut, layers)
    _, choices, measured = _measurements(children, "latency")
    manner = likeliest(raw, choices, measured)
    latency = corrected(raw, choices, measured, manner)
    energy = _energy(space, layers, lut, latency, children)
    return SpaceTable(
        space,
        latency.values,
        np.full(latency.values.shape, np.nan) if energy is None else energy.values,
        fixed_latency_ms=latency.fixed,
        fixed_energy_mj=0.0 if energy is None else energy.fixed,
        source=str(lut.path or "the LUT"),
        notices=_notices(space, lut, measured, _held_out(space, layers, evidence, children, manner)),
        identity=lut.identity,
    )


def _energy(space: Space, layers: SpaceLayers, lut: Lut, latency: Costs, children: Sequence[Child]) -> Costs | None:
    """From the energies of layers alone, else from a mean power that whole children correct; None without either."""
    _, choices, measured = _measurements(children, "energy")
    raw = _costs(space, layers, _energies(lut))
    if raw is None and len(measured) >= _FEWEST_ENERGIES:
        watts = float((measured / latency.sums(choices)).mean())
        raw = Costs(latency.values * watts, latency.layers, latency.fixed * watts, latency.fixed_layers, latency.stages)
    return None if raw is None else corrected(raw, choices, measured, likeliest(raw, choices, measured))


def _incomplete(space: Space, lut: Lut, layers: SpaceLayers) -> CoverageError:
    missing, total = lacking(lut, layers), len(layers.all())
    shown = "; ".join(key for key, _ in missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
    other = " (it seems to be a table of something else)" if len(missing) == total else ""
    return CoverageError(
        f"{lut.path or 'the LUT'} lacks {len(missing)} of the {total} layers of space {space.name}{other}: {shown}. "
        f"Measure them with: {profile_words(space, lut)}"
    )


def _held_out(
    space: Space, layers: SpaceLayers, evidence: _Evidence, children: Sequence[Child], manner: Manner
) -> HeldOut | None:
    kept, choices, measured = _measurements(children, "latency")
    if len(kept) < _FEWEST_HELD_OUT:
        return None
    errors = []
    for index, child in enumerate(kept):
        raw, others = _costs(space, layers, evidence, without=child.plan), np.arange(len(kept)) != index
        if raw is not None:
            found = corrected(raw, choices[others], measured[others], manner)
            errors.append(abs(float(found.sums(choices[index : index + 1])[0]) / measured[index] - 1))
    return HeldOut(float(np.mean(errors)), max(errors), len(errors)) if errors else None


def held_out(space: Space, lut: Lut, layers: SpaceLayers) -> HeldOut | None:
    """How well the LUT's children are estimated from the others; None with too few of them, or with layers lacking.

    What was seen in a child is left out with it.
    """
    evidence, children = _latencies(lut), children_of(space, lut)
    raw = _costs(space, layers, evidence)
    if raw is None:
        return None
    _, choices, measured = _measurements(children, "latency")
    return _held_out(space, layers, evidence, children, likeliest(raw, choices, measured))


def _notices(space: Space, lut: Lut, measured: np.ndarray, held: HeldOut | None) -> tuple[str, ...]:
    if not len(measured):
        return (
            f"no whole network of space {space.name} was measured: sums of layers are not held against any, and those of "
            f"lone layers are too large. Measure some with: {profile_words(space, lut)}",
        )
    if held is None:
        return (f"only {len(measured)} whole networks of the space were measured: how good estimates are is not known",)
    text = (
        f"estimates of {held.children} children, each from the others, are off by {held.error:.1%} (worst {held.worst:.1%})"
    )
    return (
        (f"{text}; measure more of them with: {profile_words(space, lut)} --rounds 6",) if held.error > _LARGE_ERROR else ()
    )
