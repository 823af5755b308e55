from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.webui.jobs import JobQueue
    from netadapt_trt.webui.workspace import Workspace

pytest.importorskip("dash", reason="the page needs the extra 'ui'")
pytest.importorskip("waitress", reason="the page needs the extra 'ui'")

ROOT = Path(__file__).parents[2]
PI = (ROOT / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl").read_bytes()


class Client:
    """Requests to the page's server without a network; ``queue`` has the stand-in for jobs."""

    def __init__(self, workspace: Workspace, queue: JobQueue, **more: Any) -> None:
        from netadapt_trt.webui.app import make_app
        from netadapt_trt.webui.service import Service

        self.workspace, self.queue = workspace, queue
        self.flask = make_app(Service(workspace, queue), **more).server.test_client()

    def get(self, path: str, **more: Any) -> Any:
        return self.flask.get(f"/api{path}", base_url="http://127.0.0.1:7860", **more)

    def post(self, path: str, content: Any = None, **more: Any) -> Any:
        data = {"data": json.dumps(content)} if content is not None else {}
        return self.flask.post(f"/api{path}", base_url="http://127.0.0.1:7860", **{**data, **more})


@pytest.fixture
def client(workspace: Workspace, make_queue: Callable[..., JobQueue]) -> Client:
    return Client(workspace, make_queue())


def search(**more: Any) -> dict[str, Any]:
    return {"kind": "search", "space": "fbnet-cifar", "tables": ["pi.lut.jsonl"], "data": "digits", **more}


def put_search(workspace: Workspace, name: str = "s") -> Path:
    """A search's directory as far as the page reads it."""
    from netadapt_trt.space.store import load_space, save_space

    run, space = workspace.runs / name, load_space("fbnet-small")
    run.mkdir(parents=True)
    arguments = {"epochs": 3, "warmup_epochs": 1, "device": "cpu"}
    header = {"format": "netadapt-search", "version": 1}
    (run / "run.json").write_text(json.dumps({**header, "arguments": arguments, "start": {"lat_s": 0.1, "ener_j": None}}))
    save_space(space, run / "space.json")
    lines: list[dict[str, Any]] = [{"format": "netadapt-search-history", "version": 1}]
    lines += [
        {"epoch": e, "phase": "search", "val_accuracy": 0.5, "lat_s": 0.1, "ener_j": None, "seconds": 2.0} for e in (1, 2)
    ]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 3, "torn')
    rows = [[1.0 if column in place.candidates else None for column in range(9)] for place in space.places]
    theta = {"format": "netadapt-theta", "version": 1, "space_hash": "x", "columns": list(space.columns), "epoch": 2}
    (run / "theta.json").write_text(json.dumps({**theta, "theta": rows}))
    return run


def test_api_knows_presets_and_data(client: Client) -> None:
    assert client.get("/spaces").json == {"spaces": ["fbnet-cifar", "fbnet-imagenet", "fbnet-small"]}
    assert client.get("/data").json == {"data": ["digits"]}


def test_api_upload_then_knobs_of_hannas_tables(client: Client) -> None:
    kept = client.post("/tables?name=pi.lut.jsonl", data=PI).json
    assert kept["name"] == "tables/pi.lut.jsonl"
    assert client.get("/tables").json == {"tables": ["tables/pi.lut.jsonl"]}
    request = {"space": "fbnet-cifar", "tables": [kept["name"]], "alpha": 0.2, "beta": 0.6, "gamma": 0.05, "delta": 0.6}
    found = client.post("/knobs", request).json
    assert found["lat_s"] == pytest.approx(3.853, abs=5e-4)
    assert found["ener_j"] == pytest.approx(18.699, abs=5e-4)
    assert found["vlat"] == pytest.approx(0.2 * 3.853**0.6, rel=1e-3)
    assert found["vener"] == pytest.approx(0.05 * 18.699**0.6, rel=1e-3)
    assert found["energy_dominance"] * found["latency_dominance"] == pytest.approx(1.0)
    assert any("skip computes nothing" in text for text in found["notices"])
    assert str(client.workspace.root) not in json.dumps(found)
    assert not any("hardly count" in text for text in found["notices"])
    light = client.post("/knobs", {**request, "alpha": 1e-4, "gamma": 0}).json  # 2e-4 against 2.3 of guessing
    assert "hardly count" in light["notices"][0]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"beta": -1}, "reward slow networks"),
        ({"alpha": 1e9, "beta": 300}, "powers go up to 10"),
        ({"alpha": "x"}, "must be a number"),
        ({"latency_target_ms": 0.001}, "the cheapest one"),
        ({"latency_target_ms": 3000, "beta": 0}, "power above 0"),
        ({"latency_target_ms": 3000, "alpha": 0.2}, "sets alpha by itself"),
        ({"tables": ["nothing.txt"]}, "no table"),
        ({"space": "fbnet-small"}, "another space"),
        ({"gama": 1}, "did you mean 'gamma'"),
    ],
)
def test_api_knobs_that_make_no_sense_are_refused(knobs: dict[str, Any], words: str, client: Client) -> None:
    client.post("/tables?name=pi.lut.jsonl", data=PI)
    answer = client.post("/knobs", {"space": "fbnet-cifar", "tables": ["tables/pi.lut.jsonl"], **knobs})
    assert answer.status_code == 400
    assert words in answer.json["message"]


