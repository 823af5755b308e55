"""The example script against servers that do not answer as ours does: its last words are for a reader, not a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "search_over_http.py"


class Proxy(BaseHTTPRequestHandler):
    """Refuses everything in words of its own, after it has read what was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<html><body>\n  upstream   is down\n</body></html>"
        self.send_response(502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def upload_to(url: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "t.txt").write_text("1 2\n")
    words = [sys.executable, str(EXAMPLE), url, "--table", str(tmp_path / "t.txt")]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_example_shows_an_error_that_is_no_json(proxy: str, tmp_path: Path) -> None:
    done = upload_to(proxy, tmp_path)
    assert done.returncode == 1
    assert done.stderr == "the server answered 502 Bad Gateway: <html><body> upstream is down </body></html>\n"


def test_example_says_where_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        done = upload_to(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "is the page running there" in done.stderr
    assert "Traceback" not in done.stderr
