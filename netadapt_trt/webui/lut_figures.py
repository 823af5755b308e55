"""Plots of a table's layers: heat maps over two sizes, curves over one, rails, and how sure the figures are."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.lut.reading import value_of
from netadapt_trt.lut.schema import IN_NETWORK, ISOLATED, MODELLED, without_lost_energy
from netadapt_trt.plan.key import letters
from netadapt_trt.report.plotting import axis_of, layout_of
from netadapt_trt.webui.colours import HEAT
from netadapt_trt.webui.figures import figure, heat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.lut.layer_model import LayerModel
    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.space.table import SpaceTable
    from netadapt_trt.webui.figures import FigureDict

__all__ = ["Layer", "costs_figure", "curve_figure", "heat_figure", "layer_of", "rails_figure"]

_RESOURCES = {"latency": ("Latency", "ms"), "energy": ("Energy", "mJ")}
_MODEL_POINTS = 120
_FULL, _MANY = 0.25, 100
"""A map of more than so many places is drawn as marks where less than this share of them is known."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's cells of one context. ``axes`` are (letter, sorted values) of the sizes that vary in the table.

    ``widths`` of a cell are indexed by ``index``, one entry for each of ``axes``.
    """

    key: str
    cells: tuple[Cell, ...]
    axes: tuple[tuple[str, tuple[int, ...]], ...]
    index: tuple[int, ...]

    @property
    def rails(self) -> tuple[str, ...]:
        """Power rails that some cell has a reading of."""
        return tuple(dict.fromkeys(rail for cell in self.cells for rail in without_lost_energy(cell).power_mw))

    @property
    def has_energy(self) -> bool:
        """Whether some cell has an energy."""
        return any(value_of(cell, "energy") is not None for cell in self.cells)


def layer_of(lut: Lut, key: str, context: str = ISOLATED) -> Layer:
    """The cells of ``key``: those timed alone, or those seen in networks."""
    cells = lut.layer_cells(key, context)
    count = max((len(cell.widths) for cell in cells), default=0)
    cells = [cell for cell in cells if len(cell.widths) == count]
    values = [tuple(sorted({cell.widths[axis] for cell in cells})) for axis in range(count)]
    varying = [axis for axis in range(count) if len(values[axis]) > 1]
    # Axes that always move together (a depthwise convolution's input and output) are shown once.
    distinct: list[int] = []
    for axis in varying:
        if not any(all(cell.widths[axis] == cell.widths[other] for cell in cells) for other in distinct):
            distinct.append(axis)
    return Layer(key, tuple(cells), tuple((letters(axis), values[axis]) for axis in distinct), tuple(distinct))


def _unit(resource: str) -> tuple[str, str]:
    base, _, rail = resource.partition("@")
    name, unit = _RESOURCES[base]
    return (f"{name} of {rail}" if rail else name), unit


def _said(cell: Cell, resource: str) -> str:
    """A cell in words, with how sure it is."""
    name, unit = _unit(resource)
    value = value_of(cell, resource)
    lines = [f"{' x '.join(str(width) for width in cell.widths) or escape(cell.layer[-40:])}"]
    lines.append(f"<b>{escape(name)} {value:.4g} {unit}</b>" if value is not None else "not measured")
    if resource == "latency" and cell.latency_ms is not None:
        stats = cell.latency_ms
        lines.append(f"p10 {stats.p10:.4g}, p90 {stats.p90:.4g} ms, {stats.n} runs")
    if resource == "energy" and cell.energy_mj is not None and cell.energy_mj.stderr is not None:
        lines.append(f"standard error {cell.energy_mj.stderr:.3g} mJ")
    flags = [flag for flag in cell.flags if resource != "latency" or flag != MODELLED]
    return "<br>".join([*lines, *([escape(", ".join(flags))] if flags else [])])


def spread_of(cell: Cell, resource: str) -> float | None:
    """How unsure a cell is, in per cent: half of p10 to p90 for a latency, the standard error for an energy.

    None for a layer seen in networks: a share of a network's time has no spread of its own.
    """
    if cell.context == IN_NETWORK:
        return None
    if resource == "latency" and cell.latency_ms is not None and cell.latency_ms.median > 0:
        return 50 * (cell.latency_ms.p90 - cell.latency_ms.p10) / cell.latency_ms.median
    energy = without_lost_energy(cell).energy_mj
    if resource == "energy" and energy is not None and energy.stderr is not None and energy.total > 0:
        return 100 * energy.stderr / energy.total
    return None


def _at(layer: Layer, fixed: Mapping[int, int]) -> list[Cell]:
    return [cell for cell in layer.cells if all(cell.widths[axis] == value for axis, value in fixed.items())]


def _fixed(layer: Layer, free: Sequence[int]) -> dict[int, int]:
    """The other axes at the values that most cells share: there the picture is fullest."""
    others = [axis for axis in layer.index if axis not in free]
    if not others:
        return {}
    counts: dict[tuple[int, ...], int] = {}
    for cell in layer.cells:
        at = tuple(cell.widths[axis] for axis in others)
        counts[at] = counts.get(at, 0) + 1
    _, fullest = max((count, at) for at, count in counts.items())
    return dict(zip(others, fullest, strict=True))


def _note(fixed: Mapping[int, int]) -> str:
    return "".join(f", {letters(axis)} = {value}" for axis, value in fixed.items())


def _unsure(cell: Cell, resource: str, model: LayerModel | None) -> float | None:
    """How unsure a cell is, in per cent; where it was seen in networks, how unsure ``model`` is there."""
    if cell.context == IN_NETWORK and model is not None and resource == "latency":
        return 100 * float(model.uncertainty(np.array([cell.widths], dtype=np.int64))[0])
    return spread_of(cell, resource)


def _scale(layer: Layer, resource: str, spread: bool) -> str:
    name, unit = _unit(resource)
    if not spread:
        return f"{name}, {unit}"
    if layer.cells[0].context == IN_NETWORK:
        return "Standard deviation of the estimate, %"
    return f"{name}, half of p10 to p90, %" if resource == "latency" else f"{name}, standard error, %"


def heat_figure(layer: Layer, resource: str, *, spread: bool = False, model: LayerModel | None = None) -> FigureDict | None:
    """The first two sizes that vary as a heat map; ``spread`` shows how unsure each cell is instead, where it was seen in
    networks by ``model``. None below two sizes, and where there is nothing to show.
    """
    if len(layer.axes) < 2:
        return None
    across, down = layer.index[1], layer.index[0]
    fixed = _fixed(layer, (across, down))
    columns, rows = layer.axes[1][1], layer.axes[0][1]
    values = np.full((len(rows), len(columns)), np.nan)
    hover = [[f"{row} x {column}<br>not measured" for column in columns] for row in rows]
    for cell in _at(layer, fixed):
        at = rows.index(cell.widths[down]), columns.index(cell.widths[across])
        value = _unsure(cell, resource, model) if spread else value_of(cell, resource)
        if value is not None:
            values[at] = value
            hover[at[0]][at[1]] = _said(cell, resource) + (f"<br>unsure by {value:.3g} %" if spread else "")
    known = int((~np.isnan(values)).sum())
    if not known:
        return None
    title = _scale(layer, resource, spread)
    if known < _FULL * values.size and values.size > _MANY:
        return _scattered(layer, values, hover, title, from_zero=spread)
    return heat(
        values,
        columns=[str(column) for column in columns],
        rows=[str(row) for row in rows],
        hover=hover,
        titles=(f"Channels {layer.axes[1][0]}", f"Channels {layer.axes[0][0]}", title),
        # How unsure begins at nothing: the surest of cells that are all unsure must not look sure.
        limits=(0.0, float(np.nanmax(values)) or 1.0) if spread else None,
        view=f"map of {layer.key}",
    )


def _scattered(
    layer: Layer, values: np.ndarray, hover: Sequence[Sequence[str]], title: str, *, from_zero: bool
) -> FigureDict:
    """The same as marks where they lie: widths of whole networks fall where they like, and a map of them is mostly blank."""
    rows, columns = (found.tolist() for found in np.nonzero(~np.isnan(values)))
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [layer.axes[1][1][column] for column in columns],
        "y": [layer.axes[0][1][row] for row in rows],
        "text": [hover[row][column] for row, column in zip(rows, columns, strict=True)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 10,
            "color": values[rows, columns].tolist(),
            **({"cmin": 0.0, "cmax": float(np.nanmax(values)) or 1.0} if from_zero else {}),
            "colorscale": [list(stop) for stop in HEAT],
            "line": {"color": "@axis", "width": 1},
            "colorbar": {
                "title": {"text": title, "side": "right", "font": {"size": 12, "color": "@muted"}},
                "thickness": 12,
                "outlinewidth": 0,
                "tickfont": {"size": 12, "color": "@muted"},
            },
        },
    }
    x, y = (axis_of(f"Channels {layer.axes[axis][0]}", rangemode="tozero", type="linear", autorange=True) for axis in (1, 0))
    return figure([trace], layout_of(x, y, height=340), uirevision=f"marks of {layer.key}")


def curve_figure(layer: Layer, resource: str, *, model: LayerModel | None = None) -> FigureDict | None:
    """One size against the value, with p10 to p90 (standard error of energies) as bars, the others fixed.

    ``model`` (latency only) is drawn with its standard deviation, over what it says between the measurements.
    """
    if not layer.axes:
        return None
    axis = max(layer.index, key=lambda index: len({cell.widths[index] for cell in layer.cells}))
    fixed = _fixed(layer, (axis,))
    cells = sorted(
        (cell for cell in _at(layer, fixed) if value_of(cell, resource) is not None), key=lambda cell: cell.widths[axis]
    )
    if not cells:
        return None
    data: list[dict[str, Any]] = []
    if model is not None and resource == "latency":
        data += _model_traces(model, cells[0], axis, cells[-1].widths[axis])
    name, unit = _unit(resource)
    data.append(
        {
            "type": "scatter",
            # Those seen in networks are of different networks: no line leads from one to the next.
            "mode": "markers" if cells[0].context == IN_NETWORK else "lines+markers",
            "x": [cell.widths[axis] for cell in cells],
            "y": [value_of(cell, resource) for cell in cells],
            "text": [_said(cell, resource) for cell in cells],
            "hovertemplate": "%{text}<extra></extra>",
            "line": {"color": "@measured", "width": 1.5},
            "marker": {"color": "@measured", "size": 6},
            **({} if cells[0].context == IN_NETWORK else {"error_y": _error_bars(cells, resource)}),
        }
    )
    x = axis_of(f"Channels {letters(axis)}{_note(fixed)}", rangemode="tozero")
    return figure(
        data, layout_of(x, axis_of(f"{name}, {unit}", rangemode="tozero"), height=340), uirevision=f"curve of {layer.key}"
    )


def _error_bars(cells: Sequence[Cell], resource: str) -> dict[str, Any]:
    above, below = [], []
    for cell in cells:
        if resource == "latency" and cell.latency_ms is not None:
            above.append(cell.latency_ms.p90 - cell.latency_ms.median)
            below.append(cell.latency_ms.median - cell.latency_ms.p10)
        else:
            energy = cell.energy_mj if resource == "energy" else None
            above.append(energy.stderr if energy is not None and energy.stderr is not None else 0.0)
            below.append(above[-1])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "@measured", "thickness": 1}


def _model_traces(model: LayerModel, cell: Cell, axis: int, last: int) -> list[dict[str, Any]]:
    """What the estimator says along this axis, and one standard deviation around it."""
    tied = [index for index, width in enumerate(cell.widths) if width == cell.widths[axis]]
    at = np.unique(np.linspace(min(cell.widths[axis], last), max(cell.widths[axis], last), _MODEL_POINTS).round()).astype(
        int
    )
    points = np.tile(np.array(cell.widths, dtype=np.int64), (len(at), 1))
    points[:, axis] = at
    if len(tied) == len(cell.widths):  # a layer whose sizes are all one
        points[:] = at[:, None]
    values, sure = model.values(points), model.uncertainty(points)
    band = {"type": "scatter", "mode": "lines", "x": at.tolist(), "hoverinfo": "skip", "line": {"width": 0}}
    return [
        {**band, "y": (values * (1 + sure)).tolist()},
        {**band, "y": (values * (1 - sure)).tolist(), "fill": "tonexty", "fillcolor": "rgba(176,98,11,0.18)"},
        {
            "type": "scatter",
            "mode": "lines",
            "x": at.tolist(),
            "y": values.tolist(),
            "line": {"color": "@estimate", "width": 2, "dash": "dot"},
            "hovertemplate": "%{x}: estimate %{y:.4g} ms<extra></extra>",
        },
    ]


def rails_figure(layer: Layer) -> FigureDict | None:
    """Mean power by rail, stacked, over the size that varies most. None where no rail was read."""
    rails = layer.rails
    if not rails:
        return None
    axis = max(layer.index, key=lambda index: len({cell.widths[index] for cell in layer.cells}), default=None)
    fixed = {} if axis is None else _fixed(layer, (axis,))
    cells = [cell for cell in _at(layer, fixed) if without_lost_energy(cell).power_mw]
    if not cells:
        return None
    cells.sort(key=lambda cell: () if axis is None else (cell.widths[axis],))
    places = ["" if axis is None else str(cell.widths[axis]) for cell in cells]
    data = [
        {
            "type": "bar",
            "x": places,
            "y": [cell.power_mw.get(rail, 0.0) for cell in cells],
            "name": escape(rail),
            "marker": {"color": f"@run{index % 6 + 1}"},
            "hovertemplate": f"{escape(rail)}<br>%{{x}}: %{{y:.4g}} mW<extra></extra>",
        }
        for index, rail in enumerate(rails)
    ]
    title = "" if axis is None else f"Channels {letters(axis)}{_note(fixed)}"
    layout = layout_of(axis_of(title, type="category"), axis_of("Mean power, mW", rangemode="tozero"), height=320)
    return figure(data, layout, barmode="stack", showlegend=True, legend={"orientation": "h", "y": 1.12})


def costs_figure(table: SpaceTable, resource: str) -> FigureDict:
    """What each block costs in each layer of a space: ``latency`` in ms or ``energy`` in mJ."""
    values = table.latency_ms if resource == "latency" else table.energy_mj
    name, unit = _unit(resource)
    space = table.space
    hover = [
        [
            f"layer {place.number}, <b>{escape(block)}</b><br>"
            + ("not offered here" if np.isnan(values[row, column]) else f"{values[row, column]:.4g} {unit}")
            for column, block in enumerate(space.columns)
        ]
        for row, place in enumerate(space.places)
    ]
    return heat(
        values,
        columns=space.columns,
        rows=[str(place.number) for place in space.places],
        hover=hover,
        titles=("Block", "Layer", f"{name}, {unit}"),
    )
