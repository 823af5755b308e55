"""Pieces that every tab is made of: labelled fields, tables, notices, figures with a caption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from netadapt_trt.files import finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from netadapt_trt.webui.figures import FigureDict

__all__ = [
    "DASH", "EMPTY", "attributes", "choice", "digits", "error_box", "field", "file_link", "graph", "listing", "number_input",
    "page_table", "section", "size_graphs", "tile", "warnings_of",
]  # fmt: skip

DASH = "\u2013"
EMPTY: FigureDict = {"data": [], "layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "height": 120}}
_LIST_HEIGHT = 380
_GRAPH: Any = {"displaylogo": False, "displayModeBar": False}


def attributes(**values: str) -> dict[str, Any]:
    """HTML attributes with a dash in their names, which Python's names cannot have: ``aria_label`` is ``aria-label``."""
    return {name.replace("_", "-"): value for name, value in values.items()}


def digits(value: object, unit: str = "", places: int = 4) -> str:
    """Four significant digits and the unit; a dash for what is not known, or no finite number."""
    known = finite(value)
    if known is None:
        return DASH
    text = f"{known:.{places}g}"
    if "e" in text and 1e-4 <= abs(known) < 1e7:
        text = f"{known:,.0f}"
    return f"{text}\u202f{unit}" if unit else text


def field(label: str, component: Any, hint: str = "", **more: Any) -> Component:
    """A labelled component; the label belongs to it for screen readers and clicks."""
    parts: list[Any] = [html.Label(label, htmlFor=component.id, className="label"), component]
    if hint:
        parts.append(html.Small(hint, className="hint"))
    return html.Div(parts, className="field", **more)


def number_input(id: str, value: float | None, *, placeholder: str = "", step: float | str = "any") -> Component:
    """An input for a number that survives a reload of the page."""
    return dcc.Input(
        id=id, type="number", value=value, placeholder=placeholder, step=step, persistence=True, persistence_type="session"
    )


def choice(
    id: str, options: Sequence[str] | Sequence[dict[str, str]], value: Any = None, *, clearable: bool = False, **more: Any
) -> Component:
    """One of several, found by typing."""
    kept = {"persistence": True, "persistence_type": "session", "maxHeight": _LIST_HEIGHT, **more}
    return dcc.Dropdown(id=id, options=list(options), value=value, clearable=clearable, **kept)


def section(title: str, *children: Any) -> Component:
    """A part of a tab under a heading."""
    return html.Section([html.H2(title), *children], className="section")


def tile(label: str, value: str, note: str = "") -> Component:
    """A figure that is to be seen at once."""
    return html.Div([html.Dt(label), html.Dd(value), *([html.Dd(note, className="note")] if note else [])], className="tile")


def error_box(text: str) -> Component:
    """What went wrong, told to screen readers at once."""
    return html.Div(text, className="notice bad", role="alert")


def warnings_of(texts: Sequence[str], title: str) -> Component:
    """Sentences under a heading; nothing where there are none."""
    if not texts:
        return html.Div()
    return html.Div([html.Strong(title), html.Ul([html.Li(text) for text in texts])], className="notice")


def page_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "", numbers_from: int = 1
) -> Component:
    """A table whose columns from ``numbers_from`` on are aligned right."""
    head = html.Tr(
        [html.Th(name, scope="col", className="num" if index >= numbers_from else "") for index, name in enumerate(columns)]
    )
    body = [
        html.Tr([html.Td(cell, className="num" if index >= numbers_from else "") for index, cell in enumerate(row)])
        for row in rows
    ]
    inner = [html.Caption(caption)] if caption else []
    return html.Div(html.Table([*inner, html.Thead(head), html.Tbody(body)]), className="scroll")


def listing(pairs: Sequence[tuple[str, Any]]) -> Component:
    """Names and values."""
    return html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs], className="pairs")


def graph(id: str, caption: str, *, described: str) -> Component:
    """A figure with its caption; ``described`` is what screen readers say instead of it."""
    return html.Figure(
        [
            html.Div(
                dcc.Graph(id=id, figure=EMPTY, config=_GRAPH, responsive=True, className="plot"),
                role="img",
                **attributes(aria_label=described),
            ),
            html.Figcaption(caption, id=f"{id}-caption"),
        ],
        id=f"{id}-box",
    )


def size_graphs(app: Dash, *ids: str) -> None:
    """Let these graphs be as high as their figures ask, as wide as their place: Plotly does one or the other by itself."""
    height = ClientsideFunction(namespace="netadapt", function_name="height")
    size: Any = app.clientside_callback
    for name in ids:
        size(height, Output(name, "style"), Input(name, "figure"))


def file_link(run: str, file: str, text: str) -> Component:
    """A link that downloads a file of a run."""
    return html.A(text, href=f"/api/runs/file?run={quote(run)}&file={quote(file)}", className="download", download="")
