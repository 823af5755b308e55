"""The Search tab as the browser asks for it: what its fields become, what it says to them, what it shows of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.space.store import load_space, save_space

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.webui.jobs import JobQueue
    from netadapt_trt.webui.workspace import Workspace

pytest.importorskip("dash", reason="the page needs the extra 'ui'")

HUGE = "1" + "0" * 400
PI = Path(__file__).parents[2] / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"
COSTS = {"space": "fbnet-cifar", "table": "pi.lut.jsonl", "energy-table": None, "mode": "knobs"}
AMOUNTS = {"alpha": 0.2, "beta": 0.6, "gamma": 0.0, "delta": 0.6, "latency_target_ms": None, "energy_target_mj": None}
TRAINING = {
    "data": "digits", "paths": "all", "device": "cpu", "name": "", "epochs": 5, "warmup_epochs": 1, "batch_size": 64,
    "seed": 0, "learning_rate": 0.1, "theta_learning_rate": 0.01, "threads": None,
}  # fmt: skip


class Tab:
    """The page's callbacks, by the outputs that they fill."""

    def __init__(self, workspace: Workspace, queue: JobQueue) -> None:
        from netadapt_trt.webui.app import make_app
        from netadapt_trt.webui.service import Service

        self.queue = queue
        self.app = make_app(Service(workspace, queue))
        self.flask = self.app.server.test_client()

    def tell(self, output: str, changed: str, **values: Any) -> Any:
        """What the callback answers that fills ``output`` when ``changed`` (a name with its property) has changed."""
        made = next(one for one in self.page("/_dash-dependencies").json if _fills(one["output"], output))
        given = [[{**part, "value": values.get(part["id"])} for part in made[kind]] for kind in ("inputs", "state")]
        outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in _outputs(made["output"])]
        asked = {
            "output": made["output"],
            "outputs": outputs if made["output"].startswith("..") else outputs[0],
            "inputs": given[0],
            "state": given[1],
            "changedPropIds": [changed],
        }
        answer = self.page("/_dash-update-component", data=json.dumps(asked), content_type="application/json")
        assert answer.status_code in (200, 204), answer.text
        return answer.json["response"] if answer.status_code == 200 else {}

    def page(self, path: str, **more: Any) -> Any:
        return self.flask.open(path, method="POST" if more else "GET", base_url="http://127.0.0.1:7860", **more)


def _outputs(text: str) -> list[str]:
    return text.strip(".").split("...") if text.startswith("..") else [text]


def _fills(text: str, output: str) -> bool:
    return output in _outputs(text)


@pytest.fixture
def tab(workspace: Workspace, make_queue: Callable[..., JobQueue]) -> Tab:
    (workspace.root / "pi.lut.jsonl").write_bytes(PI.read_bytes())
    return Tab(workspace, make_queue())


def outlook(tab: Tab, **more: Any) -> str:
    return json.dumps(tab.tell("outlook.children", "alpha.value", **{**COSTS, **AMOUNTS, **more}))


def start(tab: Tab, **more: Any) -> str:
    values = {**COSTS, **AMOUNTS, **TRAINING, "start": 1, **more}
    return json.dumps(tab.tell("start-message.children", "start.n_clicks", **values))


