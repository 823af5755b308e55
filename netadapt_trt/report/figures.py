"""The plots as plain Plotly figures. Colours are names of the page's style sheet ("@adapted"), so that they follow the
reader's light or dark scheme; filled marks are measured, hollow ones are estimates, everywhere.

Plotly reads a little HTML in its texts, hence every user string is escaped here.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from netadapt_trt.files import finite
from netadapt_trt.report.budgets import budgets_of, loop_limits
from netadapt_trt.report.plotting import Figure, axis_of, layout_of, marks_of
from netadapt_trt.report.read import resource_value
from netadapt_trt.report.tables import COUNTS, final_value
from netadapt_trt.report.text import known, label, percent, quantity, scaled, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.report.read import RunData

__all__ = ["Figure", "accuracy_figure", "primary_resource", "ratio_figure", "resources_of", "value_figure"]

RUN_COLOURS = 6
MANY_PROPOSALS = 300
_FINALS = (
    ("initial", "diamond", "uncut, test set"),
    ("uniform", "square", "uniform width after long-term fine-tuning, test set"),
    ("adapted", "star", "adapted after long-term fine-tuning, test set"),
)


def resources_of(run: RunData) -> list[str]:
    """Resources the history has values of, those with a budget first."""
    seen = [budget.name for budget in budgets_of(run)]
    for line in (run.initial, *run.decisions):
        block = line.get("resources")
        seen += [name for name in (block if isinstance(block, dict) else {}) if known(name)]
    return [name for name in dict.fromkeys(seen) if known(name)]


def primary_resource(run: RunData) -> str:
    """Latency where the run knows it, else the first budget's resource."""
    found = resources_of(run)
    return "latency" if "latency" in found or not found else found[0]


def _best(block: object, resource: str) -> tuple[float, str] | None:
    """The measured value of a resource, else the estimate (of what is counted: the count), and which it is."""
    for kind in ("measured", "estimate"):
        value = resource_value(block, resource, kind)
        if value is not None:
            return value, _honest(resource, kind)
    return None


def _honest(resource: str, kind: str) -> str:
    """What follows from the shapes alone is counted, though it stands where estimates stand."""
    return "counted" if resource in COUNTS and kind == "estimate" else kind


def _path(run: RunData, resource: str) -> list[tuple[float, float, str, str]]:
    """(value, holdout accuracy, kind, hover text) of the uncut network and of every decision."""
    points = []
    for line in (run.initial, *run.decisions):
        accuracy = finite(line.get("accuracy", line.get("accuracy_holdout")))
        value = _best(line.get("resources"), resource)
        if accuracy is None or value is None:
            continue
        where = f"step {line.get('iteration')}: {line.get('group')}" if line.get("type") == "decision" else "uncut network"
        text = f"<b>{escape(str(where))}</b><br>{quantity(resource, value[0])} ({value[1]})<br>{percent(accuracy)} holdout"
        points.append((scaled(resource, value[0]), 100 * accuracy, value[1], text))
    return points


def _finals(run: RunData, resource: str) -> list[tuple[str, tuple[float, float, str], str]]:
    """(network, point, kind) of the networks whose test accuracy is known."""
    found = []
    for name in ("initial", "uniform", "adapted"):
        accuracy = finite(run.network(name).get("accuracy"))
        for kind in ("measured", "estimate", "counted"):
            value = final_value(run, name, resource, kind)
            if accuracy is not None and value is not None:
                text = f"<b>{name}</b><br>{quantity(resource, value)} ({kind})<br>{percent(accuracy)} test set"
                found.append((name, (scaled(resource, value), 100 * accuracy, text), kind))
                break
    return found