def test_api_start_watch_stop_resume(client: Client) -> None:
    (client.workspace.root / "pi.lut.jsonl").write_bytes(PI)
    first = client.post("/jobs", search(epochs=5, warmup_epochs=1)).json["jobs"][0]
    second = client.post("/jobs", search(name="mine")).json["jobs"][0]
    assert (first["run"], second["run"]) == ("runs/search-001", "runs/mine")
    assert first["argv"][:2] == ["search", "run"]
    assert second["state"] == "queued"
    assert {job["id"] for job in client.get("/jobs").json["jobs"]} == {1, 2}
    assert client.get("/jobs/2").json["title"].startswith("search runs/mine")
    assert client.get("/jobs/99").status_code == 400
    assert client.post("/jobs/99/stop").status_code == 400
    taken = client.post("/jobs", search(name="mine"))
    assert taken.status_code == 400
    assert "already" in taken.json["message"]


def test_api_refuses_a_search_before_it_is_queued(client: Client) -> None:
    (client.workspace.root / "pi.lut.jsonl").write_bytes(PI)
    for request, words in (
        (search(space="fbnet-small"), "another space"),
        (search(latency_target_ms=1), "the cheapest one"),
        (search(energy_target_mj=9000, gamma=0.05), "sets gamma by itself"),
        (search(name="../x"), "cannot be the name"),
        (search(kind="shell"), "kind 'shell' is unknown"),
        (search(data="os:system"), "no data"),
    ):
        answer = client.post("/jobs", request)
        assert answer.status_code == 400
        assert words in answer.json["message"]
    assert client.get("/jobs").json == {"jobs": []}


def test_api_status_and_files_of_a_search(client: Client) -> None:
    run = put_search(client.workspace)
    status = client.get("/runs/status?run=runs/s").json
    assert (status["epoch"], status["epochs"], status["finished"], status["seconds_left"]) == (2, 3, False, 2.0)
    assert client.get("/runs").json == {"runs": [{"name": "runs/s", "kind": "search"}]}
    notices = [f"{client.workspace.root}/pi.lut.jsonl: skip computes nothing"]
    (run / "table.json").write_text(json.dumps({"format": "netadapt-space-table", "version": 1, "notices": notices}))
    assert client.get("/runs/status?run=runs/s").json["notices"] == ["pi.lut.jsonl: skip computes nothing"]
    answer = client.get("/runs/file?run=runs/s&file=theta.json")
    assert answer.data == (run / "theta.json").read_bytes()
    assert answer.headers["Content-Disposition"] == "attachment; filename=s-theta.json"
    answer.close()
    assert client.get("/runs/file?run=runs/s&file=result.json").status_code == 400


@pytest.mark.parametrize(
    ("run", "file"),
    [
        ("runs/s", "../../secret.json"),
        ("runs/s", "/etc/passwd"),
        ("runs/s", "checkpoint.safetensors"),
        ("runs/s", "children/../theta.json"),
        ("runs/s", "children/a/../../run.json"),
        ("runs/s", "theta.json\x00"),
        ("runs/s", ""),
        ("..", "theta.json"),
        ("runs/../runs/s", "theta.json"),
        ("/etc", "theta.json"),
        ("", ""),
    ],
)
def test_api_files_are_those_of_runs_only(run: str, file: str, client: Client) -> None:
    put_search(client.workspace)
    answer = client.get("/runs/file", query_string={"run": run, "file": file})
    assert answer.status_code == 400


def test_api_file_that_links_out_of_the_workspace_is_refused(client: Client, tmp_path: Path) -> None:
    run = put_search(client.workspace)
    (tmp_path / "secret").write_text("secret")
    (run / "result.json").symlink_to(tmp_path / "secret")
    assert client.get("/runs/file?run=runs/s&file=result.json").status_code == 400


def test_api_goes_on_with_a_search_begun_elsewhere(client: Client) -> None:
    put_search(client.workspace)
    (job,) = client.post("/runs/resume", {"run": "runs/s"}).json["jobs"]
    assert job["argv"] == ["search", "run", "--resume", str(client.workspace.runs / "s")]


