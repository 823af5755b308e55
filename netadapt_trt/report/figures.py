"""The plots as plain Plotly figures. Colours are names of the page's style sheet ("@adapted"), so that they follow the
reader's light or dark scheme; filled marks are measured, hollow ones are estimates, everywhere.

Plotly reads a little HTML in its texts, hence every user string is escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from netadapt_trt.report.read import number, resource_value
from netadapt_trt.report.tables import budgets_of, final_value
from netadapt_trt.report.text import known, label, percent, quantity, scaled, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.report.read import RunData

__all__ = ["Figure", "accuracy_figure", "primary_resource", "ratio_figure", "resources_of", "value_figure"]

RUN_COLOURS = 6
MANY_PROPOSALS = 300
_FINALS = (("initial", "diamond", "uncut"), ("uniform", "square", "uniform width"), ("adapted", "star", "adapted"))


@dataclass(frozen=True, slots=True)
class Figure:
    """``data`` and ``layout`` for Plotly, a caption, a sentence for screen readers, and the legend: (mark, colour, text)."""

    key: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    caption: str
    described: str
    legend: tuple[tuple[str, str, str], ...]


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


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12, "color": "@muted"}, "standoff": 10},
        "gridcolor": "@grid",
        "zeroline": False,
        "linecolor": "@axis",
        "tickcolor": "@axis",
        "tickfont": {"size": 12, "color": "@muted"},
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "fixedrange": True,
        **more,
    }


def _layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "xaxis": x,
        "yaxis": y,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "color": "@ink"},
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@axis",
            "font": {"color": "@ink", "size": 12},
            "align": "left",
        },
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        **more,
    }


def _marks(
    points: Sequence[tuple[float, float, str]], *, color: str, symbol: Any, size: float, **more: Any
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _, _ in points],
        "y": [y for _, y, _ in points],
        "text": [text for _, _, text in points],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": size, "line": {"color": color, "width": 1.6}},
        **more,
    }


def _best(block: object, resource: str) -> tuple[float, str] | None:
    """The measured value of a resource, else the estimate, and which it is."""
    for kind in ("measured", "estimate"):
        value = resource_value(block, resource, kind)
        if value is not None:
            return value, kind
    return None


def _path(run: RunData, resource: str) -> list[tuple[float, float, str, str]]:
    """(value, holdout accuracy, kind, hover text) of the uncut network and of every decision."""
    points = []
    for line in (run.initial, *run.decisions):
        accuracy = number(line.get("accuracy", line.get("accuracy_holdout")))
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
        accuracy = number(run.network(name).get("accuracy"))
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
    return [low - pad, min(high + pad, 100.5) if high <= 100 else high + pad]


def _open(symbol: str, kind: str) -> str:
    return f"{symbol}-open" if kind == "estimate" else symbol


def accuracy_figure(runs: Sequence[RunData], key: str) -> Figure | None:
    """Accuracy against latency along the iterations; several runs share one plot, each in its own colour."""
    resource = primary_resource(runs[0])
    several = len(runs) > 1
    data: list[dict[str, Any]] = []
    legend: list[tuple[str, str, str]] = []
    shapes: list[dict[str, Any]] = []
    values: list[float] = []
    cloud: list[float] = []
    for index, run in enumerate(runs):
        color = f"run{index % RUN_COLOURS + 1}" if several else "adapted"
        path, finals = _path(run, resource), _finals(run, resource)
        values += [point[1] for point in path] + [point[1] for _, point, _ in finals]
        if not several:
            dots = _proposal_points(run, resource)
            cloud += [point[1] for point in dots]
            size = 5.0 if len(dots) < MANY_PROPOSALS else 3.5
            data.append(_marks(dots, color="@proposal", symbol="circle", size=size, opacity=0.75))
        data.append(_path_trace(path, color))
        for name, point, kind in finals:
            symbol = next(mark for network, mark, _ in _FINALS if network == name)
            data.append(_marks([point], color=f"@{color if several else name}", symbol=_open(symbol, kind), size=12))
        shapes += _budget_lines(run, resource)
        if several:
            legend.append(("line", color, run.name))
    if not values:
        return None
    if not several:
        legend += [("line", "adapted", "path of the loop, holdout"), ("dot", "proposal", "proposals, holdout, estimate")]
    shown = {name for run in runs for name, _, _ in _finals(run, resource)}
    legend += [(mark, "muted" if several else name, f"{text}, test set") for name, mark, text in _FINALS if name in shown]
    legend += [("dash", "muted", "budget")] if shapes else []
    x = _axis(f"{label(resource)}, {unit(resource)}", rangemode="normal")
    y = _axis("Accuracy, %", range=_span(values, cloud))
    hidden = sum(1 for value in cloud if value < y["range"][0])
    caption = "Filled marks are measured, hollow ones are estimates. Points further up and left are better."
    if hidden:
        caption += f" {hidden} proposals of lower accuracy lie below the axis."
    described = f"Accuracy against {label(resource).lower()} for {', '.join(run.name for run in runs)}."
    return Figure(key, data, _layout(x, y, shapes=shapes), caption, described, tuple(legend))


def _proposal_points(run: RunData, resource: str) -> list[tuple[float, float, str]]:
    points = []
    for line in run.proposals:
        accuracy, value = number(line.get("accuracy")), resource_value(line.get("resources"), resource, "estimate")
        if accuracy is not None and value is not None:
            what = escape(f"step {line.get('iteration')}: {line.get('group')} to {line.get('width')}")
            text = f"<b>{what}</b><br>{quantity(resource, value)} (estimate)<br>{percent(accuracy)} holdout"
            points.append((scaled(resource, value), 100 * accuracy, text))
    return points


def _path_trace(path: Sequence[tuple[float, float, str, str]], color: str) -> dict[str, Any]:
    symbols = [_open("circle", kind) for _, _, kind, _ in path]
    marks = _marks([(x, y, text) for x, y, _, text in path], color=f"@{color}", symbol=symbols, size=8)
    return {**marks, "mode": "lines+markers", "line": {"color": f"@{color}", "width": 2}}


def _budget_lines(run: RunData, resource: str) -> list[dict[str, Any]]:
    lines = []
    for budget in budgets_of(run):
        initial = None
        for kind in ("counted", "measured", "estimate"):
            initial = initial if initial is not None else final_value(run, "initial", budget.name, kind)
        if budget.name == resource and (initial is not None or not budget.relative):
            at = scaled(resource, budget.absolute(initial or 0.0))
            line = {"color": "@muted", "width": 1.5, "dash": "dash"}
            lines.append({"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line})
    return lines


def _series(run: RunData, resource: str, kind: str) -> list[tuple[float, float, str]]:
    points = []
    for line in (run.initial, *run.decisions):
        targets = line.get("targets")
        if kind == "target":
            value = number(targets.get(resource)) if isinstance(targets, dict) else None
        else:
            value = resource_value(line.get("resources"), resource, kind)
        step = number(line.get("iteration", 0))
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
        {**_marks(series["target"], color="@muted", symbol="line-ew-open", size=16), "hoverinfo": "skip"},
        _marks(series["estimate"], color="@estimate", symbol="circle-open", size=10),
        _marks(series["measured"], color="@measured", symbol="circle", size=7),
    ]
    x = _axis("Step", tickformat="d", rangemode="tozero")
    y = _axis(f"{label(resource)}, {unit(resource)}", rangemode="tozero")
    marks = (("target", "tick", "muted"), ("estimate", "ring", "estimate"), ("measured", "dot", "measured"))
    legend = [(mark, color, kind) for kind, mark, color in marks if series[kind]]
    caption = "What each step aimed at (target), what the table promised for the network chosen, and what it then took."
    described = f"Target, estimate and measured {resource} after each step of {run.name}."
    return Figure(key, data, _layout(x, y), caption, described, tuple(legend))


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
            trace = _marks(points, color=f"@{color}", symbol=symbol, size=7)
            data.append({**trace, "mode": "lines+markers", "line": {"color": f"@{color}", "width": 1.5}})
            legend.append((mark, color, told))
    one = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    layout = _layout(
        _axis("Step", tickformat="d", rangemode="tozero"),
        _axis("Ratio"),
        shapes=[{**one, "line": {"color": "@muted", "width": 1.5, "dash": "dash"}}],
    )
    caption = (
        "At 1 the promise was exact. The scale turns the sum of layers timed alone into the whole network's time; "
        "it is set anew from every measurement."
    )
    described = f"Measured {resource} divided by its estimate after each step of {run.name}."
    return Figure(key, data, layout, caption, described, tuple(legend))
