"""The form of a search: space, tables, the loss, training; a field for each setting that the HTTP interface takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dash import dcc, html

from netadapt_trt.webui.orders import devices
from netadapt_trt.webui.parts import attributes, choice, field, number_input
from netadapt_trt.webui.uploads import SPACE_LIMIT_BYTES

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from netadapt_trt.webui.service import Service

__all__ = ["KNOBS", "TARGETS", "TRAINING", "form", "outlook"]

KNOBS = ("alpha", "beta", "gamma", "delta")
TARGETS = ("latency_target_ms", "energy_target_mj")
TRAINING = ("epochs", "warmup_epochs", "batch_size", "seed", "learning_rate", "theta_learning_rate", "threads")
"""The fields' ids, which are the keys of a request."""


def form(service: Service, upload_limit: int) -> Component:
    """Everything that is chosen or typed, and the button that starts the search."""
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
            html.Details(
                [
                    html.Summary("Advanced", id="advanced"),
                    html.Div(
                        [
                            field("Learning rate", number_input("learning_rate", 0.1)),
                            field("Learning rate of theta", number_input("theta_learning_rate", 0.01)),
                            field("Threads", number_input("threads", None, step=1, placeholder="all")),
                        ],
                        className="row",
                    ),
                ],
            ),
            field(
                "Name of the run",
                dcc.Input(id="name", type="text", maxLength=64, placeholder="search-001, or the next number"),
            ),
        ]
    )


def outlook() -> Component:
    """What the costs weigh, beside the form."""
    return html.Section(
        [html.H2("Before the start"), html.Div(id="outlook", **attributes(aria_live="polite"))], className="section outlook"
    )
