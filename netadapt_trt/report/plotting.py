"""What every plot of a page shares: the figure with its words, axes, layout and marks in the style sheet's colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Figure", "axis_of", "layout_of", "marks_of"]


@dataclass(frozen=True, slots=True)
class Figure:
    """``data`` and ``layout`` for Plotly, a caption, a sentence for screen readers, and the legend: (mark, colour, text)."""

    key: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    caption: str
    described: str
    legend: tuple[tuple[str, str, str], ...]


def axis_of(title: str, **more: Any) -> dict[str, Any]:
    """An axis in the page's colours; ``more`` as Plotly has it."""
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


def layout_of(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A layout with these axes; ``more`` as Plotly has it."""
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


def marks_of(
    points: Sequence[tuple[float, float, str]], *, color: str, symbol: Any, size: float, **more: Any
) -> dict[str, Any]:
    """Marks at (x, y, hover text); texts of users are escaped by the caller."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _, _ in points],
        "y": [y for _, y, _ in points],
        "text": [text for _, _, text in points],
        "cliponaxis": False,  # a mark on an axis is drawn whole
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": size, "line": {"color": color, "width": 1.6}},
        **more,
    }