def test_api_two_requests_at_once_go_on_with_a_search_once(client: Client) -> None:
    put_search(client.workspace)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/runs/resume", {"run": "runs/s"}), range(4)))
    # The stand-in ends at once, so that a later request may go on with the same job; another job there must not be.
    assert [job["id"] for job in client.get("/jobs").json["jobs"]] == [1]
    assert 200 in {answer.status_code for answer in answers}


def test_api_child_needs_a_theta_and_a_name_of_the_listing(client: Client) -> None:
    run = put_search(client.workspace)
    assert client.post("/jobs", {"kind": "child", "run": "runs/s", "epochs": 2}).json["jobs"][0]["argv"][-2:] == [
        "--epochs",
        "2",
    ]
    refused = client.post("/jobs", {"kind": "export", "run": "runs/s", "child": "../../x"})
    assert "there is no child" in refused.json["message"]
    assert "no child" in client.post("/jobs", {"kind": "bench", "run": "runs/s", "child": "argmax"}).json["message"]
    (run / "theta.json").unlink()
    assert "no theta yet" in client.post("/jobs", {"kind": "child", "run": "runs/s"}).json["message"]


def test_api_child_and_export_take_a_backend(client: Client) -> None:
    run = put_search(client.workspace)
    order = {"kind": "child", "run": "runs/s", "sample": 2, "export": True}
    (job,) = client.post("/jobs", order).json["jobs"]
    assert job["argv"] == ["search", "child", str(run), "--sample", "2", "--export"]
    (job,) = client.post("/jobs", {**order, "backend": "trt"}).json["jobs"]
    assert job["argv"][-3:] == ["--export", "--backend", "trt"]
    child = run / "children" / "sample-1"
    child.mkdir(parents=True)
    (child / "network.json").write_text("{}")
    for measured_with, more, expected in (
        (None, {}, "ort"), ("pytorch", {}, "ort"), ("fake", {}, "fake"), ("fake", {"backend": "ort"}, "ort"),
    ):  # fmt: skip
        identity = None if measured_with is None else {"backend": measured_with}
        record = {"format": "netadapt-child", "version": 1, "accuracy": 0.5, "table": {"identity": identity}}
        (child / "child.json").write_text(json.dumps(record))
        (job,) = client.post("/jobs", {"kind": "export", "run": "runs/s", "child": "sample-1", **more}).json["jobs"]
        onnx = str(child / "deploy" / "model.onnx")
        assert job["argv"] == ["export", str(child), "--backend", expected, "-o", onnx]
    for wrong, words in (
        ({"backend": "tensorrt"}, "no backend 'tensorrt'"),
        ({"backend": ["ort"]}, "no backend"),
        ({"export": "yes"}, "must be true or false"),
        ({"export": False, "backend": "ort"}, "add export: true"),
    ):
        assert words in client.post("/jobs", {**order, **wrong}).json["message"]


@pytest.mark.parametrize(
    ("record", "device"),
    [
        ({"backend": "trt"}, "cuda:0"),
        ({"backend": "trt_rtx"}, "cuda:0"),
        ({"backend": "ort"}, "cpu"),
        # bench takes the runtime of the promise, where it is one of ours
        ({"backend": "ort", "promise": {"backend": "trt"}}, "cuda:0"),
        ({"backend": "ort", "promise": {"latency_ms": {}}, "lut": {"identity": {"backend": "trt"}}}, "cuda:0"),
        ({"backend": "trt", "promise": {"backend": "ort"}}, "cpu"),
        ({"backend": "trt", "promise": {"backend": "pytorch"}}, "cuda:0"),
        ({"backend": ["trt"], "promise": [], "lut": 3}, "cpu"),
        (None, "cpu"),
    ],
)
def test_api_bench_waits_for_the_device_of_its_runtime(record: dict[str, Any] | None, device: str, client: Client) -> None:
    folder = put_search(client.workspace) / "children" / "argmax"
    (folder / "deploy").mkdir(parents=True)
    (folder / "network.json").write_text("{}")
    (folder / "child.json").write_text('{"format": "netadapt-child", "version": 1, "accuracy": 0.5}')
    (folder / "deploy" / "model.onnx").write_bytes(b"x")
    if record is not None:
        content = {"format": "netadapt-deploy", "version": 1, **record}
        (folder / "deploy" / "deploy.json").write_text(json.dumps(content))
    (job,) = client.post("/jobs", {"kind": "bench", "run": "runs/s", "child": "argmax"}).json["jobs"]
    assert job["device"] == device


