"""Under which conditions a run's figures came about, how runs differ in them, and what to know before trusting a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.files import finite
from netadapt_trt.report.budgets import budget_rows, verdicts
from netadapt_trt.report.tables import Cell, Row
from netadapt_trt.report.text import DASH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.report.read import RunData

__all__ = ["condition_rows", "differences", "ending", "formula_note", "remarks", "subtitle"]

_FORMULA = (
    "{} the backend fake: the latencies and energies are those of a formula, not of a device, "
    "also where they are called measured."
)


def _conditions(run: RunData) -> dict[str, str]:
    """What must agree for two runs' figures to be comparable; a dash for what the run does not tell."""
    identity = _block(run.result, "identity") or _block(run.settings, "lut_identity")
    spec = _block(run.arguments, "spec") or _block(run.result, "model_spec")
    known = {key: run.result.get(key) or identity.get(key) for key in ("device", "backend", "precision")}
    shape = spec.get("input_shape")
    batch = identity.get("batch") or (shape[0] if isinstance(shape, list) and shape else None)
    found = {
        "Network": _network(run, spec),
        "Data": run.arguments.get("data"),
        "Device": known["device"],
        "Backend": known["backend"] or run.arguments.get("backend"),
        "Precision": known["precision"] or run.arguments.get("precision"),
        "Batch": batch,
        "Threads": identity.get("threads"),
        "Budget": ", ".join(row.budget for row in budget_rows(run)),
    }
    return {label: str(value) if value else DASH for label, value in found.items()}


def _block(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _network(run: RunData, spec: Mapping[str, Any]) -> str:
    shape, arguments = spec.get("input_shape"), _block(spec, "args")
    size = "\u00d7".join(map(str, shape[1:])) if isinstance(shape, list) else ""
    words = [str(run.result.get("model") or spec.get("model") or ""), *(f"{k}={v}" for k, v in arguments.items()), size]
    return " ".join(word for word in words if word)


def condition_rows(runs: Sequence[RunData]) -> list[Row]:
    """One row per condition with a cell per run, of kind ``differs`` where they do; the budget's says how it came out."""
    found = [_conditions(run) for run in runs]
    rows = []
    for label in found[0]:
        texts = [conditions[label] for conditions in found]
        notes = ["; ".join(filter(None, map(verdicts, budget_rows(run)))) if label == "Budget" else "" for run in runs]
        if any(text != DASH for text in texts):
            cells = tuple(Cell(text, note) for text, note in zip(texts, notes, strict=True))
            rows.append(Row(label, "differs" if len(set(texts)) > 1 else "", cells))
    return rows


def differences(runs: Sequence[RunData]) -> list[str]:
    """The conditions in which runs differ, in lower case; empty where their figures are comparable."""
    return [row.label.lower() for row in condition_rows(runs) if row.kind == "differs"]


def formula_note(runs: Sequence[RunData]) -> str:
    """Says which runs' figures are of no device; empty where all are of one."""
    fake = [run.name for run in runs if _conditions(run)["Backend"] == "fake"]
    if not fake:
        return ""
    who = "All runs used" if len(fake) == len(runs) > 1 else "This run used" if len(runs) == 1 else f"{', '.join(fake)} used"
    return _FORMULA.format(who)


def remarks(run: RunData) -> list[str]:
    """What a reader should know before trusting the figures: a formula for a device, failed proposals, extrapolation."""
    found = list(filter(None, [formula_note([run])]))
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
        word = "steps" if len(beyond) > 1 else "step"
        found.append(f"The estimates of {word} {steps} reach beyond the widths that were measured{names}.")
    return found


def _are_lists(lines: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(line["extrapolated"], list) for line in lines)


def subtitle(run: RunData) -> str:
    """Network, device, backend and precision, as far as known."""
    spec, known = _block(run.arguments, "spec"), _conditions(run)
    model = run.result.get("model") or spec.get("model")
    parts = [model, *(known[label] for label in ("Device", "Backend", "Precision"))]
    return " · ".join(str(part) for part in parts if part and part != DASH)


def ending(run: RunData) -> str:
    """How far the run came, and whether the budget holds in both timings."""
    count = len(run.decisions) or int(finite(run.result.get("iterations")) or 0)
    steps = f"{count} step{'' if count == 1 else 's'}"
    end = run.end or run.result
    if "reached" not in end:
        return f"{steps} so far, not finished"
    rows = budget_rows(run)
    budgets = "every budget" if len(rows) > 1 else "budget"
    if not end["reached"]:
        reason = str(end.get("reason", "")).strip()
        return f"{steps}, budget not reached" + (f": {reason}" if reason else "")
    if any(row.final.verdict == "missed" for row in rows):
        return f"{steps}, {budgets} reached in the loop, missed in the final timing"
    return f"{steps}, {budgets} reached"
