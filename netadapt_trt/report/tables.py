"""The tables of a report as rows of ready text; every figure says whether it is an estimate or measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import SpecError
from netadapt_trt.report.read import number, resource_value
from netadapt_trt.report.text import DASH, MINUS, NARROW, duration, percent, points, quantity, ratio
from netadapt_trt.spec import Budget, parse_budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.report.read import RunData

__all__ = [
    "BudgetRow",
    "Cell",
    "Row",
    "WidthRow",
    "budget_rows",
    "budgets_of",
    "comparison_rows",
    "decision_rows",
    "final_value",
    "headline_rows",
    "remarks",
    "setting_rows",
    "stage_rows",
    "tiles",
    "wall_time",
    "width_rows",
]

NETWORKS = ("initial", "uniform", "adapted")
_STAGES = {
    "profile": "Profiling",
    "search": "Width search",
    "fine_tune": "Short-term fine-tuning",
    "evaluate": "Evaluation",
    "measure": "Measuring",
    "long_term": "Long-term fine-tuning",
}
_COUNTS = {"params": "params", "macs": "macs", "memory": "memory_bytes", "size": "size_bytes"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and, smaller, what it is compared with."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled row of cells; ``kind`` is ``measured``, ``estimate``, ``counted`` or empty."""

    label: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What was asked, what came out, and the verdict (``kept``, ``missed`` or ``unknown``) with its ground."""

    budget: str
    limit: str
    measured: str
    estimate: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class WidthRow:
    """One channel group: uncut size, width kept, and both as shares for the bar (``uniform`` None without baseline)."""

    group: str
    size: int
    width: int
    share: float
    uniform: float | None


def final_value(run: RunData, network: str, resource: str, kind: str) -> float | None:
    """A resource of a network: from the result, else from the history (the last decision stands for ``adapted``)."""
    block = run.network(network)
    if resource in _COUNTS:
        return number(block.get(_COUNTS[resource])) if kind == "counted" else None
    base, _, rail = resource.partition("@")
    pair = block.get({"latency": "latency_ms", "energy": "energy_mj"}[base])
    if rail and isinstance(pair, dict):
        rails = pair.get("rails")
        pair = rails.get(rail) if isinstance(rails, dict) else None
    if isinstance(pair, dict):
        return number(pair.get(kind))
    line = {"initial": run.initial, "adapted": run.decisions[-1] if run.decisions else {}}.get(network, {})
    return resource_value(line.get("resources"), resource, kind)


def _holdout(run: RunData, network: str) -> float | None:
    if network == "initial":
        return number(run.initial.get("accuracy_holdout", run.initial.get("accuracy")))
    return number(run.decisions[-1].get("accuracy")) if network == "adapted" and run.decisions else None


def _accuracy_cells(values: Mapping[str, float | None], ranges: Mapping[str, str]) -> tuple[Cell, ...]:
    base = values["initial"]
    cells = []
    for name, value in values.items():
        compared = name != "initial" and value is not None and base is not None
        notes = [points(value - base)] if compared and value is not None and base is not None else []
        notes += [ranges[name]] if name in ranges else []
        cells.append(Cell(percent(value), "; ".join(notes)))
    return tuple(cells)


def _seed_ranges(run: RunData) -> dict[str, str]:
    """From worst to best over the seeds of the long-term phase, when there was more than one."""
    ranges = {}
    for name in NETWORKS:
        found = [number(line.get("accuracy_test")) for line in run.long_term if line.get("network") == name]
        values = [value for value in found if value is not None]
        if len(values) > 1:
            ranges[name] = f"mean of {len(values)} seeds, {100 * min(values):.2f} to {100 * max(values):.2f}"
    return ranges


def headline_rows(run: RunData) -> list[Row]:
    """Accuracy, latency, energy, sizes of the initial, uniform and adapted network, with ratios to the initial one."""
    test = {name: number(run.network(name).get("accuracy")) for name in NETWORKS}
    if test["initial"] is None:
        test["initial"] = number(run.initial.get("accuracy_test"))
    held = {name: _holdout(run, name) for name in NETWORKS}
    rows = []
    if any(value is not None for value in test.values()):
        rows.append(Row("Accuracy, test set", "measured", _accuracy_cells(test, _seed_ranges(run))))
    if any(value is not None for value in held.values()):
        rows.append(Row("Accuracy, holdout, before long-term fine-tuning", "measured", _accuracy_cells(held, {})))
    kinds = [("latency", "measured"), ("latency", "estimate"), ("energy", "measured"), ("energy", "estimate")]
    kinds += [(resource, "counted") for resource in _COUNTS]
    names = {"latency": "Latency", "energy": "Energy", "params": "Parameters", "macs": "Multiply-accumulates"}
    names |= {"memory": "Memory, parameters and peak activations", "size": "Size on disk"}
    for resource, kind in kinds:
        values = [final_value(run, name, resource, kind) for name in NETWORKS]
        # An energy row of dashes says nothing; latency is the product and its gaps are worth seeing.
        if resource != "latency" and all(value is None for value in values):
            continue
        notes = ["", *(ratio(value, values[0]) for value in values[1:])]
        cells = tuple(Cell(quantity(resource, v), note) for v, note in zip(values, notes, strict=True))
        rows.append(Row(names[resource], kind, cells))
    return rows


def comparison_rows(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """The adapted column of several headline tables side by side; a run that lacks a row has a dash there."""
    found = [{(row.label, row.kind): row.cells[-1] for row in table} for table in tables]
    wanted = dict.fromkeys(key for table in found for key in table)
    return [Row(label, kind, tuple(table.get((label, kind), Cell(DASH)) for table in found)) for label, kind in wanted]


def budgets_of(run: RunData) -> list[Budget]:
    """The run's budgets, from the result or the arguments, as text or as objects; one that cannot be read is left out."""
    raw = run.result.get("budgets") or run.arguments.get("budgets") or run.arguments.get("budget") or []
    found = []
    for entry in raw if isinstance(raw, list) else [raw]:
        text = entry.get("budget", entry.get("text")) if isinstance(entry, dict) else entry
        try:
            if isinstance(text, str):
                found.append(parse_budget(text))
            elif isinstance(entry, dict):
                value, rail = float(entry["value"]), entry.get("rail")
                found.append(Budget(resource=entry["resource"], value=value, relative=bool(entry["relative"]), rail=rail))
        except (SpecError, KeyError, TypeError, ValueError):
            continue
    return found