def words_of(tab: Tab) -> dict[str, str]:
    words = tab.queue.jobs()[0].argv[2:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_tab_without_a_target_asks_for_one(tab: Tab) -> None:
    for said in (outlook(tab, mode="target"), start(tab, mode="target")):
        assert "give a target" in said
    assert tab.queue.jobs() == []


@pytest.mark.parametrize(
    ("targets", "words", "left_to_search"),
    [
        ({"latency_target_ms": 3000}, ("a target of latency the search sets alpha itself", "gamma stays 0.05"), {"--alpha"}),
        ({"energy_target_mj": 15000}, ("a target of energy the search sets gamma itself", "alpha stays 0.2"), {"--gamma"}),
        (
            {"latency_target_ms": 3000, "energy_target_mj": 15000},
            ("a target of latency and energy the search sets alpha and gamma itself",),
            {"--alpha", "--gamma"},
        ),
    ],
)
def test_tab_leaves_the_knob_of_a_target_to_the_search(
    targets: dict[str, float], words: tuple[str, ...], left_to_search: set[str], tab: Tab
) -> None:
    said = outlook(tab, mode="target", gamma=0.05, **targets)
    assert all(text in said for text in words)
    assert "was started" in start(tab, mode="target", gamma=0.05, **targets)
    assert {"--alpha", "--gamma"} - set(words_of(tab)) == left_to_search
    fields = tab.tell("alpha.disabled", "mode.value", mode="target", **targets)
    assert {f"--{name}" for name in ("alpha", "gamma") if fields[name]["disabled"]} == left_to_search


def test_tab_with_knobs_sends_no_target_that_was_typed_before(tab: Tab) -> None:
    assert "was started" in start(tab, latency_target_ms=3000)
    assert "--latency-target" not in words_of(tab)
    fields = tab.tell("alpha.disabled", "mode.value", mode="knobs", latency_target_ms=3000)
    assert not fields["alpha"]["disabled"]


def test_tab_has_a_field_for_each_rate_and_threads(tab: Tab) -> None:
    assert "was started" in start(tab, learning_rate=0.05, theta_learning_rate=0.02, threads=3)
    told = words_of(tab)
    assert (told["--learning-rate"], told["--theta-learning-rate"], told["--threads"]) == ("0.05", "0.02", "3")
    layout = json.dumps(tab.tell("content.children", "url.pathname", url="/search"))
    for name in ("learning_rate", "theta_learning_rate", "threads"):
        assert f'"id": "{name}"' in layout
        assert f'"htmlFor": "{name}"' in layout
    assert "learning_rate must be from" in start(tab, learning_rate=0)


def follow(tab: Tab) -> dict[str, Any]:
    found: dict[str, Any] = tab.tell("watch-status.children", "clock.n_intervals", url="?run=runs/s", clock=1)
    return found


@pytest.mark.parametrize("text", [HUGE, "1e999", "NaN", '"much"', "[1]", "true"])
def test_tab_shows_a_run_whose_numbers_are_none(text: str, tab: Tab, workspace: Workspace) -> None:
    run, space = workspace.runs / "s", load_space("fbnet-small")
    child = run / "children" / "argmax"
    child.mkdir(parents=True)
    save_space(space, run / "space.json")
    start = f'"start": {{"lat_s": {text}, "ener_j": {text}}}'
    arguments = f'"arguments": {{"epochs": {text}, "warmup_epochs": {text}}}'
    row = ", ".join([text] * len(space.columns))
    line = ", ".join(
        f'"{key}": {text}' for key in ("train_accuracy", "val_accuracy", "lat_s", "ener_j", "entropy", "seconds")
    )
    best = f'"latency_ms": {text}, "energy_mj": {text}, "blocks": {text}'
    for name, kind, content in (
        ("run.json", "search", f"{start}, {arguments}"),
        ("theta.json", "theta", f'"epoch": {text}, "theta": [{", ".join([f"[{row}]"] * len(space.places))}]'),
        ("result.json", "search-result", f'"child": {{{best}}}'),
        ("children/argmax/child.json", "child", f'"accuracy": {text}, "blocks": {text}, "estimate": {{{best}}}'),
    ):
        (run / name).write_text(f'{{"format": "netadapt-{kind}", "version": 1, {content}}}')
    lines = [f'{{"epoch": {epoch}, {line}}}\n' for epoch in ("1", "2", text)]
    (run / "history.jsonl").write_text("".join(lines))
    assert "runs/s" in json.dumps(follow(tab)["watch-status"])
    assert tab.page("/api/runs/status?run=runs/s").status_code == 200
    shown = tab.tell("compare-table.children", "compared.value", compared=["runs/s"])
    assert "runs/s" in json.dumps(shown)


def test_tab_tells_digits_and_times_of_finite_numbers_only() -> None:
    from netadapt_trt.webui.parts import DASH, digits
    from netadapt_trt.webui.watch_search import clock

    assert [digits(value) for value in (None, "3", True, 10**400, float("nan"), 0.25, 12345)] == [
        *[DASH] * 5,
        "0.25",
        "12,345",
    ]
    assert [clock(value) for value in (float("nan"), float("inf"), 75.0, 3675.0)] == [DASH, DASH, "1:15", "1:01:15"]


@pytest.mark.parametrize(
    ("name", "table", "energy", "place"),
    [
        ("tables/b.txt", "tables/a.txt", None, "energy-table"),
        ("tables/b.txt", "pi.lut.jsonl", None, "table"),
        ("tables/b.txt", None, None, "table"),
        ("tables/b.txt", "tables/a.txt", "tables/c.txt", "table"),
        ("tables/a.txt", "tables/a.txt", None, "table"),
        ("tables/b.lut.jsonl", "tables/a.txt", None, "table"),
    ],
)
def test_tab_puts_an_upload_where_it_belongs(name: str, table: str | None, energy: str | None, place: str, tab: Tab) -> None:
    given = {"uploaded": {"kind": "tables", "name": name}, "table": table, "energy-table": energy}
    answer = tab.tell("table.value", "uploaded.data", **given)
    assert {box: parts["value"] for box, parts in answer.items() if "value" in parts} == {place: name}
