"""The tab in which searches are set up: space, tables, knobs with what they weigh, data; and the list of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.webui import watch_search
from netadapt_trt.webui.jobs import OPEN, event_of
from netadapt_trt.webui.orders import SET_BY
from netadapt_trt.webui.parts import attributes, digits, error_box, page_table, section, tile, warnings_of
from netadapt_trt.webui.search_form import KNOBS, TARGETS, TRAINING, form, outlook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dash.development.base_component import Component

    from netadapt_trt.webui.jobs import Job
    from netadapt_trt.webui.service import Service

__all__ = ["connect", "layout"]

_STATES = {"done": "good", "failed": "bad", "interrupted": "bad", "running": "live", "stopping": "live"}
_SHOWN_JOBS = 12


def layout(service: Service, upload_limit: int) -> list[Component]:
    """The whole tab."""
    return [
        html.H1("Search for a network's blocks"),
        html.Div([form(service, upload_limit), outlook()], className="columns"),
        section("Jobs", html.Div(id="jobs"), dcc.Store(id="jobs-seen"), html.Div(id="jobs-message", role="status")),
        watch_search.layout(),
    ]


def connect(app: Dash, service: Service) -> None:
    """What happens when something is chosen, typed or clicked."""
    knobs = [Input(name, "value") for name in (*KNOBS, *TARGETS)]

    def weigh(space: str | None, table: str | None, energy: str | None, mode: str, *values: float | None) -> Any:
        try:
            request = _loss_of(space, table, energy, mode, values)
            return _weighed(service.knobs(request), [name for name in TARGETS if request[name] is not None])
        except NetadaptError as error:
            return error_box(service.told(error)) if table else html.P("Choose a table, or upload one.", className="hint")

    inputs = [Input("space", "value"), Input("table", "value"), Input("energy-table", "value"), Input("mode", "value")]
    app.callback(Output("outlook", "children"), *inputs, *knobs)(weigh)

    def shown(mode: str, *targets: float | None) -> tuple[bool, bool, str]:
        latency, energy = (mode == "target" and _given(target) is not None for target in targets)
        return latency, energy, "row" if mode == "target" else "row hidden"

    app.callback(
        Output("alpha", "disabled"),
        Output("gamma", "disabled"),
        Output("target-fields", "className"),
        Input("mode", "value"),
        *(Input(name, "value") for name in TARGETS),
    )(shown)

    def start(clicks: int | None, *values: Any) -> tuple[Any, Any]:
        if not clicks:  # Dash calls this when the tab appears, too: nobody has asked for anything then
            return no_update, no_update
        space, table, energy, mode, *rest = values
        amounts, (data, paths, device, name, *training) = rest[:6], rest[6:]
        try:
            request = {
                "kind": "search",
                **_loss_of(space, table, energy, mode, amounts),
                "data": data,
                "paths": paths,
                "device": device,
                "name": name or None,
                **{key: _given(value) for key, value in zip(TRAINING, training, strict=True)},
            }
            job = service.order(request)[0]
        except NetadaptError as error:
            return error_box(service.told(error)), no_update
        return html.Span(event_of(job), role="status"), f"?run={quote(job.run)}"

    states = [State(item.component_id, "value") for item in (*inputs, *knobs)]
    states += [State(name, "value") for name in ("data", "paths", "device", "name", *TRAINING)]
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


def _given(value: Any) -> Any:
    """What a field for a number holds; None for nothing."""
    return None if value == "" else value


def _loss_of(space: Any, table: Any, energy: Any, mode: str, values: Any) -> dict[str, Any]:
    """The request's part about costs; a knob whose target is given is the search's to set. Raises SpecError."""
    amounts = {name: _given(value) for name, value in zip((*KNOBS, *TARGETS), values, strict=True)}
    if mode != "target":
        amounts |= dict.fromkeys(TARGETS)
    elif all(amounts[name] is None for name in TARGETS):
        raise SpecError("there is no target yet; give a target of latency (ms), of energy (mJ) or both, or choose Knobs")
    for target, knob in SET_BY.items():
        if amounts[target] is not None:
            amounts[knob] = None
    tables = [name for name in (table, energy) if name]
    return {"space": space, "tables": tables, **amounts}


def _weighed(found: dict[str, Any], targets: Sequence[str]) -> Component:
    """What the terms weigh; ``targets`` are the ones that were given."""

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
    if targets:
        note = _set_by_search(found["knobs"], targets)
    return html.Div(
        [
            html.Dl(tiles, className="tiles"),
            html.P(note, className="hint"),
            warnings_of(found["notices"], "What to know about this table"),
        ]
    )


def _set_by_search(knobs: Mapping[str, float], targets: Sequence[str]) -> str:
    """Which knobs the search sets itself, and which one stays as it was typed."""
    words = {"latency_target_ms": "latency", "energy_target_mj": "energy"}
    led = [SET_BY[name] for name in targets]
    told = f"With a target of {' and '.join(words[name] for name in targets)} the search sets {' and '.join(led)} itself; "
    told += f"it begins with {' and '.join(f'{knob} {digits(knobs[knob])}' for knob in led)}."
    kept = [knob for knob in SET_BY.values() if knob not in led]
    return told + "".join(f" {knob} stays {digits(knobs[knob])}." for knob in kept)


def _connect_uploads(app: Dash, service: Service) -> None:
    def listed(uploaded: dict[str, str] | None, table: str | None, energy: str | None) -> tuple[Any, ...]:
        tables, spaces = [item.name for item in service.workspace.items("table")], service.spaces()
        kept = uploaded if ctx.triggered_id == "uploaded" and uploaded else {}  # not what was uploaded on another tab before
        name, place = kept.get("name"), _place_of(kept, table, energy)
        chosen, second, space = (name if name and place == box else no_update for box in ("table", "energy-table", "space"))
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


def _place_of(uploaded: Mapping[str, str], table: str | None, energy: str | None) -> str:
    """The choice that an upload belongs to: latency and energy in two text files come one after the other."""
    name = uploaded.get("name")
    if uploaded.get("kind") == "spaces":
        return "space"
    text_after_text = name is not None and name.endswith(".txt") and (table or "").endswith(".txt") and name != table
    return "energy-table" if text_after_text and not energy else "table"


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
