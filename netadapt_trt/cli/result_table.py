"""The table a run ends with: initial, uniform and adapted network side by side, from result.json's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.cli.output import bytes_text, number, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["result_rows", "show_result"]

_COLUMNS = ["network", "accuracy", "estimate ms", "measured ms", "parameters", "MACs", "size"]


def result_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per network that was made; "-" where a figure is not known."""
    rows: list[tuple[str, ...]] = []
    for name in ("initial", "uniform", "adapted"):
        network = result.get(name)
        if network is None:
            continue
        latency = network["latency_ms"]
        rows.append(
            (
                name,
                "-" if network["accuracy"] is None else f"{network['accuracy']:.2%}",
                number(latency["estimate"]),
                number(latency["measured"]),
                _millions(network["params"]),
                _millions(network["macs"]),
                bytes_text(network["size_bytes"]),
            )
        )
    return rows


def _millions(count: float) -> str:
    return f"{number(count / 1e6)} M"


def show_result(console: Console, result: Mapping[str, Any]) -> None:
    """The table, the budgets and where everything lies."""
    where = f"{result['backend']} {result['precision']} on {result['device']}" if result["backend"] else "no device"
    console.print(table(f"{result['model']}, {where}", _COLUMNS, result_rows(result)))
    for budget in result["budgets"]:
        met = "met" if budget["met"] else "not met"
        console.print(f"budget {budget['budget']}: {number(budget['achieved'])} of {number(budget['limit'])}, {met}")
    console.print(
        f"{result['iterations']} iterations, {number(result['seconds']['total'])} s: {result['reason']}", markup=False
    )
    if "run" in result:
        console.print(f"run: {result['run']}", markup=False)
