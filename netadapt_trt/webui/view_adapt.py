"""The tab in which a run of ``adapt`` is followed, under way or finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from netadapt_trt.errors import NetadaptError
from netadapt_trt.report.budgets import budget_rows
from netadapt_trt.report.context import ending, subtitle
from netadapt_trt.report.figures import accuracy_figure, primary_resource, value_figure
from netadapt_trt.report.read import read_run
from netadapt_trt.report.tables import decision_rows, headline_rows
from netadapt_trt.webui.figures import figure, widths_figure
from netadapt_trt.webui.parts import (
    EMPTY,
    attributes,
    choice,
    error_box,
    field,
    file_link,
    graph,
    page_table,
    section,
    size_graphs,
    warnings_of,
)

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.report.budgets import Judged
    from netadapt_trt.report.plotting import Figure
    from netadapt_trt.report.read import RunData
    from netadapt_trt.webui.service import Service

__all__ = ["connect", "layout"]


def layout(service: Service) -> list[Component]:
    """The whole tab."""
    runs = [item.name for item in service.workspace.items("adapt")]
    return [
        html.H1("Follow an adaptation"),
        html.Section(
            [
                field(
                    "Run",
                    choice("adapt-run", runs, runs[-1] if runs else None, placeholder="Choose a run"),
                    "Directories that netadapt-trt adapt -o wrote, in the workspace; those under way are followed.",
                )
            ],
            className="section form",
        ),
        dcc.Store(id="adapt-seen"),
        html.Div(id="adapt-head", **attributes(aria_live="polite")),
        html.Div(
            [
                graph("adapt-accuracy", "", described="Accuracy against the resource along the iterations."),
                graph("adapt-values", "", described="Target, estimate and measured value after each step."),
            ],
            className="pair",
            id="adapt-figures",
        ),
        html.Div(
            [
                graph(
                    "adapt-widths",
                    "Channels left in each group (blue) of the uncut ones (grey).",
                    described="Channels left in each group.",
                )
            ],
            id="adapt-widths-part",
        ),
        html.Div(id="adapt-rows"),
    ]


def connect(app: Dash, service: Service) -> None:
    """Follow the chosen run."""
    size_graphs(app, "adapt-accuracy", "adapt-values", "adapt-widths")

    def follow(_: int, name: str | None, seen: str | None) -> tuple[Any, ...]:
        runs = [item.name for item in service.workspace.items("adapt")]
        if not name:
            hint = html.P("No run in the workspace yet.", className="hint") if not runs else ""
            return (runs, hint, EMPTY, "", EMPTY, "", EMPTY, "", "hidden", "hidden", "")
        try:
            run = read_run(service.workspace.find(name, "adapt").path)
        except NetadaptError as error:
            return (runs, error_box(service.told(error)), EMPTY, "", EMPTY, "", EMPTY, "", "hidden", "hidden", "")
        signature = repr((name, len(run.proposals), len(run.decisions), len(run.long_term), bool(run.result), dict(run.end)))
        if signature == seen:
            return (runs, *(no_update,) * 9, seen)
        resource = primary_resource(run)
        accuracy, values = _drawn(accuracy_figure([run], "a")), _drawn(value_figure(run, resource, "v"))
        adapted = run.widths.get("adapted", {})
        widths = widths_figure(run.sizes, adapted) if run.sizes and adapted else EMPTY
        shown = "pair" if accuracy[0] != EMPTY or values[0] != EMPTY else "hidden"
        return (
            runs, _head(service, name, run), *accuracy, *values, widths, _rows(run, resource), shown,
            "" if widths is not EMPTY else "hidden", signature,
        )  # fmt: skip

    app.callback(
        Output("adapt-run", "options"),
        Output("adapt-head", "children"),
        Output("adapt-accuracy", "figure"),
        Output("adapt-accuracy-caption", "children"),
        Output("adapt-values", "figure"),
        Output("adapt-values-caption", "children"),
        Output("adapt-widths", "figure"),
        Output("adapt-rows", "children"),
        Output("adapt-figures", "className"),
        Output("adapt-widths-part", "className"),
        Output("adapt-seen", "data"),
        Input("clock", "n_intervals"),
        Input("adapt-run", "value"),
        State("adapt-seen", "data"),
    )(follow)


def _drawn(made: Figure | None) -> tuple[Any, Any]:
    """A figure of the report's and, as its caption, its legend and words."""
    if made is None:
        return EMPTY, ""
    marks = [
        html.Span([html.Span(className=f"mark {mark}", style={"--mark": f"var(--{color})"}), text], className="key")
        for mark, color, text in made.legend
    ]
    return figure(made.data, made.layout, height=360), [html.Span(marks, className="legend"), made.caption]


def _head(service: Service, name: str, run: RunData) -> Component:
    wanted = run.settings.get("arguments", {})
    most = wanted.get("max_iterations") if isinstance(wanted, dict) else None
    under_way = not run.end and not run.result
    step = f"step {len(run.decisions)}" + (f" of at most {most}" if most else "")
    open_now = len(run.proposals) - sum(1 for line in run.proposals if line.get("iteration", 0) <= len(run.decisions))
    state = f"{step} decided, {open_now} proposals of the next one finished" if under_way else (ending(run) or "finished")
    budgets = _budgets(run)
    links = [
        file_link(name, file, file) for file in ("result.json", "history.jsonl", "run.json") if (run.path / file).is_file()
    ]
    networks = _networks(run)
    return html.Div(
        [
            html.P(
                [
                    html.Strong(name),
                    " ",
                    html.Span("under way" if under_way else "ended", className=f"badge {'live' if under_way else ''}"),
                    " ",
                    service.unplaced(subtitle(run)),
                ]
            ),
            html.P(state),
            *([budgets] if budgets is not None else []),
            html.Div(links, className="files"),
            warnings_of(run.missing, "Not there yet") if under_way else html.Div(),
            *([section("Networks", networks)] if networks is not None else []),
        ],
        className="section",
    )


def _budgets(run: RunData) -> Component | None:
    """Each budget as the loop judged it, and as the final timing does."""
    rows = budget_rows(run)
    if not rows:
        return None

    def judged(one: Judged) -> Any:
        return [one.text, html.Small(one.note, className=f"verdict {one.verdict}")] if one.note else one.text

    body = [(row.budget, judged(row.loop), judged(row.final)) for row in rows]
    return page_table(("Budget", "in the loop", "in the final timing"), body)


def _networks(run: RunData) -> Component | None:
    rows = headline_rows(run)
    if not rows or not run.result:
        return None
    names = [name for name in ("initial", "uniform", "adapted") if run.network(name)]
    body = [
        (
            [row.label, " ", html.Span(row.kind, className=f"badge {row.kind}")] if row.kind else row.label,
            *([cell.text, html.Small(cell.note)] if cell.note else cell.text for cell in row.cells),
        )
        for row in rows
    ]
    return page_table(("", *names), body)


def _rows(run: RunData, resource: str) -> Component:
    rows = decision_rows(run, resource)
    if not rows:
        return html.Div()
    columns = (
        "Step",
        "Group cut",
        "Width",
        "Target",
        "Estimate",
        "Measured",
        "Measured / estimate",
        "Accuracy, holdout",
        "Proposals",
    )
    return section("Decisions", page_table(columns, rows, numbers_from=2))
