"""The tab in which runs stand side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, html

from netadapt_trt.errors import NetadaptError
from netadapt_trt.webui.compare import rows_of
from netadapt_trt.webui.figures import compare_figure, run_colour
from netadapt_trt.webui.parts import DASH, EMPTY, choice, digits, error_box, field, graph, page_table, size_graphs

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.webui.compare import Row
    from netadapt_trt.webui.service import Service

__all__ = ["connect", "layout"]

_FIRST = 4


def layout(service: Service) -> list[Component]:
    """The whole tab."""
    runs = [item.name for item in service.workspace.items("adapt", "search")]
    return [
        html.H1("Runs side by side"),
        html.Section(
            [
                field(
                    "Runs",
                    choice("compared", runs, runs[:_FIRST], clearable=True, multi=True, placeholder="Choose runs"),
                    "Of adapt: the uncut, the uniform and the adapted network. Of a search: its children.",
                )
            ],
            className="section form",
        ),
        html.Div(id="compare-message", role="status"),
        graph(
            "compare-graph",
            "Filled marks are measured, hollow ones are estimates; a colour for each run, as in the table. Diamond: uncut, "
            "square: uniform, star: adapted, or a search's most probable child, circle: a drawn child. Further up and left "
            "is better; latencies of different devices or runtimes do not compare.",
            described="Accuracy against latency of the chosen runs' networks.",
        ),
        html.Div(id="compare-table"),
    ]


def connect(app: Dash, service: Service) -> None:
    """Follow the choice."""
    size_graphs(app, "compare-graph")

    def compared(names: list[str] | None) -> tuple[Any, ...]:
        rows: list[Row] = []
        told: list[Component] = []
        for name in names or []:
            found, error = _read(service, name)
            rows += found
            told += error
        if not rows:
            hint = "Choose runs to compare." if not told else ""
            return told or html.P(hint, className="hint"), EMPTY, "hidden", ""
        drawn = compare_figure(rows)
        return told, drawn or EMPTY, "" if drawn else "hidden", _table(rows)

    app.callback(
        Output("compare-message", "children"),
        Output("compare-graph", "figure"),
        Output("compare-graph-box", "className"),
        Output("compare-table", "children"),
        Input("compared", "value"),
    )(compared)


def _read(service: Service, name: str) -> tuple[list[Row], list[Component]]:
    """The networks of one run, or why it cannot be read."""
    try:
        return rows_of(service.workspace.find(name, "adapt", "search")), []
    except NetadaptError as error:
        return [], [error_box(service.told(error))]


def _table(rows: list[Row]) -> Component:
    names = list(dict.fromkeys(row.run for row in rows))

    def mark(row: Row) -> Component:
        return html.Span(className="mark dot", style={"--mark": f"var(--{run_colour(names, row.run)})"})

    body = [
        (
            [mark(row), " ", html.Strong(row.run), html.Small(row.where)],
            [row.network, *([html.Small(row.note)] if row.note else [])],
            digits(None if row.accuracy is None else 100 * row.accuracy, "%"),
            digits(row.estimate_ms, "ms"),
            digits(row.measured_ms, "ms"),
            _ratio(row.measured_ms, row.estimate_ms) if row.comparable else DASH,
            digits(row.estimate_mj, "mJ"),
            digits(row.measured_mj, "mJ"),
            DASH if row.params is None else f"{row.params:,.0f}",
        )
        for row in rows
    ]
    columns = (
        "Run", "Network", "Test accuracy", "Latency, estimate", "measured", "measured / estimate", "Energy, estimate",
        "measured", "Parameters",
    )  # fmt: skip
    return page_table(columns, body, numbers_from=2)


def _ratio(measured: float | None, estimate: float | None) -> str:
    return DASH if measured is None or not estimate else f"{measured / estimate:.3f}"
