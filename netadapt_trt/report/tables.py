"""The tables of a report as rows of ready text; every figure says whether it is an estimate or measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netadapt_trt.files import finite
from netadapt_trt.report.read import resource_value
from netadapt_trt.report.text import DASH, MINUS, NARROW, above_or_below, duration, percent, points, quantity, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.report.read import RunData

__all__ = [
    "COUNTS",
    "Cell",
    "Row",
    "Tile",
    "WidthRow",
    "comparison_rows",
    "decision_rows",
    "final_value",
    "headline_rows",
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
COUNTS = {"params": "params", "macs": "macs", "memory": "memory_bytes", "size": "size_bytes"}


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
class Tile:
    """What a reader wants to know first, as a figure with a note; ``worse`` where the adapted network lost it."""

    label: str
    figure: str
    note: str
    worse: bool = False


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
    if resource in COUNTS:
        return finite(block.get(COUNTS[resource])) if kind == "counted" else None
    base, _, rail = resource.partition("@")
    pair = block.get({"latency": "latency_ms", "energy": "energy_mj"}[base])
    if rail and isinstance(pair, dict):
        rails = pair.get("rails")
        pair = rails.get(rail) if isinstance(rails, dict) else None
    if isinstance(pair, dict):
        return finite(pair.get(kind))
    line = {"initial": run.initial, "adapted": run.decisions[-1] if run.decisions else {}}.get(network, {})
    return resource_value(line.get("resources"), resource, kind)


def _holdout(run: RunData, network: str) -> float | None:
    if network == "initial":
        return finite(run.initial.get("accuracy_holdout", run.initial.get("accuracy")))
    return finite(run.decisions[-1].get("accuracy")) if network == "adapted" and run.decisions else None


def _accuracy_cells(values: Mapping[str, float | None], ranges: Mapping[str, str]) -> tuple[Cell, ...]:
    base = values["initial"]
    cells = []
    for name, value in values.items():
        compared = name != "initial" and value is not None and base is not None
        notes = [points(value - base)] if compared and value is not None and base is not None else []
        notes += [ranges[name]] if name in ranges else []
        cells.append(Cell(percent(value), "; ".join(notes)))
    return tuple(cells)


def _seed_accuracies(run: RunData, network: str) -> list[float]:
    found = [finite(line.get("accuracy_test")) for line in run.long_term if line.get("network") == network]
    return [value for value in found if value is not None]


def _seed_ranges(run: RunData) -> dict[str, str]:
    """From worst to best over the seeds of the long-term phase, when there was more than one."""
    ranges = {}
    for name in NETWORKS:
        values = _seed_accuracies(run, name)
        if len(values) > 1:
            ranges[name] = f"mean of {len(values)} seeds, {100 * min(values):.2f} to {100 * max(values):.2f}"
    return ranges


def headline_rows(run: RunData) -> list[Row]:
    """Accuracy, latency, energy, sizes of the initial, uniform and adapted network, with ratios to the initial one."""
    test = {name: finite(run.network(name).get("accuracy")) for name in NETWORKS}
    if test["initial"] is None:
        test["initial"] = finite(run.initial.get("accuracy_test"))
    held = {name: _holdout(run, name) for name in NETWORKS}
    rows = []
    if any(value is not None for value in test.values()):
        rows.append(Row("Accuracy, test set", "measured", _accuracy_cells(test, _seed_ranges(run))))
    if any(value is not None for value in held.values()):
        rows.append(Row("Accuracy, holdout, before long-term fine-tuning", "measured", _accuracy_cells(held, {})))
    kinds = [("latency", "measured"), ("latency", "estimate"), ("energy", "measured"), ("energy", "estimate")]
    kinds += [(resource, "counted") for resource in COUNTS]
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
        seconds = {stage: value for stage in known if (value := finite(known[stage])) is not None}
    else:
        for line in run.decisions:
            spent = line.get("seconds")
            for stage, value in (spent if isinstance(spent, dict) else {}).items():
                seconds[stage] = seconds.get(stage, 0.0) + (finite(value) or 0.0)
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
    total = finite(known.get("total")) if isinstance(known, dict) else None
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
        target = finite(targets.get(resource)) if isinstance(targets, dict) else None
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
                percent(finite(line.get("accuracy"))),
                str(made),
            )
        )
    return rows


def tiles(run: RunData) -> list[Tile]:
    """What a reader wants to know first; only what is known."""
    found = []
    for kind in ("measured", "estimate"):
        first, last = (final_value(run, name, "latency", kind) for name in ("initial", "adapted"))
        if first and last is not None:
            note = f"{quantity('latency', first)} → {quantity('latency', last)}, {kind}"
            found.append(Tile("Latency", ratio(last, first), note, worse=last > first))
            break
    start, end = (finite(run.network(name).get("accuracy")) for name in ("initial", "adapted"))
    where = "test set"
    if end is None:
        start, end, where = _holdout(run, "initial"), _holdout(run, "adapted"), "holdout, so far"
    if end is not None:
        change = f"{points(end - start)} against the uncut network, {where}" if start is not None else where
        found.append(Tile("Accuracy", percent(end), change))
    uniform = _against_uniform(run)
    found += [uniform] if uniform is not None else []
    estimate, measured = (final_value(run, "adapted", "latency", kind) for kind in ("estimate", "measured"))
    if estimate is not None and measured:
        error = 100 * (estimate / measured - 1)
        sign = "" if abs(error) < 0.05 else "+" if error > 0 else MINUS
        note = f"{quantity('latency', estimate)} promised by the table, {quantity('latency', measured)} measured in the end"
        found.append(Tile("Promise against reality", f"{sign}{abs(error):.1f}{NARROW}%", note))
    return found


def _against_uniform(run: RunData) -> Tile | None:
    """The adapted network's accuracy against the baseline's, in words, with the latencies it is compared at."""
    ours, theirs = (finite(run.network(name).get("accuracy")) for name in ("adapted", "uniform"))
    if ours is None or theirs is None:
        return None
    note = f"{percent(ours)} against {percent(theirs)} on the test set"
    ranges = [_seed_accuracies(run, name) for name in ("adapted", "uniform")]
    if all(ranges) and max(map(min, ranges)) <= min(map(max, ranges)) and min(map(len, ranges)) > 1:
        note += ", the seeds' ranges overlap"
    latencies = [final_value(run, name, "latency", "measured") for name in ("adapted", "uniform")]
    if None not in latencies:
        note += f"; {quantity('latency', latencies[0])} against {quantity('latency', latencies[1])}"
    return Tile("Accuracy against uniform width", above_or_below(ours - theirs), note, worse=ours < theirs)
