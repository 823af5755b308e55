"""What a LUT holds, in numbers. What is doubtful about it is told by :mod:`netadapt_trt.lut.lint.check`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netadapt_trt.lut.reading import value_of
from netadapt_trt.lut.schema import IN_NETWORK, MODELLED

if TYPE_CHECKING:
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.spec import Identity

__all__ = ["LayerSummary", "LutSummary", "NetworkSummary", "summarise"]


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer of the table. ``cells`` were timed alone, ``in_network`` seen inside whole networks.

    ``lowest`` and ``highest`` are the extreme values of each axis over both; times in ms, alone where there are such cells.
    """

    layer: str
    cells: int
    flagged: int
    with_energy: int
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    fastest_ms: float | None
    slowest_ms: float | None
    in_network: int = 0


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """One whole-network measurement: plan hash, channels kept in all groups together, ms and mJ."""

    plan: str
    channels: int
    latency_ms: float | None
    energy_mj: float | None


@dataclass(frozen=True, slots=True)
class LutSummary:
    """Counts of everything in a table. ``drift`` is the largest over the smallest reference time, None below two lines."""

    identity: Identity
    layers: tuple[LayerSummary, ...]
    sessions: tuple[Session, ...]
    networks: tuple[NetworkSummary, ...]
    cells: int
    flagged: int
    references: int
    drift: float | None
    in_network: int = 0


def summarise(lut: Lut) -> LutSummary:
    """Counts per layer, sessions, networks, flagged cells and drift."""
    layers = tuple(_layer(lut, key) for key in dict.fromkeys([*lut.layers(), *lut.layers(IN_NETWORK)]))
    return LutSummary(
        identity=lut.identity,
        layers=layers,
        sessions=tuple(lut.sessions.values()),
        networks=tuple(
            NetworkSummary(
                plan=line.plan,
                channels=sum(line.widths.values()),
                latency_ms=None if line.latency_ms is None else line.latency_ms.median,
                energy_mj=value_of(line, "energy"),
            )
            for line in lut.networks
        ),
        cells=sum(layer.cells for layer in layers),
        flagged=sum(layer.flagged for layer in layers),
        references=len(lut.references),
        drift=max(_drifts(lut).values(), default=None),
        in_network=sum(layer.in_network for layer in layers),
    )


def _layer(lut: Lut, key: str) -> LayerSummary:
    cells, seen = lut.layer_cells(key), lut.layer_cells(key, IN_NETWORK)
    times = [cell.latency_ms.median for cell in cells or seen if cell.latency_ms is not None]
    axes = list(zip(*(cell.widths for cell in [*cells, *seen]), strict=False))
    return LayerSummary(
        layer=key,
        cells=len(cells),
        flagged=sum(bool(set(cell.flags) - {MODELLED}) for cell in cells),
        with_energy=sum(cell.energy_mj is not None for cell in cells),
        lowest=tuple(min(axis) for axis in axes),
        highest=tuple(max(axis) for axis in axes),
        fastest_ms=min(times, default=None),
        slowest_ms=max(times, default=None),
        in_network=len(seen),
    )


def _drifts(lut: Lut) -> dict[tuple[str, tuple[int, ...]], float]:
    """Largest over smallest median of every reference layer that was measured at least twice."""
    times: dict[tuple[str, tuple[int, ...]], list[float]] = defaultdict(list)
    for line in lut.references:
        times[line.layer, line.widths].append(line.latency_ms.median)
    return {key: max(values) / min(values) for key, values in times.items() if len(values) > 1}
