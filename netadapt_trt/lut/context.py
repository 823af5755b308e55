"""The layers of a network as its whole networks showed them: models of the cells that were measured in context.

Cells seen inside networks are what an estimate rests on; those timed alone add what no sampled network showed. All layers of
a table behave in one manner (noise, how smooth they are), found by what makes the measurements likeliest; the block of
channels that kernels compute together is found for each kind of layer in the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.layer_model import Evidence, Kin, LayerModel, Manner
from netadapt_trt.lut.layer_sizes import sizes_of
from netadapt_trt.lut.reading import pace_of
from netadapt_trt.lut.schema import IN_NETWORK, trusted
from netadapt_trt.lut.trend import BLOCKS, Trend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.lut.trend import Sizes
    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["FEWEST", "evidence_of", "layer_models", "lone_models"]

FEWEST = 4
"""Widths at which a layer must have been seen inside networks; below, the table's lone cells are used as they are."""

_CHOICES = {
    "noise": (0.01, 0.03, 0.06, 0.1),
    "spread": (0.03, 0.1, 0.2, 0.4),
    "reach": (0.7, 1.5, 3.0),
    "apart": (0.3, 0.6, 0.9),
    "kinship": (0.3, 0.7, 0.95),
}
_SURER = 4.0
"""Natural units of likelihood by which a wider block must be likelier: a chance pattern in few cells is no staircase."""

_LONE_CHOICES = {name: choices for name, choices in _CHOICES.items() if name != "kinship"} | {"family": (0.5, 1.0, 2.0, 4.0)}
_KIN = 4
"""Kindred layers that are heard beside each: the next ones in picture size. More cost time and say little."""
_ASKED = 16
"""Layers of a table that the manner of all is found by, and"""
_ASKED_OF_FAMILY = 3
"""layers of a family that its block is found by: a model with its kin has hundreds of cells, and a table may have many."""