def test_api_damaged_run_is_an_answer(client: Client) -> None:
    run = put_search(client.workspace)
    (run / "run.json").write_text('{"format": "netadapt-search", "version": 7}')
    answer = client.get("/runs/status?run=runs/s")
    assert (answer.status_code, answer.json["error"]) == (400, "TooNewError")
    (run / "run.json").write_text('{"format": "netadapt-search", "version": 1, "arguments": ')
    assert client.get("/runs/status?run=runs/s").status_code == 400


@pytest.mark.parametrize("body", [b"", b"null", b"{", b"\xff", b"[1]", b'"x"', b"[" * 100_000])
def test_api_body_that_is_no_request_is_refused(body: bytes, client: Client) -> None:
    answer = client.post("/jobs", data=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json["message"]


def test_api_upload_above_the_limit_is_413(workspace: Workspace, make_queue: Callable[..., JobQueue]) -> None:
    client = Client(workspace, make_queue(), upload_limit=1000)
    answer = client.post("/tables?name=a.txt", data=PI)
    assert (answer.status_code, answer.json["error"]) == (413, "TooLargeError")
    assert not list(workspace.tables.glob("*"))


def test_api_answers_to_its_own_name_only(client: Client) -> None:
    for host, status in (
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ):
        assert client.flask.get("/api/jobs", base_url=f"http://{host}").status_code == status


def test_api_orders_from_pages_of_other_sites_are_refused(client: Client) -> None:
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:9999", 403),
        ("http://127.0.0.1:7860", 400),
    ):
        assert client.post("/jobs", {}, headers={"Origin": origin}).status_code == status


def test_api_addresses_that_are_none_are_refused(client: Client) -> None:
    assert client.post("/jobs", {}, headers={"Origin": "http://["}).status_code == 400


def test_api_numbers_beyond_all_bounds_are_refused(client: Client) -> None:
    answer = client.post("/knobs", data=b'{"space": "fbnet-cifar", "tables": [], "alpha": 1' + b"0" * 400 + b"}")
    assert answer.status_code == 400
    assert client.post("/jobs", data=b" " * (1 << 20) + b"{}").status_code == 413
    layout = client.flask.post("/_dash-update-component", data=b" " * (9 << 20), base_url="http://127.0.0.1:7860")
    assert layout.status_code == 413


@pytest.mark.parametrize("power", [300, 5000, 1e9])
@pytest.mark.parametrize("target", [{}, {"latency_target_ms": 3000}, {"energy_target_mj": 15000, "gamma": None}])
def test_api_powers_that_overflow_are_refused(power: float, target: dict[str, Any], client: Client) -> None:
    (client.workspace.root / "pi.lut.jsonl").write_bytes(PI)
    knobs = {"space": "fbnet-cifar", "tables": ["pi.lut.jsonl"], "beta": power, "delta": power, "gamma": 0.05, **target}
    for path, request in (("/knobs", knobs), ("/jobs", {"kind": "search", "data": "digits", **knobs})):
        answer = client.post(path, request)
        assert (answer.status_code, answer.json["error"]) == (400, "SpecError")
    assert client.get("/jobs").json == {"jobs": []}


def test_api_failure_that_nobody_foresaw_is_an_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(client.workspace, "data_specs", fail)
    answer = client.get("/data")
    assert (answer.status_code, answer.json["error"]) == (500, "RuntimeError")
    assert "nobody foresaw" in answer.json["message"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "/secret/place" in caplog.text


def test_api_opened_to_others_answers_to_addresses_and_names_of_its_own(
    workspace: Workspace, make_queue: Callable[..., JobQueue]
) -> None:
    client = Client(workspace, make_queue(), host="0.0.0.0", allowed_hosts=["box.example"])  # noqa: S104
    for host, status in (
        ("192.0.2.7:7860", 200),
        ("[2001:db8::7]:7860", 200),
        (f"{socket.gethostname()}:7860", 200),
        ("box.example:7860", 200),
        ("BOX.example.", 200),
        ("evil.example:7860", 403),
        ("192.0.2.7.evil.example:7860", 403),
    ):
        answer = client.flask.get("/api/jobs", base_url=f"http://{host}")
        assert answer.status_code == status, host
    assert "--allow-host" in answer.json["message"]
    assert "asks for no password" in client.flask.get("/_dash-layout", base_url="http://box.example:7860").text


def test_page_lets_the_browser_fetch_nothing_from_elsewhere(client: Client) -> None:
    page = client.flask.get("/", base_url="http://127.0.0.1:7860")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    assert 'lang="en"' in page.text


def test_page_module_is_not_loaded_by_the_command_line() -> None:
    import subprocess

    told = "import sys, netadapt_trt.cli.main; print([m for m in ('dash', 'flask', 'plotly') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