def _span(values: Sequence[float], cloud: Sequence[float]) -> list[float]:
    """The axis holds every path and final point and the better three quarters of the proposals; bad ones may fall out."""
    kept = sorted(cloud)[len(cloud) // 4 :]
    low, high = min([*values, *kept]), max([*values, *kept])
    pad = max(0.06 * (high - low), 0.2)
    return [max(low - pad, 0.0), min(high + pad, 100.0)]


def _roomy(values: Sequence[float]) -> list[float]:
    """A range with a margin on both sides, so that no mark meets the frame."""
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return [low - pad, high + pad]


def _open(symbol: str, kind: str) -> str:
    return f"{symbol}-open" if kind == "estimate" else symbol


def accuracy_figure(runs: Sequence[RunData], key: str) -> Figure | None:
    """Accuracy against latency along the iterations; several runs share one plot, each in its own colour."""
    resource = primary_resource(runs[0])
    several = len(runs) > 1
    data: list[dict[str, Any]] = []
    lines: list[tuple[float, str]] = []
    shown: list[tuple[float, float]] = []
    finals = [_finals(run, resource) for run in runs]
    dots = [] if several else _proposal_points(runs[0], resource)
    if not several:
        size = 6.0 if len(dots) < MANY_PROPOSALS else 4.0
        data.append(marks_of(dots, color="@proposal", symbol=_open("circle", _honest(resource, "estimate")), size=size))
    for index, run in enumerate(runs):
        color = f"run{index % RUN_COLOURS + 1}" if several else "adapted"
        path = _path(run, resource)
        shown += [(x, y) for x, y, _, _ in path] + [(x, y) for _, (x, y, _), _ in finals[index]]
        data.append(_path_trace(path, color))
        for name, point, kind in finals[index]:
            symbol = next(mark for network, mark, _ in _FINALS if network == name)
            data.append(marks_of([point], color=f"@{color if several else name}", symbol=_open(symbol, kind), size=12))
        lines += [(at, color if several else "muted") for at in _limits(run, resource)]
    if not shown:
        return None
    y = _span([point[1] for point in shown], [point[1] for point in dots])
    inside = [at for at, _ in shown] + [at for at, accuracy, _ in dots if accuracy >= y[0]]
    axes = (
        axis_of(f"{label(resource)}, {unit(resource)}", range=_roomy([*inside, *(at for at, _ in lines)])),
        axis_of("Accuracy, %", range=y),
    )
    caption = _accuracy_caption(resource, finals, limits=bool(lines), hidden=sum(1 for point in dots if point[1] < y[0]))
    described = f"Accuracy against {label(resource).lower()} for {', '.join(run.name for run in runs)}."
    shapes = [_upright(at, color) for at, color in lines]
    legend = _accuracy_legend(runs, resource, finals, limits=bool(lines))
    return Figure(key, data, layout_of(*axes, shapes=shapes), caption, described, legend)


def _accuracy_legend(
    runs: Sequence[RunData], resource: str, finals: Sequence[Sequence[tuple[str, Any, str]]], *, limits: bool
) -> tuple[tuple[str, str, str], ...]:
    several = len(runs) > 1
    legend = [("line", f"run{index % RUN_COLOURS + 1}", run.name) for index, run in enumerate(runs) if several]
    if not several:
        kind = _honest(resource, "estimate")
        mark = "ring small" if kind == "estimate" else "dot"
        legend += [("line", "adapted", "path of the loop, holdout"), (mark, "proposal", f"proposals, holdout, {kind}")]
    for name, mark, text in _FINALS:
        kinds = {kind for found in finals for network, _, kind in found if network == name}
        hollow = " hollow" if kinds == {"estimate"} else ""
        legend += [(mark + hollow, "muted" if several else name, text)] if kinds else []
    legend += [("dash", "muted", "budget the loop aimed at")] if limits else []
    return tuple(legend)


def _accuracy_caption(resource: str, finals: Sequence[Sequence[Any]], *, limits: bool, hidden: int) -> str:
    timed = resource not in COUNTS
    words = ["Filled marks are measured, hollow ones are estimates."] if timed else []
    words.append("Circles: networks as the loop had them, accuracy on the holdout.")
    if any(finals):
        words.append(f"Other marks: accuracy on the test set, {label(resource).lower()} as in the table above.")
    if limits and timed and any(finals):
        words.append("The budget's line is the loop's; in the final timing a relative budget has its own limit.")
    words.append("Points further up and left are better.")
    if hidden:
        words.append(f"{hidden} proposal{'s' if hidden > 1 else ''} of lower accuracy lie below the axis.")
    return " ".join(words)


def _proposal_points(run: RunData, resource: str) -> list[tuple[float, float, str]]:
    points = []
    for line in run.proposals:
        accuracy, value = finite(line.get("accuracy")), resource_value(line.get("resources"), resource, "estimate")
        if accuracy is not None and value is not None:
            what = escape(f"step {line.get('iteration')}: {line.get('group')} to {line.get('width')}")
            kind = _honest(resource, "estimate")
            text = f"<b>{what}</b><br>{quantity(resource, value)} ({kind})<br>{percent(accuracy)} holdout"
            points.append((scaled(resource, value), 100 * accuracy, text))
    return points


def _path_trace(path: Sequence[tuple[float, float, str, str]], color: str) -> dict[str, Any]:
    symbols = [_open("circle", kind) for _, _, kind, _ in path]
    marks = marks_of([(x, y, text) for x, y, _, text in path], color=f"@{color}", symbol=symbols, size=8)
    return {**marks, "mode": "lines+markers", "line": {"color": f"@{color}", "width": 2}}


def _limits(run: RunData, resource: str) -> list[float]:
    """What the loop aimed at, in the axis' unit."""
    return [scaled(resource, at) for budget, at in loop_limits(run) if budget.name == resource and at is not None]


def _upright(at: float, color: str) -> dict[str, Any]:
    line = {"color": f"@{color}", "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line}


def _steps(points: Sequence[tuple[float, float, str]]) -> dict[str, Any]:
    """An axis of whole steps with room at both ends."""
    last = max(step for step, _, _ in points)
    apart = next(width for width in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if last / width <= 10)
    room = max(0.4, 0.04 * last)
    return axis_of("Step", tickformat="d", tick0=0, dtick=apart, range=[-room, last + room])


def _series(run: RunData, resource: str, kind: str) -> list[tuple[float, float, str]]:
    points = []
    for line in (run.initial, *run.decisions):
        targets = line.get("targets")
        if kind == "target":
            value = finite(targets.get(resource)) if isinstance(targets, dict) else None
        else:
            value = resource_value(line.get("resources"), resource, kind)
        step = finite(line.get("iteration", 0))
        if value is not None and step is not None:
            text = f"step {step:.0f}<br>{kind}: {quantity(resource, value) if kind != 'scale' else f'{value:.3f}'}"
            points.append((step, value if kind == "scale" else scaled(resource, value), text))
    return points


def value_figure(run: RunData, resource: str, key: str) -> Figure | None:
    """Target, estimate and measured value of a resource after each step."""
    series = {kind: _series(run, resource, kind) for kind in ("target", "estimate", "measured")}
    if len(series["estimate"]) + len(series["measured"]) < 2:
        return None
    data = [
        {**marks_of(series["target"], color="@muted", symbol="line-ew-open", size=16), "hoverinfo": "skip"},
        marks_of(series["estimate"], color="@estimate", symbol="circle-open", size=10),
        marks_of(series["measured"], color="@measured", symbol="circle", size=7),
    ]
    points = [point for found in series.values() for point in found]
    x = _steps(points)
    y = axis_of(f"{label(resource)}, {unit(resource)}", range=[0, 1.08 * max(value for _, value, _ in points)])
    marks = (("target", "tick", "muted"), ("estimate", "ring", "estimate"), ("measured", "dot", "measured"))
    legend = [(mark, color, kind) for kind, mark, color in marks if series[kind]]
    caption = "What each step aimed at (target), what the table promised for the network chosen, and what it then took."
    described = f"Target, estimate and measured {resource} after each step of {run.name}."
    return Figure(key, data, layout_of(x, y), caption, described, tuple(legend))


def ratio_figure(run: RunData, resource: str, key: str) -> Figure | None:
    """Measured against estimate after each step, with the scale the estimate was multiplied by."""
    estimate = {step: value for step, value, _ in _series(run, resource, "estimate")}
    pairs = [
        (step, value / estimate[step], f"step {step:.0f}<br>measured / estimate: {value / estimate[step]:.3f}")
        for step, value, _ in _series(run, resource, "measured")
        if estimate.get(step)
    ]
    scales = _series(run, resource, "scale")
    if not pairs and not scales:
        return None
    data: list[dict[str, Any]] = []
    legend: list[tuple[str, str, str]] = []
    for points, color, mark, symbol, told in (
        (pairs, "measured", "dot", "circle", "measured / estimate"),
        (scales, "scale", "box", "square-open", "scale of the sum of layers"),
    ):
        if points:
            trace = marks_of(points, color=f"@{color}", symbol=symbol, size=7)
            data.append({**trace, "mode": "lines+markers", "line": {"color": f"@{color}", "width": 1.5}})
            legend.append((mark, color, told))
    one = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    layout = layout_of(
        _steps([*pairs, *scales]),
        axis_of("Ratio", range=_roomy([1.0, *(value for _, value, _ in (*pairs, *scales))])),
        shapes=[{**one, "line": {"color": "@muted", "width": 1.5, "dash": "dash"}}],
    )
    caption = (
        "At 1 the promise was exact. The scale turns the sum of layers timed alone into the whole network's time; "
        "it is set anew from every measurement."
    )
    described = f"Measured {resource} divided by its estimate after each step of {run.name}."
    return Figure(key, data, layout, caption, described, tuple(legend))
