"""The server that hands the page out: waitress, whose own refusals are JSON here, as the interface's are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from netadapt_trt.webui.uploads import TooLargeError, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["serve"]

_THREADS = 8
_HEADERS = 1 << 16
_TOO_LARGE = 413


def serve(server: Any, *, host: str, port: int, upload_limit: int, ready: Callable[[int], None]) -> None:
    """Answer with the WSGI application ``server`` until interrupted; ``ready`` is told the port once it listens (0 asks for
    any that is free).

    Raises OSError where the port is taken or the address is not this machine's.
    """
    import waitress

    # A body is spooled to the disk as it comes; one that says it is larger is answered at once and not read. What says
    # nothing (chunks) ends at the same size.
    made = waitress.create_server(
        server,
        host=host,
        port=port,
        threads=_THREADS,
        max_request_body_size=upload_limit + _HEADERS,
        ident=None,
        clear_untrusted_proxy_headers=True,
    )
    # A name that stands for several addresses has a listener for each, all in one map.
    for listener in (made, *getattr(made, "map", {}).values()):
        listener.channel_class = _channel(upload_limit)
    try:
        listening = getattr(made, "effective_listen", None)  # there where a name stands for several addresses
        ready(listening[0][1] if listening else made.effective_port)
        made.run()
    finally:
        made.close()


def _channel(upload_limit: int) -> type[Any]:
    """What reads a connection's requests and answers those that never reach the application: too large, or no HTTP."""
    from waitress.channel import HTTPChannel
    from waitress.task import ErrorTask

    class Refusal(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            error = self.request.error
            named, said = type(error).__name__, f"the request cannot be read: {error.body}"
            if error.code == _TOO_LARGE:
                named, said = TooLargeError.__name__, too_large(None, upload_limit)
            body = json.dumps({"error": named, "message": said}).encode()
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()  # what is still under way is not read
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):  # type: ignore[misc]
        error_task_class = Refusal

    return Channel