def evidence_of(lut: Lut) -> dict[str, Evidence]:
    """What ``lut`` knows of the latency of each layer that was seen in networks, by key; lone cells of those beside it.

    Repeated measurements of one setting are one point, their mean. The pace of the machine is taken out.
    """
    seen: dict[str, dict[tuple[int, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in lut.cells:
        if cell.context == IN_NETWORK and cell.latency_ms is not None and trusted(cell):
            seen[cell.layer][cell.widths].append(cell.latency_ms.median / pace_of(cell))
    found = {}
    for key, settings in seen.items():
        # A damaged line may have more or fewer sizes than the others.
        axes = Counter(map(len, settings)).most_common(1)[0][0]
        settings = {widths: values for widths, values in settings.items() if len(widths) == axes}
        lone = [
            (cell.widths, cell.latency_ms.median / pace_of(cell))
            for cell in lut.layer_cells(key)
            if cell.latency_ms is not None and len(cell.widths) == axes and trusted(cell)
        ]
        points = [*settings, *(widths for widths, _ in lone)]
        found[key] = Evidence(
            points=np.array(points, dtype=np.int64).reshape(len(points), axes),
            values=np.array([*(float(np.mean(values)) for values in settings.values()), *(value for _, value in lone)]),
            alone=np.array([False] * len(settings) + [True] * len(lone)),
            counts=np.array([*(len(values) for values in settings.values()), *(1 for _ in lone)], dtype=np.int64),
        )
    return found


def layer_models(
    lut: Lut, plan: Plan, layers: Sequence[Layer], *, change: Mapping[str, float] | None = None
) -> dict[str, LayerModel]:
    """A model of every layer of ``plan`` that networks showed at enough widths, by key; {} for a table of lone cells.

    ``change`` replaces fields of the manner that was found: for comparing.
    """
    evidence = evidence_of(lut)
    wanted = {layer.key: layer for layer in layers if layer.key in evidence and _enough(evidence[layer.key], layer)}
    if not wanted:
        return {}
    evidence = {key: evidence[key] for key in wanted}
    sizes = {key: sizes_of(plan, layer) for key, layer in wanted.items()}
    kinds = {key: _kind(plan, layer) for key, layer in wanted.items()}
    blocks = _blocks(evidence, sizes, kinds)
    trends = {key: Trend(found, sizes[key], blocks[kinds[key]]) for key, found in evidence.items()}
    manner = replace(_manner(evidence, trends, max(blocks.values())), **(change or {}))  # type: ignore[arg-type]
    return {key: LayerModel(found, trends[key], manner) for key, found in evidence.items()}


def lone_models(
    evidence: Mapping[str, Evidence],
    sizes: Mapping[str, Sizes],
    families: Mapping[str, tuple[str, float]],
    *,
    kin: bool = True,
) -> dict[str, LayerModel]:
    """Models of layers of a table of lone cells, by key.

    ``families``: what a layer shares with its kin (operator, kernel, stride), and its picture's height and width as a power
    of two. Without ``kin`` each hears its own cells only.
    """
    beside = {key: _kin(key, evidence, sizes, families) if kin else [] for key in evidence}
    members: dict[str, list[str]] = defaultdict(list)
    for key in evidence:
        members[families[key][0]].append(key)
    trends: dict[str, Trend] = {}
    for keys in members.values():
        best, block = -np.inf, BLOCKS[0]
        for candidate in BLOCKS:
            likelihood = sum(
                LayerModel(
                    evidence[key],
                    Trend(evidence[key], sizes[key], candidate, beside[key]),
                    Manner(block=candidate, spread=0.2, apart=0.9),
                    beside[key],
                ).log_likelihood
                for key in _some(keys, _ASKED_OF_FAMILY)
            )
            if likelihood > best + (_SURER if candidate > BLOCKS[0] else 0.0):
                best, block = likelihood, candidate
        trends |= {key: Trend(evidence[key], sizes[key], block, beside[key]) for key in keys}

    def model(key: str, manner: Manner) -> LayerModel:
        return LayerModel(evidence[key], trends[key], replace(manner, block=trends[key].block), beside[key])

    asked, manner = _some([key for keys in members.values() for key in keys], _ASKED), Manner()
    for _ in range(2):
        for name, choices in _LONE_CHOICES.items():
            options = [replace(manner, **{name: choice}) for choice in choices]  # type: ignore[arg-type]
            manner = max(options, key=lambda option: sum(model(key, option).log_likelihood for key in asked))
    return {key: model(key, manner) for key in evidence}


def _kin(
    key: str, evidence: Mapping[str, Evidence], sizes: Mapping[str, Sizes], families: Mapping[str, tuple[str, float]]
) -> list[Kin]:
    """The nearest layers of the family of ``key``, itself not among them."""
    family, place = families[key]
    others = [
        (families[other][1] - place, other)
        for other in evidence
        if other != key and families[other][0] == family and evidence[other].points.shape[1] == evidence[key].points.shape[1]
    ]
    nearest = sorted(others, key=lambda found: (abs(found[0]), found))[:_KIN]
    return [Kin(evidence=evidence[other], sizes=sizes[other], away=away) for away, other in nearest]


def _some(keys: Sequence[str], count: int) -> list[str]:
    """``count`` of them, or all, evenly over the whole list."""
    return [keys[index] for index in sorted({round(at) for at in np.linspace(0, len(keys) - 1, min(count, len(keys)))})]


def _enough(evidence: Evidence, layer: Layer) -> bool:
    variable = any(not axis.fixed for axis in layer.axes)
    if evidence.points.shape[1] != len(layer.axes):
        return False
    return int((~evidence.alone).sum()) >= (FEWEST if variable else 1)


def _kind(plan: Plan, layer: Layer) -> str:
    """Layers whose kernels are alike: operator, pointwise or not, depthwise or not."""
    op = next((op for op in plan.ops if op.name in layer.ops and op.op_type in ("Conv", "Gemm", "MatMul")), None)
    if op is None:
        return next(op.op_type for op in plan.ops if op.name in layer.ops)
    weight = plan.weights.get(op.inputs[1])
    if op.op_type != "Conv" or weight is None:
        return op.op_type
    alone = weight.shape[1].fixed and weight.shape[1].const == 1
    grouped = "" if op.attributes.get("group", 1) == 1 else "depthwise " if alone else "grouped "
    return f"{grouped}{op.op_type} {'x'.join(str(size.const) for size in weight.shape[2:])}"


def _blocks(evidence: Mapping[str, Evidence], sizes: Mapping[str, Sizes], kinds: Mapping[str, str]) -> dict[str, int]:
    """The block of each kind of layer: the widest that is clearly likelier than the narrower ones."""
    members: dict[str, list[str]] = defaultdict(list)
    for key, kind in kinds.items():
        members[kind].append(key)
    found = {}
    for kind, keys in members.items():
        best, block = -np.inf, BLOCKS[0]
        for candidate in BLOCKS:
            likelihood = _likelihood((evidence[key], Trend(evidence[key], sizes[key], candidate), Manner()) for key in keys)
            if likelihood > best + (_SURER if candidate > BLOCKS[0] else 0.0):
                best, block = likelihood, candidate
        found[kind] = block
    return found


def _manner(evidence: Mapping[str, Evidence], trends: Mapping[str, Trend], block: int) -> Manner:
    """The likeliest manner on a coarse grid, one thing after another, twice."""
    manner = Manner(block=block)
    for _ in range(2):
        for name, choices in _CHOICES.items():
            options = [replace(manner, **{name: choice}) for choice in choices]  # type: ignore[arg-type]
            manner = max(options, key=lambda option: _likelihood((evidence[key], trends[key], option) for key in evidence))
    return manner


def _likelihood(cases: Iterable[tuple[Evidence, Trend, Manner]]) -> float:
    return sum(LayerModel(*case).log_likelihood for case in cases)
