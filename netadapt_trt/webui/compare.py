"""Runs side by side: the networks of adapt's runs and the children of searches, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import NetadaptError
from netadapt_trt.files import finite, read_document
from netadapt_trt.report.read import read_run
from netadapt_trt.webui.searches import read_search_view

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.webui.searches import Child, SearchView
    from netadapt_trt.webui.workspace import Item

__all__ = ["Row", "rows_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network: accuracy on the test set (0 to 1), ms and mJ as estimated and as measured; None where unknown.

    ``comparable``: estimate and measurement are of one device and runtime.
    """

    run: str
    network: str
    accuracy: float | None
    estimate_ms: float | None
    measured_ms: float | None
    estimate_mj: float | None
    measured_mj: float | None
    params: float | None = None
    where: str = ""
    note: str = ""
    comparable: bool = True


def rows_of(item: Item) -> list[Row]:
    """The networks of one run, of either kind. Raises FileFormatError and its kinds."""
    return (
        _adapt_rows(item.name, item.path) if item.kind == "adapt" else _search_rows(item.name, read_search_view(item.path))
    )


def _pair(block: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    pair = block.get(key)
    return (finite(pair.get("estimate")), finite(pair.get("measured"))) if isinstance(pair, dict) else (None, None)


def _adapt_rows(name: str, path: Path) -> list[Row]:
    run = read_run(path)
    result = run.result
    where = " ".join(str(result[key]) for key in ("device", "backend", "precision") if result.get(key))
    rows = []
    for network in ("initial", "uniform", "adapted"):
        block = run.network(network)
        if not block:
            continue
        latency, energy = _pair(block, "latency_ms"), _pair(block, "energy_mj")
        rows.append(
            Row(
                run=name,
                network=network,
                accuracy=finite(block.get("accuracy")),
                estimate_ms=latency[0],
                measured_ms=latency[1],
                estimate_mj=energy[0],
                measured_mj=energy[1],
                params=finite(block.get("params")),
                where=where,
            )
        )
    if not rows:
        rows.append(_empty(name, "adapted", "not finished"))
    return rows


def _search_rows(name: str, view: SearchView) -> list[Row]:
    identity = _identity(view)
    rows = [
        Row(
            run=name,
            network=child.name,
            accuracy=child.accuracy,
            estimate_ms=child.latency_ms,
            measured_ms=child.measured_ms,
            estimate_mj=child.energy_mj,
            measured_mj=child.measured_mj,
            where=identity,
            note=_note(child),
            comparable=child.comparable,
        )
        for child in view.children
    ]
    if rows:
        return rows
    best = view.result.get("child")
    if not isinstance(best, dict):
        return [_empty(name, "argmax", "not finished")]
    return [
        Row(
            run=name,
            network="argmax",
            accuracy=None,
            estimate_ms=finite(best.get("latency_ms")),
            measured_ms=None,
            estimate_mj=finite(best.get("energy_mj")),
            measured_mj=None,
            where=identity,
            note="not trained yet",
        )
    ]


def _note(child: Child) -> str:
    if not child.trained:
        return "not trained yet"
    return f"timed on {child.measured_where}" if child.measured_where and not child.comparable else ""


def _identity(view: SearchView) -> str:
    try:
        known = read_document(view.path / "table.json", format="netadapt-space-table", version=1).get("identity")
    except NetadaptError:
        known = None
    if not isinstance(known, dict):
        return "conditions of the table unknown"
    return " ".join(str(known[key]) for key in ("device", "backend", "precision") if known.get(key))


def _empty(run: str, network: str, note: str) -> Row:
    return Row(
        run=run,
        network=network,
        accuracy=None,
        estimate_ms=None,
        measured_ms=None,
        estimate_mj=None,
        measured_mj=None,
        note=note,
    )
