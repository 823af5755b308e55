"""The tab in which searches are set up: space, tables, knobs with what they weigh, data; and the list of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from netadapt_trt.errors import NetadaptError
from netadapt_trt.webui import watch_search
from netadapt_trt.webui.jobs import OPEN, event_of
from netadapt_trt.webui.orders import devices
from netadapt_trt.webui.parts import (
    attributes,
    choice,
    digits,
    error_box,
    field,
    number_input,
    page_table,
    section,
    tile,
    warnings_of,
)
from netadapt_trt.webui.uploads import SPACE_LIMIT_BYTES

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.webui.jobs import Job
    from netadapt_trt.webui.service import Service

__all__ = ["connect", "layout"]

_KNOBS = ("alpha", "beta", "gamma", "delta")
_TRAINING = ("epochs", "warmup_epochs", "batch_size", "seed")
_STATES = {"done": "good", "failed": "bad", "interrupted": "bad", "running": "live", "stopping": "live"}
_SHOWN_JOBS = 12


def layout(service: Service, upload_limit: int) -> list[Component]:
    """The whole tab."""
    return [
        html.H1("Search for a network's blocks"),
        html.Div([_form(service, upload_limit), _outlook()], className="columns"),
        section("Jobs", html.Div(id="jobs"), dcc.Store(id="jobs-seen"), html.Div(id="jobs-message", role="status")),
        watch_search.layout(),
    ]


def _form(service: Service, upload_limit: int) -> Component:
    tables = [item.name for item in service.workspace.items("table")]
    return html.Section(
        [
            html.H2("Set up"),
            html.Div(
                [
                    field("Space", choice("space", service.spaces(), "fbnet-cifar")),
                    html.Button(
                        "Upload a space",
                        type="button",
                        id="upload-space",
                        **attributes(data_upload="spaces", data_limit=str(min(upload_limit, SPACE_LIMIT_BYTES))),
                    ),
                ],
                className="with-button",
            ),
            html.Div(
                [
                    field(
                        "Table of costs",
                        choice("table", tables, None, placeholder="Choose or upload"),
                    ),
                    html.Button(
                        "Upload a table",
                        type="button",
                        id="upload-table",
                        **attributes(data_upload="tables", data_limit=str(upload_limit)),
                    ),
                ],
                className="with-button",
            ),
            field(
                "Energy in another file",
                choice("energy-table", tables, None, clearable=True, placeholder="None"),
                "Where latency and energy are two files, as HANNA's: the first has seconds, this one joules.",
            ),
            html.Div(id="upload-message", role="status", className="upload-message"),
            _loss(),
            _training(service),
            html.Div(
                [
                    html.Button("Start the search", id="start", type="button", className="primary"),
                    html.Div(id="start-message"),
                ],
                className="start",
            ),
        ],
        className="form section",
    )


def _loss() -> Component:
    """Both ways to say what latency and energy are worth."""
    modes = [{"label": "Knobs", "value": "knobs"}, {"label": "Target", "value": "target"}]
    return html.Fieldset(
        [
            html.Legend("Loss: CE + alpha * LAT^beta + gamma * ENER^delta"),
            dcc.RadioItems(
                id="mode", options=modes, value="knobs", inline=True, persistence=True, persistence_type="session"
            ),
            html.Div(
                [
                    field("alpha", number_input("alpha", 0.2)),
                    field("beta", number_input("beta", 0.6)),
                    field("gamma", number_input("gamma", 0.0)),
                    field("delta", number_input("delta", 0.6)),
                ],
                className="row",
                id="knob-fields",
            ),
            html.Div(
                [
                    field("Latency target, ms", number_input("latency_target_ms", None, placeholder="4")),
                    field("Energy target, mJ", number_input("energy_target_mj", None, placeholder="none")),
                ],
                className="row",
                id="target-fields",
            ),
        ]
    )


def _training(service: Service) -> Component:
    return html.Fieldset(
        [
            html.Legend("Training"),
            html.Div(
                [
                    field("Data", choice("data", service.workspace.data_specs(), "digits")),
                    field("Paths", choice("paths", ["all", "sampled"], "all")),
                    field("Device", choice("device", devices(), "cpu")),
                ],
                className="row",
            ),
            html.Div(
                [
                    field("Epochs", number_input("epochs", 90, step=1)),
                    field("Warm-up", number_input("warmup_epochs", 10, step=1)),
                    field("Batch size", number_input("batch_size", 256, step=1)),
                    field("Seed", number_input("seed", 0, step=1)),
                ],
                className="row",
            ),
            field(
                "Name of the run",
                dcc.Input(id="name", type="text", maxLength=64, placeholder="search-001, or the next number"),
            ),
        ]
    )


def _outlook() -> Component:
    return html.Section(
        [html.H2("Before the start"), html.Div(id="outlook", **attributes(aria_live="polite"))], className="section outlook"
    )


def connect(app: Dash, service: Service) -> None:
    """What happens when something is chosen, typed or clicked."""
    knobs = [Input(name, "value") for name in (*_KNOBS, "latency_target_ms", "energy_target_mj")]

    def weigh(space: str | None, table: str | None, energy: str | None, mode: str, *values: float | None) -> Any:
        try:
            return _weighed(service.knobs(_loss_of(space, table, energy, mode, values)), mode)
        except NetadaptError as error:
            return error_box(service.told(error)) if table else html.P("Choose a table, or upload one.", className="hint")

    inputs = [Input("space", "value"), Input("table", "value"), Input("energy-table", "value"), Input("mode", "value")]
    app.callback(Output("outlook", "children"), *inputs, *knobs)(weigh)

    def shown(mode: str) -> tuple[bool, bool, str]:
        return mode == "target", mode == "target", "row" if mode == "target" else "row hidden"

    app.callback(
        Output("alpha", "disabled"),
        Output("gamma", "disabled"),
        Output("target-fields", "className"),
        Input("mode", "value"),
    )(shown)

    def start(clicks: int | None, *values: Any) -> tuple[Any, Any]:
        if not clicks:  # Dash calls this when the tab appears, too: nobody has asked for anything then
            return no_update, no_update
        space, table, energy, mode, *rest = values
        amounts, (data, paths, device, name, *training) = rest[:6], rest[6:]
        request = {
            "kind": "search",
            **_loss_of(space, table, energy, mode, amounts),
            "data": data,
            "paths": paths,
            "device": device,
            "name": name or None,
            **dict(zip(_TRAINING, training, strict=True)),
        }
        try:
            job = service.order(request)[0]
        except NetadaptError as error:
            return error_box(service.told(error)), no_update
        return html.Span(event_of(job), role="status"), f"?run={quote(job.run)}"

    states = [State(item.component_id, "value") for item in (*inputs, *knobs)]
    states += [State(name, "value") for name in ("data", "paths", "device", "name", *_TRAINING)]
    app.callback(
        Output("start-message", "children"),
        Output("url", "search"),
        Input("start", "n_clicks"),
        *states,
        prevent_initial_call=True,
    )(start)
    _connect_uploads(app, service)
    _connect_jobs(app, service)
    watch_search.connect(app, service)


def _loss_of(space: Any, table: Any, energy: Any, mode: str, values: Any) -> dict[str, Any]:
    """The request's part about costs; with targets alpha and gamma are the search's to set."""
    amounts = dict(zip((*_KNOBS, "latency_target_ms", "energy_target_mj"), values, strict=True))
    if mode == "target":
        amounts["alpha"] = None
        amounts["gamma"] = None
    else:
        amounts["latency_target_ms"] = amounts["energy_target_mj"] = None
    tables = [name for name in (table, energy) if name]
    return {"space": space, "tables": tables, **amounts}


def _weighed(found: dict[str, Any], mode: str) -> Component:
    def ratio(value: float | None) -> str:
        return digits(value, places=3)

    tiles = [
        tile("vLAT", digits(found["vlat"]), f"LAT {digits(found['lat_s'], 's')}"),
        tile("vENER", digits(found["vener"]), f"ENER {digits(found['ener_j'], 'J')}"),
        tile("Energy dominance", ratio(found["energy_dominance"]), "vENER / vLAT"),
        tile("Latency dominance", ratio(found["latency_dominance"]), "vLAT / vENER"),
    ]
    note = (
        "Every block is equally likely at the start. A cross-entropy of ten classes begins near 2.3: compare vLAT and vENER "
        "with it."
    )
    if mode == "target":
        note = (
            f"With a target the search sets alpha itself; it begins with {digits(found['knobs']['alpha'])}"
            + (f" and gamma with {digits(found['knobs']['gamma'])}" if found["knobs"]["gamma"] else "")
            + "."
        )
    return html.Div(
        [
            html.Dl(tiles, className="tiles"),
            html.P(note, className="hint"),
            warnings_of(found["notices"], "What to know about this table"),
        ]
    )


def _connect_uploads(app: Dash, service: Service) -> None:
    def listed(uploaded: dict[str, str] | None, table: str | None, energy: str | None) -> tuple[Any, ...]:
        tables, spaces = [item.name for item in service.workspace.items("table")], service.spaces()
        chosen: Any = no_update
        second: Any = no_update
        space: Any = no_update
        kept = uploaded if ctx.triggered_id == "uploaded" and uploaded else {}  # not what was uploaded on another tab before
        name = kept.get("name")
        if kept.get("kind") == "spaces":
            space = name
        elif name is not None and name.endswith(".txt") and table and not energy:
            second = name  # latency and energy come one after the other
        elif name is not None:
            chosen = name
        return tables, tables, spaces, chosen, second, space

    app.callback(
        Output("table", "options"),
        Output("energy-table", "options"),
        Output("space", "options"),
        Output("table", "value"),
        Output("energy-table", "value"),
        Output("space", "value"),
        Input("uploaded", "data"),
        State("table", "value"),
        State("energy-table", "value"),
        prevent_initial_call=True,
    )(listed)


def _connect_jobs(app: Dash, service: Service) -> None:
    def listed(_: int, _address: str, seen: str | None) -> tuple[Any, Any]:
        jobs = service.queue.jobs()[:_SHOWN_JOBS]
        signature = repr([(job.id, job.state, job.message) for job in jobs])
        return (no_update, no_update) if signature == seen else (_job_table(jobs, service.queue.damaged), signature)

    app.callback(
        Output("jobs", "children"),
        Output("jobs-seen", "data"),
        Input("clock", "n_intervals"),
        Input("url", "search"),
        State("jobs-seen", "data"),
    )(listed)

    def act(_: list[int | None]) -> Any:
        asked = ctx.triggered_id
        if not asked or not ctx.triggered[0]["value"]:  # a button that has just appeared
            return no_update
        try:
            queue = service.queue
            job = queue.stop(asked["job"]) if asked["do"] == "stop" else queue.resume(asked["job"])
        except NetadaptError as error:
            return error_box(service.told(error))
        return event_of(job)

    app.callback(Output("jobs-message", "children"), Input({"do": ALL, "job": ALL}, "n_clicks"), prevent_initial_call=True)(
        act
    )


def _job_table(jobs: list[Job], damaged: tuple[str, ...]) -> Component:
    told = warnings_of(damaged, "Job files that cannot be read are left alone")
    if not jobs:
        return html.Div([html.P("No job yet. One runs at a time on each device, the others wait.", className="hint"), told])
    return html.Div(
        [page_table(("Job", "What", "State", "Device", ""), [_job_row(job) for job in jobs], numbers_from=9), told]
    )


def _job_row(job: Job) -> list[Any]:
    name = html.A(job.title, href=f"/search?run={quote(job.run)}") if job.run else job.title
    state = html.Span(job.state, className=f"badge {_STATES.get(job.state, '')}")
    what = [name, *([html.Small(job.message)] if job.message else [])]
    buttons: list[Component] = []
    if job.state in ("queued", "running"):
        label = "Stop" if job.state == "running" else "Take out"
        buttons.append(_button(label, "stop", job))
    elif job.state not in OPEN and job.state != "done":
        buttons.append(_button("Resume", "resume", job))
    buttons.append(
        html.A("Log", href=f"/api/jobs/{job.id}/log", target="_blank", **attributes(aria_label=f"Log of job {job.id}"))
    )
    return [str(job.id), what, state, job.device, html.Div(buttons, className="buttons")]


def _button(label: str, do: str, job: Job) -> Component:
    return html.Button(label, id={"do": do, "job": job.id}, type="button", **attributes(aria_label=f"{label} job {job.id}"))
