"""The page as a whole: its tabs and their addresses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, dcc, html
from flask import Flask

from netadapt_trt.webui import view_adapt, view_compare, view_luts, view_search
from netadapt_trt.webui.api import guard, interface
from netadapt_trt.webui.hosts import is_local, names_of
from netadapt_trt.webui.parts import attributes
from netadapt_trt.webui.uploads import DEFAULT_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection

    from dash.development.base_component import Component

    from netadapt_trt.webui.service import Service

__all__ = ["make_app"]

_TABS = {"/search": "Search", "/luts": "LUTs", "/adapt": "Adapt", "/compare": "Compare"}
_POLL_MS = 1500
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make_app(
    service: Service,
    *,
    host: str = "127.0.0.1",
    allowed_hosts: Collection[str] = (),
    upload_limit: int = DEFAULT_LIMIT_BYTES,
) -> Dash:
    """The application for one workspace. ``host`` is what the server will listen on, ``allowed_hosts`` are further names."""
    server: Any = Flask(__name__)
    opened = not is_local(host)
    guard(server, names=names_of(host, allowed_hosts))
    server.register_blueprint(interface(service, upload_limit=upload_limit))
    app = Dash(
        __name__,
        server=server,
        title="netadapt-trt",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        suppress_callback_exceptions=True,  # a tab's parts are there only while it is shown
        index_string=_INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = lambda: _frame(service, opened)
    layouts = {
        "/search": lambda: view_search.layout(service, upload_limit),
        "/luts": lambda: view_luts.layout(service, upload_limit),
        "/adapt": lambda: view_adapt.layout(service),
        "/compare": lambda: view_compare.layout(service),
    }

    def route(path: str | None) -> tuple[Any, ...]:
        at = path if path in layouts else "/search"
        service.workspace.look()
        left_out = service.workspace.left_out
        return (
            layouts[at](),
            html.Div(left_out, className="notice") if left_out else "",
            *("current" if tab == at else "" for tab in _TABS),
        )

    navigation = [Output(_nav_id(path), "className") for path in _TABS]
    app.callback(Output("content", "children"), Output("left-out", "children"), *navigation, Input("url", "pathname"))(route)
    for view in (view_search, view_luts, view_adapt, view_compare):
        view.connect(app, service)
    return app


def _nav_id(path: str) -> str:
    return f"nav-{path.strip('/')}"


def _frame(service: Service, opened: bool) -> Component:
    links = [dcc.Link(text, href=path, id=_nav_id(path)) for path, text in _TABS.items()]
    warning = html.Div(
        "This page is open to the network and asks for no password: whoever reaches it can start and stop jobs and read the "
        "workspace. Start it without --host to keep it to this machine.",
        className="notice bad open-to-all",
        role="alert",
    )
    return html.Div(
        [
            html.A("Skip to the content", href="#content", className="skip"),
            html.Header(
                [
                    html.Span("netadapt-trt", className="brand"),
                    html.Nav(links, **attributes(aria_label="Tabs")),
                    html.Span(str(service.workspace.root), className="place", title="The workspace"),
                ]
            ),
            *([warning] if opened else []),
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="uploaded"),
            dcc.Interval(id="clock", interval=_POLL_MS),
            html.Div(id="left-out", role="status"),
            html.Main(id="content", tabIndex="-1"),
        ]
    )
