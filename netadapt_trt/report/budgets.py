"""Budgets in both timings they are judged in: the loop's own, and the final one of all networks side by side.

The loop aims at a limit fixed when it starts. The final timing takes the uncut network's latency anew, so a relative budget
is another limit there; the two never share a figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import SpecError
from netadapt_trt.files import finite
from netadapt_trt.report.read import resource_value
from netadapt_trt.report.tables import COUNTS, final_value
from netadapt_trt.report.text import DASH, NARROW, quantity, quantity_of
from netadapt_trt.spec import Budget, parse_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.report.read import RunData

__all__ = ["BudgetRow", "Judged", "budget_rows", "budgets_of", "loop_limits", "verdicts"]

_UNITS = {"latency": "latency_ms", "energy": "energy_mj"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A budget in one timing: "0.171 of 0.180 ms", ``kept``, ``missed`` or ``unknown``, by how much, the value's kind."""

    text: str
    verdict: str
    note: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One budget, in the loop and in the final timing."""

    budget: str
    loop: Judged
    final: Judged


def _entries(run: RunData) -> list[tuple[Budget, Mapping[str, Any]]]:
    """The run's budgets, from the result or the arguments, as text or as objects; one that cannot be read is left out."""
    raw = run.result.get("budgets") or run.arguments.get("budgets") or run.arguments.get("budget") or []
    found: list[tuple[Budget, Mapping[str, Any]]] = []
    for entry in raw if isinstance(raw, list) else [raw]:
        block = entry if isinstance(entry, dict) else {}
        text = block.get("budget", block.get("text")) if block else entry
        try:
            if isinstance(text, str):
                found.append((parse_budget(text), block))
            elif block:
                value, rail = float(block["value"]), block.get("rail")
                budget = Budget(resource=block["resource"], value=value, relative=bool(block["relative"]), rail=rail)
                found.append((budget, block))
        except (SpecError, KeyError, TypeError, ValueError):
            continue
    return found


def budgets_of(run: RunData) -> list[Budget]:
    """The run's budgets; one that cannot be read is left out."""
    return [budget for budget, _ in _entries(run)]


def loop_limits(run: RunData) -> list[tuple[Budget, float | None]]:
    """Each budget with the limit the loop aimed at, in the resource's unit; None while that is unknown."""
    return [(budget, _loop_limit(run, budget, entry)) for budget, entry in _entries(run)]


def _loop_limit(run: RunData, budget: Budget, entry: Mapping[str, Any]) -> float | None:
    limit = finite(entry.get("limit"))
    if limit is not None or not budget.relative:
        return budget.absolute(0.0) if limit is None else limit
    initial = finite(entry.get("initial"))
    if initial is None:
        initial, _ = _known(run.initial, budget.name)
    return None if initial is None else budget.absolute(initial)


def _known(line: Mapping[str, Any], resource: str) -> tuple[float | None, str]:
    """The value the loop went by at a line of the history, and its kind."""
    block = line.get("resources")
    measured = resource_value(block, resource, "measured")
    if measured is not None:
        return measured, "measured"
    return resource_value(block, resource, "estimate"), "counted" if resource in COUNTS else "estimate"


def budget_rows(run: RunData) -> list[BudgetRow]:
    """One row per budget, judged in the loop and in the final timing."""
    return [
        BudgetRow(str(budget), _in_the_loop(run, budget, entry), _in_the_final_timing(run, budget, entry))
        for budget, entry in _entries(run)
    ]


def _in_the_loop(run: RunData, budget: Budget, entry: Mapping[str, Any]) -> Judged:
    reached, kind = _known(run.decisions[-1] if run.decisions else run.initial, budget.name)
    achieved, met = finite(entry.get("achieved")), entry.get("met")
    if achieved is None:
        achieved, met = reached, None
    return _judged(budget.name, achieved, _loop_limit(run, budget, entry), met, kind=kind)


def _in_the_final_timing(run: RunData, budget: Budget, entry: Mapping[str, Any]) -> Judged:
    block = entry["final"] if "final" in entry else _derived(run, budget)
    if isinstance(block, dict):
        value, limit = finite(block.get("value")), finite(block.get("limit"))
        return _judged(budget.name, value, limit, block.get("met"), kind="counted" if budget.name in COUNTS else "measured")
    if budget.name in COUNTS:
        return Judged(DASH, "unknown", "counted, not timed")
    return Judged(DASH, "unknown", "not timed" if run.result else "not timed yet")


def _derived(run: RunData, budget: Budget) -> dict[str, Any] | None:
    """Results from before ``final`` was written: p10 beside the median is the mark of a value of the final timing."""
    unit = _UNITS.get(budget.resource)
    if unit is None or not all(_was_timed(run, name) for name in ("initial", "adapted")):
        return None
    initial, value = (final_value(run, name, budget.name, "measured") for name in ("initial", "adapted"))
    if value is None or (initial is None and budget.relative):
        return None
    limit = budget.absolute(initial or 0.0)
    return {"value": value, "limit": limit, "met": value <= limit}


def _was_timed(run: RunData, network: str) -> bool:
    block = run.network(network).get("latency_ms")
    return isinstance(block, dict) and finite(block.get("p10")) is not None


def _judged(resource: str, value: float | None, limit: float | None, met: object, *, kind: str) -> Judged:
    if value is None or limit is None:
        return Judged(DASH if limit is None else f"at most {quantity(resource, limit)}", "unknown", "not known yet")
    kept = met if isinstance(met, bool) else value <= limit
    apart = 100 * abs(value / limit - 1) if limit else 0.0
    size = f"{apart:.1f}{NARROW}%" if apart >= 0.05 else f"less than 0.1{NARROW}%"
    note = f"kept, {size} to spare" if kept else f"missed by {size}"
    return Judged(quantity_of(resource, value, limit), "kept" if kept else "missed", note, kind)


def verdicts(row: BudgetRow) -> str:
    """Both verdicts of a budget in words; empty where neither is known."""
    known = [(row.loop, "in the loop"), (row.final, "in the final timing")]
    words = [f"{judged.verdict} {where}" for judged, where in known if judged.verdict != "unknown"]
    if len(words) == 2 and row.loop.verdict == row.final.verdict:
        return f"{row.loop.verdict} in the loop and in the final timing"
    return ", ".join(words)
