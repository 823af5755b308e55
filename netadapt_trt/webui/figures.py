"""Plots of searches and of runs side by side, as plain Plotly figures.

Filled marks are measured, hollow ones are estimates, as in reports. Plotly reads a little HTML in its texts, hence every
text of a user's is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.files import finite
from netadapt_trt.report.plotting import axis_of, layout_of, marks_of
from netadapt_trt.webui.colours import HEAT, painted
from netadapt_trt.webui.searches import probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.space.schema import Space
    from netadapt_trt.webui.compare import Row
    from netadapt_trt.webui.searches import SearchView

__all__ = ["FigureDict", "compare_figure", "figure", "heat", "history_figure", "run_colour", "theta_figure", "widths_figure"]

FigureDict = dict[str, Any]

_RUN_COLOURS = 6
_PALE = 25.0
_LOWEST = 300
_EACH = 10
"""Epochs up to which each has a tick."""
_SYMBOLS = {"initial": "diamond", "uniform": "square", "adapted": "star", "argmax": "star", "sampled": "circle"}


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], **more: Any) -> FigureDict:
    """A figure in the page's colours; ``more`` goes into its layout."""
    made: FigureDict = painted({"data": list(data), "layout": {**layout, "uirevision": "same", **more}})
    return made


def heat(
    values: np.ndarray,
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    hover: Sequence[Sequence[str]],
    titles: tuple[str, str, str],
    limits: tuple[float, float] | None = None,
    view: str = "same",
) -> FigureDict:
    """A heat map of ``values`` [rows, columns], NaN left blank; ``titles`` of columns, rows and the scale.

    What a user has zoomed into stays while ``view`` does: an axis of names must not become one of numbers under it.
    """
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": [[None if np.isnan(value) else float(value) for value in row] for row in values],
        "x": list(columns),
        "y": list(rows),
        "text": [list(line) for line in hover],
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": [list(stop) for stop in HEAT],
        "xgap": 1,
        "ygap": 1,
        "colorbar": {
            "title": {"text": titles[2], "side": "right", "font": {"size": 12, "color": "@muted"}},
            "thickness": 12,
            "outlinewidth": 0,
            "tickfont": {"size": 12, "color": "@muted"},
        },
    }
    if limits is not None:
        trace |= {"zmin": limits[0], "zmax": limits[1]}
    # Names and sizes are places in a row here, never dates or positions on a scale.
    x = axis_of(titles[0], type="category", showgrid=False)
    y = axis_of(titles[1], type="category", showgrid=False, autorange="reversed")
    return figure(
        [trace],
        layout_of(x, y, height=max(_LOWEST, 90 + 22 * len(rows)), margin={"l": 8, "r": 8, "t": 12, "b": 8}),
        uirevision=view,
    )


def theta_figure(space: Space, theta: np.ndarray) -> FigureDict:
    """How probable each block is in each layer: softmax of ``theta`` [places, columns]."""
    chances = probabilities(theta)
    hover = [
        [
            f"layer {place.number}, <b>{escape(name)}</b><br>"
            + ("not offered here" if np.isnan(chances[row, column]) else f"{100 * chances[row, column]:.1f} %")
            for column, name in enumerate(space.columns)
        ]
        for row, place in enumerate(space.places)
    ]
    return heat(
        100 * chances,
        columns=space.columns,
        rows=[str(place.number) for place in space.places],
        hover=hover,
        titles=("Block", "Layer", "Probability, %"),
        # From 0 to 100 % the first epochs would be one colour throughout.
        limits=(0.0, max(_PALE, 100 * float(np.nanmax(chances)))),
    )


