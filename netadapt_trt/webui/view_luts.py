"""The tab in which tables are browsed: what a LUT holds, and each layer as a map, a curve and rails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, ctx, dcc, html, no_update

from netadapt_trt.errors import NetadaptError
from netadapt_trt.lut.blocks import is_block_key
from netadapt_trt.lut.schema import IN_NETWORK, ISOLATED
from netadapt_trt.webui.lut_figures import costs_figure, curve_figure, heat_figure, layer_of, rails_figure
from netadapt_trt.webui.parts import (
    EMPTY,
    attributes,
    choice,
    digits,
    error_box,
    field,
    graph,
    listing,
    page_table,
    section,
    size_graphs,
    warnings_of,
)

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.lut.layer_model import LayerModel
    from netadapt_trt.lut.summary import LutSummary
    from netadapt_trt.webui.lut_figures import Layer
    from netadapt_trt.webui.service import Service

__all__ = ["connect", "layout"]

_SESSIONS = 20
_NETWORKS = 12
_LONGEST = 150


def layout(service: Service, upload_limit: int) -> list[Component]:
    """The whole tab."""
    tables = [item.name for item in service.workspace.items("table")]
    plans = [item.name for item in service.workspace.items("plan")]
    contexts = [{"label": "timed alone", "value": ISOLATED}, {"label": "in networks", "value": IN_NETWORK}]
    shows = [{"label": "value", "value": "value"}, {"label": "how sure", "value": "spread"}]
    upload = attributes(data_upload="tables", data_limit=str(upload_limit))
    return [
        html.H1("Tables of measurements"),
        html.Section(
            [
                html.Div(
                    [
                        field("Table", choice("lut", tables, tables[0] if tables else None, placeholder="Choose or upload")),
                        html.Button("Upload a table", type="button", id="upload-lut", **upload),
                    ],
                    className="with-button",
                ),
                html.Div(id="upload-message", role="status", className="upload-message"),
                html.Div(
                    [
                        field(
                            "Layer",
                            choice("lut-layer", [], None, persistence=False),
                            "By its key: picture sizes, operators, open sizes a, b.",
                        )
                    ],
                    id="lut-layer-field",
                ),
                html.Div(
                    [
                        field(
                            "Space",
                            choice("lut-space", service.spaces(), "fbnet-cifar"),
                            "Whose layers and blocks the rows and columns are.",
                        )
                    ],
                    id="lut-space-field",
                ),
                html.Div(
                    [
                        field("Resource", choice("lut-resource", ["latency"], "latency", persistence=False)),
                        field("Measured", dcc.RadioItems(id="lut-context", options=contexts, value=ISOLATED, inline=True)),
                        field("Show", dcc.RadioItems(id="lut-show", options=shows, value="value", inline=True)),
                        field(
                            "Estimate for a plan",
                            choice("lut-plan", plans, None, clearable=True, placeholder="None"),
                            "Draws what the estimator says, with its standard deviation.",
                        ),
                    ],
                    className="row",
                    id="lut-options",
                ),
            ],
            className="section form",
        ),
        html.Div(id="lut-message", role="status"),
        html.Div(
            [
                graph("lut-heat", "", described="Heat map of the layer over two of its sizes."),
                graph("lut-curve", "", described="The layer over one of its sizes."),
                graph("lut-rails", "", described="Mean power by rail."),
            ],
            className="pair wide",
        ),
        html.Div(id="lut-about"),
    ]


def connect(app: Dash, service: Service) -> None:
    """What happens when a table or a layer is chosen."""
    size_graphs(app, "lut-heat", "lut-curve", "lut-rails")

    def listed(uploaded: dict[str, str] | None) -> tuple[list[str], Any]:
        chosen = uploaded.get("name") if uploaded and ctx.triggered_id == "uploaded" else no_update
        return [item.name for item in service.workspace.items("table")], chosen

    # Not when the tab appears: whatever follows the table would then wait for a choice that does not come.
    app.callback(Output("lut", "options"), Output("lut", "value"), Input("uploaded", "data"), prevent_initial_call=True)(
        listed
    )

    def about(name: str | None) -> tuple[Any, ...]:
        if not name:
            said = html.P("Put a .lut.jsonl file into the workspace, or upload one.", className="hint")
            return [], None, "latency", said, "hidden", "hidden"
        if name.endswith(".txt"):
            said = html.P(
                "A text table of blocks: its numbers are read as seconds of latency, or as joules of energy.",
                className="hint",
            )
            resource = "energy" if "energ" in name.lower() else "latency"
            return [], None, resource, section("About this table", said), "hidden", ""
        try:
            lut = service.lut(name)
        except NetadaptError as error:
            return [], None, "latency", error_box(service.told(error)), "hidden", "hidden"
        from netadapt_trt.lut.summary import summarise

        summary = summarise(lut)
        if any(is_block_key(layer.layer) for layer in summary.layers):
            return [], None, "latency", _about(summary), "hidden", ""
        options = [
            {"label": f"{_short(layer.layer)}  ({layer.cells} alone, {layer.in_network} in networks)", "value": layer.layer}
            for layer in summary.layers
        ]
        fullest = max(summary.layers, key=lambda layer: layer.cells + layer.in_network, default=None)
        return options, None if fullest is None else fullest.layer, "latency", _about(summary), "", "hidden"

    app.callback(
        Output("lut-layer", "options"),
        Output("lut-layer", "value"),
        Output("lut-resource", "value"),
        Output("lut-about", "children"),
        Output("lut-layer-field", "className"),
        Output("lut-space-field", "className"),
        Input("lut", "value"),
    )(about)
    _connect_figures(app, service)


def _connect_figures(app: Dash, service: Service) -> None:
    def drawn(*asked: Any) -> tuple[Any, ...]:
        name, key, space = asked[:3]
        nothing = [EMPTY] * 3 + [""] * 3 + ["hidden"] * 3
        if not name:
            return ("", *nothing, ["latency"], "hidden")
        try:
            if key:
                figures, captions, resources = _layer_figures(service, *asked)
            else:
                figures, captions, resources = _costs(service, name, space, asked[3])
        except NetadaptError as error:
            return (error_box(service.told(error)), *nothing, ["latency"], "hidden" if not key else "row")
        boxes = ["" if made is not None else "hidden" for made in figures]
        return (
            "",
            *(made or EMPTY for made in figures),
            *captions,
            *boxes,
            resources,
            "row" if key else "row only-resource",
        )

    app.callback(
        Output("lut-message", "children"),
        *(Output(f"lut-{kind}", "figure") for kind in ("heat", "curve", "rails")),
        *(Output(f"lut-{kind}-caption", "children") for kind in ("heat", "curve", "rails")),
        *(Output(f"lut-{kind}-box", "className") for kind in ("heat", "curve", "rails")),
        Output("lut-resource", "options"),
        Output("lut-options", "className"),
        Input("lut", "value"),
        Input("lut-layer", "value"),
        Input("lut-space", "value"),
        Input("lut-resource", "value"),
        Input("lut-context", "value"),
        Input("lut-show", "value"),
        Input("lut-plan", "value"),
    )(drawn)


def _layer_figures(
    service: Service, name: str, key: str, _space: str, resource: str, context: str, show: str, plan: str | None
) -> tuple[list[Any], list[str], list[str]]:
    lut = service.lut(name)
    layer = layer_of(lut, key, context)
    if not layer.cells:  # the other kind, rather than nothing
        layer = layer_of(lut, key, IN_NETWORK if context == ISOLATED else ISOLATED)
    resources = _resources(layer)
    resource = resource if resource in resources else "latency"
    spread = show == "spread"
    model = None if not plan else _model(service, name, plan, key)
    figures = [
        heat_figure(layer, resource, spread=spread, model=model),
        curve_figure(layer, resource, model=model),
        rails_figure(layer),
    ]
    seen = bool(layer.cells) and layer.cells[0].context == IN_NETWORK
    where = "seen in whole networks" if seen else "timed alone"
    none = "None was timed alone. " if seen else "None was seen in networks. "
    other = none if layer.cells and layer.cells[0].context != context else ""
    mapped = f"{other}{len(layer.cells)} cells {where}. Blank: not measured. Darker is {'less sure' if spread else 'more'}."
    curve = _curve_said(layer, resource, plan, model, spread)
    return figures, [mapped, curve if figures[0] else other + curve, _RAILS], resources


_RAILS = "Mean power while the layer ran again and again, by rail."


def _curve_said(layer: Layer, resource: str, plan: str | None, model: LayerModel | None, spread: bool) -> str:
    """What is drawn over one size, and why an estimate or a map of how sure is not."""
    said = []
    if layer.cells and layer.cells[0].context == IN_NETWORK:
        said.append("Its share of the time of whole networks, which has no spread of its own.")
        if spread and model is None:
            said.append("Choose a plan to see how sure the estimator is.")
    elif resource == "latency":
        said.append("Median, with p10 to p90 as bars, timed alone.")
    else:
        said.append("Of one run, with the standard error as bars where it is known, timed alone.")
    if model is not None and resource == "latency":
        said.append("Dotted: the estimate in a network, with one standard deviation.")
    elif plan and model is None:
        said.append("The plan says nothing of this layer in networks: no estimate is drawn.")
    return " ".join(said) + _single(layer)


def _single(layer: Layer) -> str:
    if layer.axes or not layer.cells:
        return ""
    cell = layer.cells[0]
    return "" if cell.latency_ms is None else f" One size only: {digits(cell.latency_ms.median, 'ms')}."


def _resources(layer: Layer) -> list[str]:
    found = ["latency"]
    if layer.has_energy:
        found.append("energy")
    return [*found, *(f"energy@{rail}" for rail in layer.rails)]


def _model(service: Service, name: str, plan: str, key: str) -> LayerModel | None:
    found: LayerModel | None = service.estimator(name, plan).in_context.get(key)
    return found


def _costs(service: Service, name: str, space: str, resource: str) -> tuple[list[Any], list[str], list[str]]:
    """A table of blocks as layers by blocks."""
    if name.endswith(".txt"):
        table, resources = service.text_table(space, name, energy=resource == "energy"), ["latency", "energy"]
    else:
        table = service.table(space, [name])
        resources = ["latency", *(["energy"] if table.has_energy else [])]
    drawn = costs_figure(table, resource if resource in resources else "latency")
    said = ["What each block costs in each layer. Blank: not offered there.", *map(service.unplaced, table.notices)]
    # What a LUT's import doubted is told below it.
    return [drawn, None, None], [" ".join(said) if name.endswith(".txt") else said[0], "", ""], resources


def _short(key: str) -> str:
    return key if len(key) <= _LONGEST else f"{key[:_LONGEST]}..."


def _about(summary: LutSummary) -> Component:
    identity = listing([(name, str(value)) for name, value in summary.identity.to_json().items()])
    drift = "not known" if summary.drift is None else f"{100 * (summary.drift - 1):.1f} %"
    counts = listing(
        [
            ("layers", str(len(summary.layers))),
            ("cells timed alone", f"{summary.cells} ({summary.flagged} flagged)"),
            ("cells seen in networks", str(summary.in_network)),
            ("whole networks", str(len(summary.networks))),
            ("reference layer varied by", drift),
        ]
    )
    sessions = [
        (
            session.date,
            session.power_source or "none",
            ", ".join(session.rails) or "none",
            "; ".join(f"{name} {value}" for name, value in session.clocks.items() if value is not None) or "not known",
        )
        for session in summary.sessions[-_SESSIONS:]
    ]
    notices = [
        str(value)
        for session in summary.sessions
        for name, value in session.settings.items()
        if name.startswith("notice_") and value
    ]
    networks = [
        (network.plan[:12], str(network.channels), digits(network.latency_ms, "ms"), digits(network.energy_mj, "mJ"))
        for network in summary.networks[-_NETWORKS:]
    ]
    parts: list[Component] = [html.Div([section("Measured under", identity), section("It holds", counts)], className="pair")]
    parts.append(section("Sessions", page_table(("Date", "Power source", "Rails", "Clocks"), sessions, numbers_from=9)))
    if networks:
        parts.append(section("Whole networks", page_table(("Plan", "Channels", "Latency", "Energy"), networks)))
    return html.Div([warnings_of(list(dict.fromkeys(notices)), "What was doubtful at the import"), *parts])
