"""The page as a process: what it says, how it ends, what it takes, what is left of it when it is killed."""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("dash", reason="the page needs the extra 'ui'")
pytest.importorskip("waitress", reason="the page needs the extra 'ui'")
serving: Any = importlib.import_module("page_server")

GIB = 1 << 30
EXAMPLE = Path(__file__).parents[2] / "examples" / "search_over_http.py"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Servers of one workspace; all they started is ended."""
    made: list[Any] = []

    def begin(*words: str) -> Any:
        made.append(serving.Server(tmp_path / "work", *words))
        return made[-1]

    yield begin
    for server in made:
        server.end()
    serving.end_jobs(tmp_path / "work")


def everything(line: socket.socket) -> bytes:
    """What the server says until it hangs up."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := line.recv(65536):
            said += piece
    return said


def test_server_says_where_it_is_and_ends_quietly(start: Callable[..., Any]) -> None:
    server = start()
    assert server.url.startswith("http://127.0.0.1:")
    assert server.ask("/jobs") == {"jobs": []}
    assert server.end() == 0
    assert "the page has ended" in server.said[-1]


def test_server_tells_scripts_where_it_is(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "netadapt_trt", "ui", "--workspace", str(tmp_path / "work"), "--port", "0", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline()]
        while lines[-1].rstrip() != "}":
            lines.append(server.stdout.readline())
        told = json.loads("".join(lines))
        server.terminate()
        assert server.wait(20) == 0
    assert told["url"].startswith("http://127.0.0.1:")
    assert told["workspace"] == str(tmp_path / "work")


def test_server_opened_to_others_says_so(start: Callable[..., Any]) -> None:
    said = "".join(start("--host", "0.0.0.0").said)  # noqa: S104
    assert "OPEN TO OTHERS" in said
    assert "no password" in said


def test_server_second_one_of_a_workspace_is_refused(start: Callable[..., Any]) -> None:
    start()
    with pytest.raises(AssertionError, match="another process"):
        start()


def test_server_port_that_is_taken_is_told(start: Callable[..., Any], tmp_path: Path) -> None:
    taken = start().port
    with pytest.raises(AssertionError, match=f"port {taken} is taken; choose another one"):
        serving.Server(tmp_path / "other", port=taken)


def test_server_refuses_a_gigabyte_unread(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start()
    before = server.memory_bytes()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        head = f"POST /api/tables?name=big.txt HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {GIB}\r\n\r\n"
        line.sendall(head.encode() + b"1" * 65536)
        answer = everything(line)
    assert b" 413 " in answer.split(b"\r\n")[0]
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["error"] == "TooLargeError"
    assert "--upload-limit" in told["message"]
    assert server.memory_bytes() - before < 32 << 20
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file() and path.stat().st_size > 4096]
    assert server.ask("/jobs") == {"jobs": []}


def test_server_ends_an_upload_that_does_not_say_its_size_at_the_limit(start: Callable[..., Any]) -> None:
    server = start("--upload-limit", "1")
    sent, piece = 0, b"%x\r\n" % 65536 + b"1" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(b"POST /api/tables?name=big.txt HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 64 << 20:
                line.sendall(piece)
                sent += 65536
        except OSError:
            pass  # the server hung up, as it should
    assert sent < 32 << 20
    assert server.ask("/jobs") == {"jobs": []}


def test_server_answers_what_is_no_http_in_json(start: Callable[..., Any]) -> None:
    with socket.create_connection(("127.0.0.1", start().port), timeout=30) as line:
        line.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: many\r\n\r\n")
        answer = everything(line)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "cannot be read" in json.loads(answer.partition(b"\r\n\r\n")[2])["message"]


def test_server_of_a_name_with_several_addresses_answers_in_json(start: Callable[..., Any]) -> None:
    server = start("--host", "localhost", "--upload-limit", "1")
    assert server.ask("/tables?name=big.txt", raw=b"1" * (3 << 19))["error"] == "TooLargeError"


@pytest.mark.slow
def test_server_killed_in_mid_run_the_search_goes_on_and_is_found(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start()
    kept = server.ask("/tables?name=small.txt", raw=serving.small_table().encode())
    order = {
        "space": "fbnet-small", "tables": [kept["name"]], "data": "digits", "paths": "sampled", "epochs": 150,
        "warmup_epochs": 1, "batch_size": 64,
    }  # fmt: skip
    server.ask("/jobs", order)
    second = server.ask("/jobs", order)["jobs"][0]
    assert second["state"] == "queued"

    def epochs() -> int:
        found = server.ask("/runs/status?run=runs/search-001")
        return int(found.get("epoch", 0))

    serving.wait_until(lambda: epochs() >= 1)
    pid = server.ask("/jobs/1")["pid"]
    server.kill()
    server = start()
    found = server.ask("/jobs/1")
    assert (found["state"], found["pid"]) == ("running", pid)
    before = epochs()
    serving.wait_until(lambda: epochs() > before)
    assert server.ask("/jobs/2/stop", {})["state"] == "stopped"
    server.ask("/jobs/1/stop", {})
    serving.wait_until(lambda: server.ask("/jobs/1")["state"] == "stopped")
    stopped_at = epochs()
    server.ask("/jobs/1/resume", {})
    serving.wait_until(lambda: epochs() > stopped_at)
    assert server.ask("/jobs/1")["attempts"] == 2


@pytest.mark.slow
def test_server_runs_the_example_script(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text(serving.small_table())
    words = [sys.executable, str(EXAMPLE), start().url, "--space", "fbnet-small", "--table", str(tmp_path / "small.txt")]
    words += [
        "--paths",
        "sampled",
        "--epochs",
        "2",
        "--warmup-epochs",
        "1",
        "--child-epochs",
        "1",
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads((tmp_path / "out" / "theta.json").read_text())["epoch"] == 2
    assert (tmp_path / "out" / "model.onnx").stat().st_size > 10_000