def budget_rows(run: RunData) -> list[BudgetRow]:
    """One row per budget. The measured value decides where there is one; a verdict by estimate says so."""
    rows = []
    for budget in budgets_of(run):
        resource = budget.name
        exact = resource in _COUNTS
        initial = final_value(run, "initial", resource, "counted" if exact else "measured")
        if initial is None and not exact:
            initial = final_value(run, "initial", resource, "estimate")
        limit = None if budget.relative and initial is None else budget.absolute(initial or 0.0)
        measured = final_value(run, "adapted", resource, "counted" if exact else "measured")
        estimate = None if exact else final_value(run, "adapted", resource, "estimate")
        decisive = measured if measured is not None else estimate
        if decisive is None or limit is None:
            verdict, reason = "unknown", "not judged: the values are not known yet"
        else:
            verdict = "kept" if decisive <= limit else "missed"
            ground = "counted" if exact else "measured" if measured is not None else "estimate only"
            so_far = "" if run.result else ", so far"
            reason = f"{verdict} ({ground}{so_far}): {decisive / limit:.3f} of the budget"
        rows.append(
            BudgetRow(
                str(budget),
                quantity(resource, limit),
                quantity(resource, measured),
                quantity(resource, estimate),
                verdict,
                reason,
            )
        )
    return rows


def width_rows(run: RunData) -> list[WidthRow]:
    """Every channel group in the network's order, before and after."""
    adapted, uniform = run.widths.get("adapted", {}), run.widths.get("uniform", {})
    rows = []
    for group, size in run.sizes.items():
        if size <= 0 or group not in adapted:
            continue
        other = uniform[group] / size if group in uniform else None
        rows.append(WidthRow(group, size, adapted[group], adapted[group] / size, other))
    return rows


def stage_rows(run: RunData) -> list[tuple[str, str, float]]:
    """(stage, duration, share of the total) of every stage that took time; for an unfinished run those known so far."""
    known = run.result.get("seconds")
    seconds: dict[str, float] = {}
    if isinstance(known, dict):
        seconds = {stage: value for stage in known if (value := number(known[stage])) is not None}
    else:
        for line in run.decisions:
            spent = line.get("seconds")
            for stage, value in (spent if isinstance(spent, dict) else {}).items():
                seconds[stage] = seconds.get(stage, 0.0) + (number(value) or 0.0)
    total = seconds.pop("total", 0.0)
    rest = total - sum(seconds.values())
    if rest > 0.005 * total:
        seconds["everything else"] = rest
    whole = sum(seconds.values()) or 1.0
    return [
        (_STAGES.get(stage, stage.replace("_", " ").capitalize()), duration(value), value / whole)
        for stage, value in seconds.items()
        if value > 0
    ]


