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
    from netadapt_trt.lut.schema import Cell, NetworkLine
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.space.children import Cost, SpaceLayers
    from netadapt_trt.space.schema import Space

__all__ = [
    "BLOCKS",
    "CHILD",
    "SPACE",
    "Child",
    "Estimates",
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
_FEWEST_HELD_OUT = {"latency": 6, "energy": 4}  # energy is measured of the first children only
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


class Estimates:
    """Costs of all blocks of a space by its LUT: from all children that were measured, or from all but one of them."""

    def __init__(self, space: Space, lut: Lut, layers: SpaceLayers) -> None:
        self._space, self._layers = space, layers
        self._latencies, self._energies = _latencies(lut), _energies(lut)
        self._alone = _costs(space, layers, self._energies)
        self._children = children_of(space, lut)
        self._manners: dict[str, Manner] = {}

    def measured(self, resource: str, without: str | None = None) -> list[tuple[Child, float]]:
        """The children with a value of ``resource`` (ms, mJ), but the one whose plan is ``without``."""
        known = [(child, child.latency_ms if resource == "latency" else child.energy_mj) for child in self._children]
        return [(child, value) for child, value in known if value is not None and value > 0 and child.plan != without]

    def costs(self, resource: str, without: str | None = None) -> Costs | None:
        """Sums of layers after what the children say; None where the LUT does not suffice."""
        raw = self._sums(resource, without)
        return None if raw is None else corrected(raw, *self._said(resource, without), self._manner(resource))

    def watts(self, without: str | None = None) -> float | None:
        """The children's mean power, which energies rest on; None where layers have their own, or children too few."""
        children, costs = self.measured("energy", without), self.costs("latency", without)
        if self._alone is not None or costs is None or len(children) < _FEWEST_ENERGIES:
            return None
        choices, energies = self._said("energy", without)
        return float((energies / costs.sums(choices)).mean())

    def held_out(self, resource: str) -> HeldOut | None:
        """How well each child is estimated from the others: what was seen in it is left out with it."""
        children, errors = self.measured(resource), []
        if len(children) < _FEWEST_HELD_OUT[resource] or self.costs(resource) is None:
            return None
        for child, value in children:
            found = self.costs(resource, child.plan)
            if found is not None:
                errors.append(abs(float(found.sums(np.array([child.choice]))[0]) / value - 1))
        return HeldOut(float(np.mean(errors)), max(errors), len(errors)) if errors else None

    def _said(self, resource: str, without: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Choices [n, places] and values [n]."""
        children = self.measured(resource, without)
        choices = np.array([child.choice for child, _ in children], dtype=np.int64)
        return choices, np.array([value for _, value in children], dtype=float)

    def _sums(self, resource: str, without: str | None) -> Costs | None:
        """Of latencies; of energies of layers alone, else of latency times mean power."""
        if resource == "latency":
            return _costs(self._space, self._layers, self._latencies, without=without)
        watts = self.watts(without)
        if watts is None:
            return self._alone
        found = self.costs("latency", without)
        if found is None:
            return None
        return Costs(found.values * watts, found.layers, found.fixed * watts, found.fixed_layers, found.stages)

    def _manner(self, resource: str) -> Manner:
        if resource not in self._manners:
            raw = self._sums(resource, None)
            self._manners[resource] = Manner() if raw is None else likeliest(raw, *self._said(resource, None))
        return self._manners[resource]


def from_measured(space: Space, lut: Lut) -> SpaceTable:
    """The costs of ``space`` from ``lut``.

    Raises:
        CoverageError: layers of the space that the table says nothing of; the message holds the command that measures them.
        SpecError, BackendError: the LUT's backend is not installed here (only how it divides networks is asked of it).
    """
    layers = space_layers(space, load_backend(lut.identity.backend).partition, batch=lut.identity.batch)
    estimates = Estimates(space, lut, layers)
    latency, energy = estimates.costs("latency"), estimates.costs("energy")
    if latency is None:
        raise _incomplete(space, lut, layers)
    return SpaceTable(
        space,
        latency.values,
        np.full(latency.values.shape, np.nan) if energy is None else energy.values,
        fixed_latency_ms=latency.fixed,
        fixed_energy_mj=0.0 if energy is None else energy.fixed,
        source=str(lut.path or "the LUT"),
        notices=(*_notices(space, lut, estimates), *_energy_notices(estimates)),
        identity=lut.identity,
    )


def _incomplete(space: Space, lut: Lut, layers: SpaceLayers) -> CoverageError:
    missing, total = lacking(lut, layers), len(layers.all())
    shown = "; ".join(key for key, _ in missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
    other = " (it seems to be a table of something else)" if len(missing) == total else ""
    return CoverageError(
        f"{lut.path or 'the LUT'} lacks {len(missing)} of the {total} layers of space {space.name}{other}: {shown}. "
        f"Measure them with: {profile_words(space, lut)}"
    )


def held_out(space: Space, lut: Lut, layers: SpaceLayers, resource: str = "latency") -> HeldOut | None:
    """How well the LUT's children are estimated from the others; None with too few of them, or with layers lacking.

    ``resource``: ``latency`` or ``energy``. What was seen in a child is left out with it.
    """
    return Estimates(space, lut, layers).held_out(resource)


def _notices(space: Space, lut: Lut, estimates: Estimates) -> tuple[str, ...]:
    measured, held = len(estimates.measured("latency")), estimates.held_out("latency")
    if not measured:
        return (
            f"no whole network of space {space.name} was measured: sums of layers are not held against any, and those of "
            f"lone layers are too large. Measure some with: {profile_words(space, lut)}",
        )
    if held is None:
        return (f"only {measured} whole networks of the space were measured: how good estimates are is not known",)
    more = f"measure more of them with: {profile_words(space, lut)} --rounds 6"
    return (f"{_told(held)}; {more}",) if held.error > _LARGE_ERROR else ()


def _energy_notices(estimates: Estimates) -> tuple[str, ...]:
    """What energies rest on, where no layer has its own."""
    children, watts, held = len(estimates.measured("energy")), estimates.watts(), estimates.held_out("energy")
    good = "how good that is, is not known" if held is None else _told(held)
    if watts is not None:
        return (
            f"the energy of a block is its latency times {watts:.3g} W, the mean power of {children} whole children, and a "
            f"little corrected by them: what a block draws more or less than others hardly shows; {good}",
        )
    if estimates.costs("energy") is None:
        few = f"only {children} whole children have an energy, and it takes {_FEWEST_ENERGIES}: the table has none"
        return (few,) if children else ()
    return (f"energy: {good}",) if held is not None and held.error > _LARGE_ERROR else ()


def _told(held: HeldOut) -> str:
    return (
        f"estimates of {held.children} children, each from the others, are off by {held.error:.1%} (worst {held.worst:.1%})"
    )
