from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.report.figures import accuracy_figure, primary_resource, ratio_figure, resources_of, value_figure
from netadapt_trt.report.read import read_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _painted(value: Any) -> Any:
    if isinstance(value, str):
        return "#123456" if value.startswith("@") else value
    if isinstance(value, list):
        return [_painted(inner) for inner in value]
    return {key: _painted(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def test_figures_are_valid_plotly(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    objects = pytest.importorskip("plotly.graph_objects")
    run = read_run(write_run(tmp_path / "run"))
    for figure in (accuracy_figure([run], "a"), value_figure(run, "latency", "b"), ratio_figure(run, "latency", "c")):
        assert figure is not None
        objects.Figure(data=_painted(figure.data), layout=_painted(figure.layout))


def test_accuracy_figure_marks_estimates_hollow(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=4, steps=3)
    lines = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    decision = next(line for line in lines if line.get("type") == "decision")
    decision["resources"]["latency"]["measured"] = None
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = accuracy_figure([read_run(path)], "a")
    assert figure is not None
    steps = figure.data[1]
    assert steps["marker"]["symbol"] == ["circle", "circle-open", "circle", "circle"]
    assert "(estimate)" in steps["text"][1]
    assert len(figure.data[0]["x"]) == 12
    # proposals are estimates, in the plot as in the legend
    assert figure.data[0]["marker"]["symbol"] == "circle-open"
    assert ("ring small", "proposal", "proposals, holdout, estimate") in figure.legend


def test_accuracy_figure_fills_what_is_counted(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=2, steps=1, finished=False)
    lines = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    for line in lines:
        if "resources" in line:
            macs = {"estimate": 2e6, "measured": None, "scale": None}
            line["resources"] = {"macs": 1e6 if line["type"] == "proposal" else macs}
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = json.loads((path / "run.json").read_text())
    settings["arguments"]["budgets"] = ["macs=0.5x"]
    (path / "run.json").write_text(json.dumps(settings))
    figure = accuracy_figure([read_run(path)], "a")
    assert figure is not None
    assert [trace["marker"]["symbol"] for trace in figure.data] == ["circle", ["circle", "circle"]]
    assert "(counted)" in figure.data[1]["text"][0]
    assert "estimate" not in figure.caption
    # half of the 2 M of the history's first line
    assert figure.layout["shapes"][0]["x0"] == 1.0


def test_accuracy_figure_shows_an_estimated_result_hollow(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    result = json.loads((path / "result.json").read_text())
    result["adapted"]["latency_ms"]["measured"] = None
    (path / "result.json").write_text(json.dumps(result))
    figure = accuracy_figure([read_run(path)], "a")
    assert figure is not None
    assert [trace["marker"]["symbol"] for trace in figure.data[2:]] == ["diamond", "square", "star-open"]
    assert ("star hollow", "adapted", "adapted after long-term fine-tuning, test set") in figure.legend


def test_figures_leave_room_around_their_marks(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    run = read_run(write_run(tmp_path / "run", groups=4, steps=3))
    for figure in (accuracy_figure([run], "a"), value_figure(run, "latency", "b"), ratio_figure(run, "latency", "c")):
        assert figure is not None
        low, high = figure.layout["xaxis"]["range"]
        marks = [x for trace in figure.data for x in trace["x"]]
        assert low < min(marks)
        assert max(marks) < high
        assert all(trace["cliponaxis"] is False for trace in figure.data)


def test_ratio_figure_holds_the_line_at_one(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=2, steps=2)
    lines = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("type") in ("initial", "decision"):
            line["resources"]["latency"] = {"estimate": 1.0, "measured": 1.5, "scale": 1.4}
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = ratio_figure(read_run(path), "latency", "c")
    assert figure is not None
    low, high = figure.layout["yaxis"]["range"]
    # from 1 to 1.5, with a twentieth of that as margin
    assert (low, high) == (pytest.approx(0.975), pytest.approx(1.525))


def test_accuracy_figure_shows_the_budget_and_the_baseline(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    figure = accuracy_figure([read_run(write_run(tmp_path / "run"))], "a")
    assert figure is not None
    assert figure.layout["shapes"][0]["x0"] == pytest.approx(0.2525)
    assert figure.legend[-1] == ("dash", "muted", "budget the loop aimed at")
    assert [mark for mark, _, _ in figure.legend] == ["line", "ring small", "diamond", "square", "star", "dash"]


def test_accuracy_figure_draws_the_limit_of_the_loop(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    result = json.loads((path / "result.json").read_text())
    result["budgets"][0] |= {"limit": 0.2, "final": {"value": 0.25, "limit": 0.3, "met": True}}
    (path / "result.json").write_text(json.dumps(result))
    figure = accuracy_figure([read_run(path)], "a")
    assert figure is not None
    assert [shape["x0"] for shape in figure.layout["shapes"]] == [0.2]


def test_accuracy_figure_of_several_runs_gives_each_a_colour(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    figure = accuracy_figure([read_run(write_run(tmp_path / name)) for name in "abc"], "a")
    assert figure is not None
    colours = [trace["line"]["color"] for trace in figure.data if "line" in trace]
    assert colours == ["@run1", "@run2", "@run3"]


def test_figures_of_an_empty_history_are_none(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", finished=False)
    (path / "history.jsonl").unlink()
    run = read_run(path)
    assert accuracy_figure([run], "a") is None
    assert value_figure(run, "latency", "b") is None
    assert ratio_figure(run, "latency", "c") is None


def test_resources_put_budgets_first_and_latency_on_the_axis(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    result = json.loads((path / "result.json").read_text())
    result["budgets"] = ["macs=0.5x", "latency=0.5x"]
    (path / "result.json").write_text(json.dumps(result))
    run = read_run(path)
    assert resources_of(run) == ["macs", "latency"]
    assert primary_resource(run) == "latency"


def test_ratio_figure_divides_measured_by_estimate(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    run = read_run(write_run(tmp_path / "run", groups=4, steps=2))
    figure = ratio_figure(run, "latency", "c")
    assert figure is not None
    pair = run.decisions[0]["resources"]["latency"]
    assert figure.data[0]["y"][0] == 1.0
    assert figure.data[0]["y"][1] == pytest.approx(pair["measured"] / pair["estimate"])