def _series(history: Sequence[Mapping[str, Any]], key: str, times: float = 1.0) -> tuple[list[int], list[float]]:
    points = [(line["epoch"], finite(line.get(key))) for line in history]
    known = [(x, times * y) for x, y in points if y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _line(x: Sequence[float], y: Sequence[float], name: str, color: str, axis: str, unit: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "yaxis": axis,
        "line": {"color": f"@{color}", "width": 2},
        "marker": {"size": 5, "color": f"@{color}"},
        "hovertemplate": f"epoch %{{x}}<br>{name} %{{y:.4g}}{unit}<extra></extra>",
    }


def history_figure(view: SearchView) -> FigureDict:
    """Accuracy, expected latency and expected energy after each epoch, one below the other."""
    history = view.history
    trained, held = _series(history, "train_accuracy", 100), _series(history, "val_accuracy", 100)
    latency, energy = _series(history, "lat_s"), _series(history, "ener_j")
    # As many plots from the first epoch to the last: Plotly stumbles over axes that come later.
    rows = 3 if view.start.get("ener_j") is not None or energy[0] else 2
    tops = [1 - index / rows for index in range(rows)]
    domains = [[max(0.0, top - 1 / rows + 0.06), top - 0.02] for top in tops]
    data = [
        _line(*trained, "weights' images", "proposal", "y", " %"),
        _line(*held, "theta's images", "adapted", "y", " %"),
        _line(*latency, "LAT", "uniform", "y2", " s"),
    ]
    if rows == 3:
        data.append(_line(*energy, "ENER", "good", "y3", " J"))
    apart = {"tick0": 0, "dtick": 1} if view.epochs <= _EACH else {}  # plotly puts half an epoch between few
    x = axis_of("Epoch", tickformat="d", **apart, range=[0.5, max(view.epochs, 2) + 0.5], anchor=f"y{rows}")
    layout = layout_of(x, axis_of("Accuracy, %", domain=domains[0]), height=150 * rows + 60)
    layout["yaxis2"] = axis_of("LAT, s", domain=domains[1], rangemode="tozero")
    if rows == 3:
        layout["yaxis3"] = axis_of("ENER, J", domain=domains[2], rangemode="tozero")
    warm = finite(view.arguments.get("warmup_epochs"))
    if warm is not None and warm > 0:
        shade = {"type": "rect", "xref": "x", "yref": "paper", "x0": 0.5, "x1": warm + 0.5, "y0": 0, "y1": 1}
        layout["shapes"] = [{**shade, "fillcolor": "@track", "opacity": 0.45, "line": {"width": 0}, "layer": "below"}]
    return figure(data, layout, hovermode="closest")


def widths_figure(sizes: Mapping[str, int], widths: Mapping[str, int]) -> FigureDict:
    """Channels left of each group, over the uncut ones."""
    groups = list(sizes)
    hover = [f"{escape(group)}<br>{widths.get(group, sizes[group])} of {sizes[group]}" for group in groups]
    bar: dict[str, Any] = {"type": "bar", "orientation": "h", "y": groups, "hovertemplate": "%{text}<extra></extra>"}
    bar |= {"text": hover, "textposition": "none"}
    data = [
        {**bar, "x": [sizes[group] for group in groups], "marker": {"color": "@track"}},
        {**bar, "x": [widths.get(group, sizes[group]) for group in groups], "marker": {"color": "@adapted"}},
    ]
    y = axis_of("", type="category", autorange="reversed", showgrid=False, tickmode="array", tickvals=groups)
    y["ticktext"] = [escape(group) for group in groups]
    layout = layout_of(axis_of("Channels", rangemode="tozero"), y, height=max(220, 70 + 18 * len(groups)))
    return figure(data, layout, barmode="overlay", bargap=0.35)


def run_colour(names: Sequence[str], run: str) -> str:
    """The name of a run's colour among these."""
    return f"run{names.index(run) % _RUN_COLOURS + 1}"


def compare_figure(rows: Sequence[Row]) -> FigureDict | None:
    """Accuracy against latency, a colour for each run; measured latencies where they are known, else estimates."""
    names = list(dict.fromkeys(row.run for row in rows))
    data = []
    for row in rows:
        latency = row.measured_ms if row.measured_ms is not None else row.estimate_ms
        if latency is None or row.accuracy is None:
            continue
        kind = "estimate" if row.measured_ms is None else "measured"
        symbol = _SYMBOLS.get(row.network.partition("-")[0], "circle") + ("-open" if kind == "estimate" else "")
        text = f"<b>{escape(row.run)}</b>: {escape(row.network)}<br>{latency:.4g} ms ({kind})<br>{100 * row.accuracy:.2f} %"
        color = f"@{run_colour(names, row.run)}"
        data.append(marks_of([(latency, 100 * row.accuracy, text)], color=color, symbol=symbol, size=12))
    if not data:
        return None
    return figure(data, layout_of(axis_of("Latency, ms", rangemode="tozero"), axis_of("Accuracy, %"), height=380))
