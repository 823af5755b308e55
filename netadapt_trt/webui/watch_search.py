"""One search as it goes: epochs, accuracy, expected latency and energy, theta; its children, and what can be taken away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from netadapt_trt.backend import backend_names
from netadapt_trt.errors import NetadaptError
from netadapt_trt.files import finite
from netadapt_trt.webui.figures import history_figure, theta_figure
from netadapt_trt.webui.jobs import OPEN, event_of
from netadapt_trt.webui.orders import devices
from netadapt_trt.webui.parts import (
    DASH,
    EMPTY,
    attributes,
    choice,
    digits,
    error_box,
    field,
    file_link,
    graph,
    number_input,
    page_table,
    size_graphs,
    tile,
    warnings_of,
)
from netadapt_trt.webui.runs import remaining_s
from netadapt_trt.webui.searches import read_search_view

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.webui.jobs import Job
    from netadapt_trt.webui.searches import Child, SearchView
    from netadapt_trt.webui.service import Service

__all__ = ["clock", "connect", "layout", "run_in"]


def run_in(search: str | None) -> str | None:
    """The run that an address names (``?run=...``)."""
    return next(iter(parse_qs((search or "").lstrip("?")).get("run", [])), None)


_TABLES = "the table's"


def layout() -> Component:
    """Hidden until a search is chosen."""
    return html.Section(
        [
            html.Div(
                [
                    html.H2("Watch"),
                    field("Search", choice("watched", [], None, persistence=False, placeholder="None")),
                ],
                className="heading",
            ),
            dcc.Store(id="watch-seen"),
            html.Div(id="watch-status"),
            html.Div(
                [
                    html.Button("Stop", id="watch-stop", type="button", disabled=True),
                    html.Button("Resume", id="watch-resume", type="button", disabled=True),
                    html.Div(id="watch-files", className="files"),
                ],
                className="buttons",
            ),
            html.Div(id="watch-message", role="status"),
            html.Div(
                [
                    html.Div(
                        [
                            graph(
                                "history-graph",
                                "After each epoch: accuracy on the images that weights learn on (grey) and on those that "
                                "theta learns on (blue); expected latency and energy under theta. Shaded: warm-up.",
                                described="Accuracy, expected latency and expected energy after each epoch.",
                            ),
                            graph(
                                "theta-graph",
                                "How probable each block is in each layer (softmax of theta). Blank: not offered there.",
                                described="Heat map of the probability of each block in each layer.",
                            ),
                        ],
                        className="pair",
                        id="watch-graphs",
                    ),
                    html.Div(
                        [
                            html.H3("Children"),
                            html.Div(
                                [
                                    field("Epochs of training", number_input("child-epochs", 120, step=1)),
                                    field("Drawn ones besides", number_input("child-sample", 0, step=1)),
                                    field("Device", choice("child-device", devices(), "cpu")),
                                    field(
                                        "Export for runtime",
                                        choice("child-backend", backend_names(), None, clearable=True, placeholder=_TABLES),
                                    ),
                                    html.Button("Train and export", id="child-start", type="button"),
                                ],
                                className="row bottom",
                            ),
                            html.Div(id="child-message", role="status"),
                            html.Div(id="watch-children"),
                        ],
                        id="watch-child-box",
                    ),
                ],
                id="watch-body",
                className="hidden",
            ),
        ],
        className="section",
        id="watch",
    )


def connect(app: Dash, service: Service) -> None:
    """Follow the search that the address names."""
    size_graphs(app, "history-graph", "theta-graph")

    def follow(_: int, search: str, seen: str | None) -> tuple[Any, ...]:
        run = run_in(search)
        names = [item.name for item in service.workspace.items("search")]
        job = _job_of(service, run)
        if run is None or run not in names:
            waiting = "" if job is None else f"Job {job.id} is {job.state}; its run has not begun. {job.message}"
            signature = repr((run, waiting, names))
            if signature == seen:
                return (no_update,) * 10
            said = waiting if run else "Choose a search to follow it here."
            hidden = "hidden"
            can_stop = job is not None and job.state in ("queued", "running")
            can_resume = job is not None and job.state not in OPEN and job.state != "done"
            return said, EMPTY, EMPTY, "", "", signature, not can_stop, not can_resume, hidden, names
        try:
            view = read_search_view(service.workspace.find(run, "search").path)
        except NetadaptError as error:
            return error_box(service.told(error)), EMPTY, EMPTY, "", "", None, True, True, "hidden", names
        signature = repr((run, len(view.history), view.theta_epoch, view.finished, view.children, job and job.state, names))
        if signature == seen:
            return (no_update,) * 10
        theta = EMPTY if view.theta is None else theta_figure(view.space, view.theta)
        running = job is not None and job.state in OPEN
        return (
            _status(run, view, job, service),
            history_figure(view) if view.history else EMPTY,
            theta,
            _files(run, view),
            _children(run, view),
            signature,
            not (job is not None and job.state in ("queued", "running")),
            running or view.finished,
            "",
            names,
        )

    app.callback(
        Output("watch-status", "children"),
        Output("history-graph", "figure"),
        Output("theta-graph", "figure"),
        Output("watch-files", "children"),
        Output("watch-children", "children"),
        Output("watch-seen", "data"),
        Output("watch-stop", "disabled"),
        Output("watch-resume", "disabled"),
        Output("watch-body", "className"),
        Output("watched", "options"),
        Input("clock", "n_intervals"),
        Input("url", "search"),
        State("watch-seen", "data"),
    )(follow)
    _connect_actions(app, service)


def _connect_actions(app: Dash, service: Service) -> None:
    def act(stop: int | None, resume: int | None, search: str) -> Any:
        if not stop and not resume:  # Dash calls this when the tab appears, too
            return no_update
        run, asked = run_in(search), ctx.triggered_id
        job = _job_of(service, run)
        try:
            if asked == "watch-stop" and job is not None:
                changed = service.queue.stop(job.id)
            elif asked == "watch-resume" and run is not None:
                changed = service.resume_run(run)[0]
            else:
                return no_update
        except NetadaptError as error:
            return error_box(service.told(error))
        return event_of(changed)

    app.callback(
        Output("watch-message", "children"),
        Input("watch-stop", "n_clicks"),
        Input("watch-resume", "n_clicks"),
        State("url", "search"),
        prevent_initial_call=True,
    )(act)

    def train(clicks: int | None, search: str, *values: Any) -> Any:
        if not clicks:
            return no_update
        epochs, sample, device, backend = values
        request = {"kind": "child", "run": run_in(search), "epochs": epochs, "sample": sample or None, "export": True}
        return _ordered(service, {**request, "device": device, "backend": backend})

    app.callback(
        Output("child-message", "children"),
        Input("child-start", "n_clicks"),
        State("url", "search"),
        *(State(f"child-{name}", "value") for name in ("epochs", "sample", "device", "backend")),
        prevent_initial_call=True,
    )(train)

    def go_on(_: list[int | None], search: str, backend: str | None) -> Any:
        asked = ctx.triggered_id
        if not asked or not ctx.triggered[0]["value"]:
            return no_update
        request = {"kind": asked["order"], "run": run_in(search), "child": asked["child"]}
        return _ordered(service, request | ({"backend": backend} if asked["order"] == "export" else {}))

    app.callback(
        Output("child-message", "children", allow_duplicate=True),
        Input({"order": ALL, "child": ALL}, "n_clicks"),
        State("url", "search"),
        State("child-backend", "value"),
        prevent_initial_call=True,
    )(go_on)

    def choose(run: str | None, search: str) -> Any:
        # Nothing is what the choice holds when the tab appears: the address knows better.
        return no_update if run is None or run == run_in(search) else f"?run={quote(run)}"

    # Two callbacks, though the address and the choice follow each other: one with the address among its inputs would be
    # called on every tab, where there is no choice.
    app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("watched", "value"),
        State("url", "search"),
        prevent_initial_call=True,
    )(choose)
    # Again when the listing comes: a choice that is not in it yet is dropped by the browser.
    listed = Input("watched", "options")
    app.callback(Output("watched", "value"), Input("url", "search"), listed)(lambda search, _: run_in(search))


def _ordered(service: Service, request: dict[str, Any]) -> Any:
    try:
        jobs = service.order(request)
    except NetadaptError as error:
        return error_box(service.told(error))
    return " ".join(event_of(job) for job in jobs)


def _job_of(service: Service, run: str | None) -> Job | None:
    """The latest job that searches in ``run``."""
    return next((job for job in service.queue.jobs() if job.run == run and job.kind == "search"), None)


def _status(run: str, view: SearchView, job: Job | None, service: Service) -> Component:
    last = view.history[-1] if view.history else {}
    done, left = len(view.history), remaining_s(view)
    if view.finished:
        state = "finished"
    elif job is not None and job.state in OPEN:
        state = job.state
    else:
        state = "not running" if job is None else job.state
    phase = str(last.get("phase", "")) if not view.finished else ""
    note = ", ".join(
        part for part in (phase, f"about {clock(left)} left" if left is not None and state == "running" else "") if part
    )
    held = finite(last.get("val_accuracy"))
    tiles = [
        tile("Epoch", f"{done} of {view.epochs}", note),
        tile("Accuracy", digits(None if held is None else 100 * held, "%"), "on theta's images"),
        tile("LAT", digits(last.get("lat_s"), "s"), f"began at {digits(view.start.get('lat_s'), 's')}"),
        tile("ENER", digits(last.get("ener_j"), "J"), f"began at {digits(view.start.get('ener_j'), 'J')}"),
        tile(
            "Entropy of theta",
            digits(last.get("entropy"), "nat", 3),
            f"temperature {digits(last.get('temperature'), places=3)}",
        ),
    ]
    message = [html.Small(job.message)] if job is not None and job.message else []
    child = view.result.get("child")
    found = []
    if isinstance(child, dict):
        energy = child.get("energy_mj")
        told = f"{digits(child.get('latency_ms'), 'ms')}" + (f", {digits(energy, 'mJ')}" if energy is not None else "")
        found = [html.P(["Most probable child: ", html.Code(" ".join(_texts(child.get("blocks")))), f" (estimate {told})"])]
    return html.Div(
        [
            html.P(
                [
                    html.Strong(run),
                    " ",
                    html.Span(state, className=f"badge {'live' if state == 'running' else ''}"),
                    *message,
                ]
            ),
            html.Progress(value=str(done), max=str(max(view.epochs, 1)), **attributes(aria_label="epochs done")),
            html.Dl(tiles, className="tiles"),
            *found,
            warnings_of([service.unplaced(text) for text in view.notices], "What is doubtful about its table"),
        ]
    )


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []


def clock(seconds: float) -> str:
    """Hours, minutes and seconds; a dash for no finite number."""
    if not math.isfinite(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _files(run: str, view: SearchView) -> list[Component]:
    files = [("theta.json", view.theta is not None), ("result.json", view.finished), ("history.jsonl", bool(view.history))]
    return [file_link(run, file, file) for file, there in files if there]


def _children(run: str, view: SearchView) -> Component:
    if not view.children:
        wait = "" if view.theta is not None else " Wait for the first epoch."
        return html.P(f"None trained yet.{wait}", className="hint")
    columns = ("Child", "Test accuracy", "Estimate", "Measured", "Energy, estimate", "Measured", "")
    rows = [
        (
            [html.Strong(child.name), html.Small(" ".join(child.blocks))],
            digits(None if child.accuracy is None else 100 * child.accuracy, "%"),
            digits(child.latency_ms, "ms"),
            _measured(child),
            digits(child.energy_mj, "mJ"),
            digits(child.measured_mj, "mJ"),
            _child_actions(run, child),
        )
        for child in view.children
    ]
    return page_table(columns, rows)


def _measured(child: Child) -> Any:
    """What bench found, and where: a child of a table of one device may be timed on another."""
    told = digits(child.measured_ms, "ms")
    return [told, html.Small(child.measured_where)] if child.measured_where else told


def _child_actions(run: str, child: Child) -> Component:
    if child.onnx is not None:
        return html.Div(
            [
                file_link(run, f"children/{child.name}/deploy/model.onnx", "ONNX"),
                html.Button("Bench here", id={"order": "bench", "child": child.name}, type="button"),
            ],
            className="buttons",
        )
    if child.trained:
        return html.Button("Export", id={"order": "export", "child": child.name}, type="button")
    return html.Small("being trained, or not yet")