def wall_time(run: RunData) -> str:
    """Wall time of the whole run; empty while unknown."""
    known = run.result.get("seconds")
    total = number(known.get("total")) if isinstance(known, dict) else None
    return duration(total) if total else ""


def decision_rows(run: RunData, resource: str) -> list[tuple[str, ...]]:
    """Step, group, width before and after, target, estimate, measured, their ratio, holdout accuracy, proposals."""
    rows: list[tuple[str, ...]] = []
    before = dict(run.widths.get("initial", run.sizes))
    for line in run.decisions:
        group, step = str(line.get("group", DASH)), line.get("iteration", DASH)
        widths = line.get("widths") if isinstance(line.get("widths"), dict) else {}
        old, new = before.get(group), (widths or {}).get(group)
        before.update(widths or {})
        estimate = resource_value(line.get("resources"), resource, "estimate")
        measured = resource_value(line.get("resources"), resource, "measured")
        targets = line.get("targets")
        target = number(targets.get(resource)) if isinstance(targets, dict) else None
        made = sum(1 for proposal in run.proposals if proposal.get("iteration") == line.get("iteration"))
        rows.append(
            (
                str(step),
                group,
                f"{old if old is not None else DASH} → {new if new is not None else DASH}",
                quantity(resource, target),
                quantity(resource, estimate),
                quantity(resource, measured),
                ratio(measured, estimate) or DASH,
                percent(number(line.get("accuracy"))),
                str(made),
            )
        )
    return rows


def setting_rows(run: RunData) -> list[tuple[str, str]]:
    """Every argument of the run and the versions it ran with, nested names joined by dots."""
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            rows.append((prefix, value if isinstance(value, str) else json.dumps(value)))

    walk("", {key: value for key, value in run.settings.items() if key not in ("format", "version", "arguments")})
    arguments = rows.copy()
    rows.clear()
    walk("", dict(run.arguments))
    return rows + arguments


def tiles(run: RunData) -> list[tuple[str, str, str]]:
    """(label, figure, note): what a reader wants to know first; only what is known."""
    found = []
    for kind in ("measured", "estimate"):
        first, last = (final_value(run, name, "latency", kind) for name in ("initial", "adapted"))
        if first and last is not None:
            note = f"{quantity('latency', first)} → {quantity('latency', last)}, {kind}"
            found.append(("Latency", ratio(last, first), note))
            break
    start, end = (number(run.network(name).get("accuracy")) for name in ("initial", "adapted"))
    where = "test set"
    if end is None:
        start, end, where = _holdout(run, "initial"), _holdout(run, "adapted"), "holdout, so far"
    if end is not None:
        change = f"{points(end - start)} against the uncut network, {where}" if start is not None else where
        found.append(("Accuracy", percent(end), change))
    uniform = number(run.network("uniform").get("accuracy"))
    if uniform is not None and end is not None and where == "test set":
        theirs, ours = (
            quantity("latency", final_value(run, name, "latency", "measured")) for name in ("uniform", "adapted")
        )
        note = f"accuracy above a width multiplier's, which takes {theirs} against {ours}"
        found.append(("Against uniform width", points(end - uniform), note))
    estimate, measured = (final_value(run, "adapted", "latency", kind) for kind in ("estimate", "measured"))
    if estimate is not None and measured:
        error = 100 * (estimate / measured - 1)
        sign = "+" if error >= 0 else MINUS
        found.append(
            (
                "Promise against reality",
                f"{sign}{abs(error):.1f}{NARROW}%",
                "estimate of the final latency against the measured one",
            )
        )
    return found


def remarks(run: RunData) -> list[str]:
    """What a reader should know before trusting the figures: failed proposals, estimates beyond the measured range."""
    found = []
    for line in run.failures:
        reason = " ".join(str(line.get("reason", "no reason given")).split())
        found.append(
            f"Step {line.get('iteration')}: the proposal for {line.get('group')} failed and was left out ({reason})."
        )
    beyond = [line for line in run.decisions if line.get("extrapolated")]
    if beyond:
        steps = ", ".join(str(line.get("iteration")) for line in beyond)
        layers = {str(layer) for line in beyond for layer in line["extrapolated"]} if _are_lists(beyond) else set()
        names = f": {'; '.join(sorted(layers))}" if layers else ""
        found.append(f"The estimates of step {steps} reach beyond the widths that were measured{names}.")
    return found


def _are_lists(lines: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(line["extrapolated"], list) for line in lines)
