"""The table a run ends with: initial, uniform and adapted network side by side, from result.json's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.figures import figures
from netadapt_trt.cli.output import bytes_text, number, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["budget_line", "result_rows", "show_result"]

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
        console.print(budget_line(budget), markup=False)
    console.print(
        f"{result['iterations']} iterations, {number(result['seconds']['total'])} s: {result['reason']}", markup=False
    )
    if "run" in result:
        console.print(f"run: {result['run']}", markup=False)


def budget_line(budget: Mapping[str, Any]) -> str:
    """One of result.json's budgets: as the loop judged it and, where it was timed, as the final timing does."""
    name, resource, final = budget["budget"], budget["resource"], budget.get("final")
    loop = _judged(resource, budget["achieved"], budget["limit"], met=budget["met"])
    if final is None:
        return f"{name}: {loop}"
    timed = _judged(resource, final["value"], final["limit"], met=final["met"])
    return f"{name}: in the loop {loop}; final timing {timed}"


def _judged(resource: str, value: float, limit: float, *, met: bool) -> str:
    (shown, most), unit = figures(resource, (value, limit), 3)
    return f"{shown} of {most} {unit}, {'met' if met else f'missed by {_excess(value / limit - 1)}'}"


def _excess(share: float) -> str:
    """A share above zero; below 100 % with one decimal, and never as 0.0."""
    return f"{share:.0%}".replace("%", " %") if share >= 1 else f"{max(share * 100, 0.1):.1f} %"
