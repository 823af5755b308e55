"""The HTTP interface: everything the page does, as JSON, for scripts. Its routes are in docs/ui.md."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, jsonify, request, send_file
from werkzeug.exceptions import HTTPException

from netadapt_trt.errors import LockedError, NetadaptError, SpecError
from netadapt_trt.webui.hosts import is_known
from netadapt_trt.webui.jobs import job_document
from netadapt_trt.webui.orders import Fields
from netadapt_trt.webui.runs import file_of, status_of
from netadapt_trt.webui.uploads import SPACE_LIMIT_BYTES, TooLargeError, receive_space, receive_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.webui.service import Service

__all__ = ["guard", "interface"]

_LARGEST_REQUEST = 1 << 20
_LARGEST_OF_PAGE = 8 << 20
_UPLOADS = ("/api/tables", "/api/spaces")
_log = logging.getLogger(__name__)

_UNFORESEEN = (
    "the request failed for a reason that nobody foresaw; where the page was started it says which: please report it"
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, whatever a library of the page might want: the browser itself refuses. Plotly and Dash write their
styles and their first script into the page, hence "unsafe-inline"."""


def guard(server: Flask, *, names: frozenset[str]) -> None:
    """Refuse requests that other sites make in the user's browser, and send headers that keep the page to itself.

    ``names`` are the host names that this server answers to, besides addresses (see :mod:`~netadapt_trt.webui.hosts`).
    """

    def check() -> Response | None:
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
            origin = request.headers.get("Origin")
            asked_from = None if origin is None else urlsplit(origin).netloc
        except ValueError:
            return _refusal(400, SpecError("the request's Host or Origin is no address"))
        if not is_known(host, names):
            told = f"this server does not answer to the name {host[:100]!r}; use its address, one of the names "
            told += f"{', '.join(sorted(names))}, or start it with --allow-host NAME if that name is yours"
            return _refusal(403, SpecError(told))
        if request.method not in ("GET", "HEAD", "OPTIONS") and asked_from is not None and asked_from != request.host:
            return _refusal(403, SpecError("a page of another site may not order anything here"))
        # Uploads have a limit of their own; what the page itself sends is small.
        if request.path not in _UPLOADS and (request.content_length or 0) > _LARGEST_OF_PAGE:
            return _refusal(413, TooLargeError(f"a request may have {_LARGEST_OF_PAGE:,} bytes"))
        return None

    def seal(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    server.before_request(check)
    server.after_request(seal)


def _refusal(status: int, error: Exception, message: str | None = None) -> Response:
    response = jsonify({"error": type(error).__name__, "message": message or str(error)})
    response.status_code = status
    return response


def _length() -> int | None:
    return request.content_length


def _body() -> Any:
    """The request's JSON. Raises SpecError."""
    if (request.content_length or 0) > _LARGEST_REQUEST:
        raise TooLargeError(f"a request may have {_LARGEST_REQUEST:,} bytes")
    try:
        content = request.get_json(force=True, silent=True)
    except RecursionError:
        content = None
    if content is None:
        raise SpecError("the request's body must be JSON")
    return content


def interface(service: Service, *, upload_limit: int) -> Blueprint:
    """The routes below ``/api``."""
    routes = Blueprint("api", __name__, url_prefix="/api")

    def add(rule: str, answer: Callable[..., Any], *methods: str) -> None:
        def guarded(**values: Any) -> Any:
            try:
                found = answer(**values)
            except TooLargeError as error:
                response = _refusal(413, error)
                response.headers["Connection"] = "close"  # what is still under way is not waited for
                return response
            except LockedError as error:
                return _refusal(409, error, service.told(error))
            except NetadaptError as error:
                return _refusal(400, error, service.told(error))
            except OSError as error:
                _log.exception("a request failed")
                return _refusal(500, error, service.told(error))
            except HTTPException as error:  # the body is cut off or malformed
                return _refusal(error.code or 400, error, error.description)
            except Exception as error:
                _log.exception("a request failed")
                return _refusal(500, error, _UNFORESEEN)
            return found if isinstance(found, Response) else jsonify(found)

        routes.add_url_rule(rule, f"{rule} {methods}", guarded, methods=list(methods))

    def table() -> dict[str, str]:
        space = request.args.get("space")
        from netadapt_trt.webui.orders import chosen_space

        spaces = [chosen_space(service.workspace, space)[1]] if space else service.readable_spaces()
        kept = receive_table(
            service.workspace,
            request.stream,
            request.args.get("name", ""),
            spaces=spaces,
            length=_length(),
            limit=upload_limit,
        )
        return {"name": kept.name, "told": kept.told}

    def space() -> dict[str, str]:
        kept = receive_space(
            service.workspace,
            request.stream,
            request.args.get("name", ""),
            length=_length(),
            limit=min(upload_limit, SPACE_LIMIT_BYTES),
        )
        return {"name": kept.name, "told": kept.told}

    def resumed() -> dict[str, Any]:
        fields = Fields(_body())
        run = fields.take("run")
        fields.end()
        return {"jobs": [job_document(job) for job in service.resume_run(run)]}

    def download() -> Response:
        path = file_of(service.workspace, request.args.get("run"), request.args.get("file"))
        return _sent(path, f"{request.args.get('run', '').rpartition('/')[2]}-{path.name}")

    def listed(key: str, values: list[Any]) -> dict[str, Any]:
        """With a notice where the workspace has more in it than was looked at."""
        left_out = service.workspace.left_out
        return {key: values, **({"notice": left_out} if left_out else {})}

    add("/spaces", lambda: listed("spaces", service.spaces()), "GET")
    add("/spaces", space, "POST")
    add("/data", lambda: listed("data", service.workspace.data_specs()), "GET")
    add("/tables", lambda: listed("tables", [item.name for item in service.workspace.items("table")]), "GET")
    add("/tables", table, "POST")
    add("/knobs", lambda: service.knobs(_body()), "POST")
    add("/jobs", lambda: {"jobs": [job_document(job) for job in service.queue.jobs()]}, "GET")
    add("/jobs", lambda: {"jobs": [job_document(job) for job in service.order(_body())]}, "POST")
    add("/jobs/<int:number>", lambda number: job_document(service.queue.get(number)), "GET")
    add("/jobs/<int:number>/log", lambda number: Response(service.queue.log(number), mimetype="text/plain"), "GET")
    add("/jobs/<int:number>/stop", lambda number: job_document(service.queue.stop(number)), "POST")
    add("/jobs/<int:number>/resume", lambda number: job_document(service.queue.resume(number)), "POST")
    add(
        "/runs",
        lambda: listed("runs", [{"name": i.name, "kind": i.kind} for i in service.workspace.items("adapt", "search")]),
        "GET",
    )
    add("/runs/status", lambda: status_of(service.workspace, request.args.get("run")), "GET")
    add("/runs/resume", resumed, "POST")
    add("/runs/file", download, "GET")
    return routes


def _sent(path: Path, name: str) -> Response:
    """A file to be kept, never shown: what it holds is not for the browser to interpret."""
    return send_file(path, mimetype="application/octet-stream", as_attachment=True, download_name=name, max_age=0)
