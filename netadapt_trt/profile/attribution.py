"""Where a whole network's time went, layer by layer, from a runtime that can tell; lines of a LUT beside the isolated cells.

A profile slows the run it profiles, so only its shares are used: a layer gets its share of the latency that was measured
without one. Copies between formats belong to the layer before them (to the first one at the network's input), and what could
not be mapped is shared by all, so that the cells add up to the network.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from netadapt_trt.lut.schema import IN_NETWORK, Cell
from netadapt_trt.profile.lines import rounded, scalars
from netadapt_trt.spec import LatencyStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from netadapt_trt.backend import Attribution, LayerTime
    from netadapt_trt.plan.schema import Layer, Plan, Widths
    from netadapt_trt.profile.lines import Scalar

__all__ = ["REGION", "cells_in_network", "neighbours", "shares"]

REGION = "region"
"""Flag of a layer that ran in one piece with others: its time is a share by multiply-accumulates, not measured."""


def cells_in_network(
    attribution: Attribution,
    plan: Plan,
    widths: Widths,
    *,
    latency_ms: float,
    runs: int,
    session: str,
    details: Mapping[str, Scalar] | None = None,
) -> list[Cell]:
    """A cell for each layer that took time, of a network that takes ``latency_ms`` end to end; ``runs`` were profiled.

    ``details`` are added to those of every cell.

    Layers of equal key, widths and neighbours are one cell with their mean.
    """
    around = neighbours(plan, [time.layer for time in attribution.layers])
    layers = _with_copies(attribution)
    whole = sum(time.latency_ms for time in layers)
    alike: dict[tuple[str, tuple[int, ...], tuple[str, ...]], list[LayerTime]] = defaultdict(list)
    for index, time in enumerate(layers):
        if time.latency_ms > 0:
            alike[time.layer.key, time.layer.widths(widths), around[index]].append(time)
    cells = []
    for (key, sizes, keys_around), times in alike.items():
        share = fmean(time.latency_ms for time in times) / whole * latency_ms
        region = sorted({other for time in times for other in time.region})
        cells.append(
            Cell(
                layer=key,
                widths=sizes,
                session=session,
                context=IN_NETWORK,
                latency_ms=rounded(LatencyStats(median=share, p10=share, p90=share, n=attribution.runs or runs)),
                neighbours=keys_around,
                details={**scalars({"region": region} if region else {}), **(details or {})},
                flags=(REGION,) if region else (),
            )
        )
    return cells


def _with_copies(attribution: Attribution) -> list[LayerTime]:
    """The layers' times with the copies at their edges."""
    places = {id(time.layer): index for index, time in enumerate(attribution.layers)}
    added = [0.0] * len(attribution.layers)
    for edge in attribution.edges:
        layer = edge.producer or edge.consumer
        if layer is not None and id(layer) in places:
            added[places[id(layer)]] += edge.latency_ms
    return [replace(time, latency_ms=time.latency_ms + more) for time, more in zip(attribution.layers, added, strict=True)]


def shares(attribution: Attribution) -> dict[str, Scalar]:
    """Of the profiled time, for the network's line: what could be mapped, what went into copies that belong to no layer, and
    what of a whole run passed between the entries, where that is known (a call's own cost, which all layers share)."""
    total_ms = attribution.total_ms or 1.0
    copies = sum(edge.latency_ms for edge in attribution.edges)
    return scalars(
        {
            "mapped_share": round(attribution.mapped_share, 4),
            "copies_share": round(copies / total_ms, 4),
            **({"between_share": round(max(0.0, 1 - total_ms / attribution.run_ms), 4)} if attribution.run_ms else {}),
            **({"unmapped": list(attribution.unmapped)} if attribution.unmapped else {}),
        }
    )


def neighbours(plan: Plan, layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """For each layer the keys of those that make its inputs, then of those that read its outputs, each key once.

    Operators that belong to no layer (reshapes without a copy) are looked through.
    """
    owner = {name: index for index, layer in enumerate(layers) for name in layer.ops}
    maker = {tensor: op for op in plan.ops for tensor in op.outputs}
    before: list[dict[int, None]] = [{} for _ in layers]
    behind: list[dict[int, None]] = [{} for _ in layers]

    def makers(tensor: str) -> Iterator[int]:
        op = maker.get(tensor)
        if op is None:
            return
        if op.name in owner:
            yield owner[op.name]
            return
        for name in op.inputs:
            yield from makers(name)

    for op in plan.ops:
        if op.name not in owner:
            continue
        reader = owner[op.name]
        for index in (found for tensor in op.inputs for found in makers(tensor)):
            if index != reader:
                before[reader][index] = behind[index][reader] = None
    return [tuple(dict.fromkeys(layers[index].key for index in (*before[at], *behind[at]))) for at in range(len(layers))]
