"""What a LUT holds, and what is wrong with it: in words, each with the next action."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.device_rules import FLAG_ACTIONS, Finding, device_findings
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.reading import initial_measured, profile_command, value_of
from netadapt_trt.lut.schema import ENERGY_FLAGS, MODELLED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Identity

__all__ = ["Finding", "LayerSummary", "LutSummary", "NetworkSummary", "check", "summarise"]

_MAX_SPREAD = 1.5
_MAX_DRIFT = 1.1
_MIN_RUNS = 5
_OUTLIER = 1.5
"""A layer that is this much slower than one at least as wide in every size: real steps go to about 1.2."""


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer of the table. ``lowest`` and ``highest`` are the extreme values of each axis; times in ms."""

    layer: str
    cells: int
    flagged: int
    with_energy: int
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    fastest_ms: float | None
    slowest_ms: float | None


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


def summarise(lut: Lut) -> LutSummary:
    """Counts per layer, sessions, networks, flagged cells and drift."""
    layers = tuple(_layer(lut, key) for key in lut.layers())
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
    )


def _layer(lut: Lut, key: str) -> LayerSummary:
    cells = lut.layer_cells(key)
    times = [cell.latency_ms.median for cell in cells if cell.latency_ms is not None]
    axes = list(zip(*(cell.widths for cell in cells), strict=False))
    return LayerSummary(
        layer=key,
        cells=len(cells),
        flagged=sum(bool(set(cell.flags) - {MODELLED}) for cell in cells),
        with_energy=sum(cell.energy_mj is not None for cell in cells),
        lowest=tuple(min(axis) for axis in axes),
        highest=tuple(max(axis) for axis in axes),
        fastest_ms=min(times, default=None),
        slowest_ms=max(times, default=None),
    )


def _drifts(lut: Lut) -> dict[tuple[str, tuple[int, ...]], float]:
    """Largest over smallest median of every reference layer that was measured at least twice."""
    times: dict[tuple[str, tuple[int, ...]], list[float]] = defaultdict(list)
    for line in lut.references:
        times[line.layer, line.widths].append(line.latency_ms.median)
    return {key: max(values) / min(values) for key, values in times.items() if len(values) > 1}


def check(lut: Lut, plan: Plan | None = None, layers: Sequence[Layer] | None = None) -> list[Finding]:
    """Everything doubtful about ``lut``, worst first; with ``plan`` also whether it covers that network.

    ``layers`` defaults to what the LUT's own backend makes of the plan (no runtime is needed for that).

    Raises SpecError or BackendError when that backend is not known here.
    """
    findings = [finding for rule in _RULES for finding in rule(lut)]
    if plan is not None:
        if layers is None:
            from netadapt_trt.backend import load_backend

            layers = load_backend(lut.identity.backend).partition(plan)
        findings += _coverage(lut, plan, layers)
    order = ("error", "warning", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _torn(lut: Lut) -> list[Finding]:
    if not lut.torn:
        return []
    return [Finding("warning", "the last line is unfinished: a run was interrupted", "nothing; the next profile drops it")]


def _content(lut: Lut) -> list[Finding]:
    if lut.cells:
        return []
    return [Finding("error", "the table holds no cell", "run netadapt-trt profile with this --lut")]


def _flags(lut: Lut) -> list[Finding]:
    counts = Counter(flag for key in lut.layers() for cell in lut.layer_cells(key) for flag in cell.flags)
    return [
        Finding(
            "warning",
            f"{count} cells are flagged {flag}",
            FLAG_ACTIONS.get(flag, "run the same profile again on a quiet machine"),
        )
        for flag, count in counts.items()
        if flag != MODELLED
    ]


def _statistics(lut: Lut) -> list[Finding]:
    """Unflagged cells that scatter or rest on few runs."""
    stats = [
        cell.latency_ms
        for key in lut.layers()
        for cell in lut.layer_cells(key)
        if cell.latency_ms is not None and not set(cell.flags) - ENERGY_FLAGS
    ]
    wide = sum(value.p90 > _MAX_SPREAD * value.p10 for value in stats)
    few = sum(value.n < _MIN_RUNS for value in stats)
    findings = []
    if wide:
        text = f"{wide} of {len(stats)} cells scatter (p90 over {_MAX_SPREAD} x p10)"
        findings.append(Finding("warning", text, "stop other programs, lock the clocks, measure into a new LUT"))
    if few:
        text = f"{few} of {len(stats)} cells rest on fewer than {_MIN_RUNS} runs"
        findings.append(Finding("warning", text, "run the same profile again; layers slower than a second are fine"))
    return findings


def _outliers(lut: Lut) -> list[Finding]:
    """Cells far slower than one that is at least as wide in every size."""
    findings = []
    for key in lut.layers():
        cells = [cell for cell in lut.layer_cells(key) if cell.latency_ms is not None]
        if not cells or not cells[0].widths or len({len(cell.widths) for cell in cells}) > 1:
            continue
        at = np.array([cell.widths for cell in cells])
        times = np.array([cell.latency_ms.median for cell in cells if cell.latency_ms is not None])
        best = [times[(at >= point).all(axis=1)].min() for point in at]
        # Below a hundredth of a millisecond a runtime's own overhead is what varies.
        slow = np.flatnonzero((times > _OUTLIER * np.array(best)) & (times > 0.01))
        if len(slow):
            worst = slow[int(np.argmax(times[slow] / np.array(best)[slow]))]
            text = f"{key}: {len(slow)} of {len(cells)} cells are slower than wider ones, worst at {at[worst].tolist()}"
            findings.append(Finding("info", text, "expected where a kernel likes round sizes; else measure again"))
    return findings


def _drift(lut: Lut) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"the reference layer {layer} at {list(widths)} varied by {(ratio - 1) * 100:.0f} % over the measurements",
            "lock the clocks or let the device cool, and measure into a new LUT",
        )
        for (layer, widths), ratio in _drifts(lut).items()
        if ratio > _MAX_DRIFT
    ]


def _machine(lut: Lut) -> list[Finding]:
    findings = []
    # Where the bounds of the clocks are known they count: with jetson_clocks a governor has nothing left to decide.
    undecided = [session.clocks for session in lut.sessions.values() if session.clocks.get("locked") is None]
    governors = {str(clocks["governor"]) for clocks in undecided if clocks.get("governor") is not None}
    if governors - {"performance"}:
        text = f"clocks were not locked (governor {', '.join(sorted(governors))})"
        findings.append(Finding("info", text, "set the governor to performance before measuring, for steadier figures"))
    busy = 0
    for session in lut.sessions.values():
        load = session.machine.get("other_load")
        busy += isinstance(load, int | float) and load > 0.2
    if busy:
        text = f"{busy} of {len(lut.sessions)} sessions began while other programs were running"
        findings.append(Finding("warning", text, "measure again on a quiet machine"))
    return findings


def _coverage(lut: Lut, plan: Plan, layers: Sequence[Layer]) -> list[Finding]:
    estimator = NetworkEstimator(lut, plan, layers)
    command = f"run: {profile_command(lut, plan)}"
    keys = sorted({layer.key for layer in estimator.missing()})
    findings = [Finding("error", f"the layer {key} of {plan.model} has too few cells", command) for key in keys]
    try:
        initial_measured(lut, plan)
    except CoverageError:
        text = f"the uncut {plan.model} has not been measured end to end, so budgets have nothing to refer to"
        return [*findings, Finding("error", text, command)]
    if not keys:
        sign = "less" if estimator.offset < 0 else "plus"
        offset = f" {sign} {abs(estimator.offset):.3g} ms" if estimator.offset else ""
        text = f"all layers of {plan.model} are covered; it takes {estimator.scale:.2f} x (the sum of its layers{offset})"
        findings.append(Finding("info", text, "nothing; estimates take it into account"))
    return findings


_RULES: tuple[Callable[[Lut], list[Finding]], ...] = (
    _torn,
    _content,
    _flags,
    _statistics,
    _outliers,
    _drift,
    _machine,
    device_findings,
)
