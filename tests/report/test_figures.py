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


def test_accuracy_figure_shows_the_budget_and_the_baseline(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    figure = accuracy_figure([read_run(write_run(tmp_path / "run"))], "a")
    assert figure is not None
    assert figure.layout["shapes"][0]["x0"] == pytest.approx(0.2525)
    assert [mark for mark, _, _ in figure.legend] == ["line", "dot", "diamond", "square", "star", "dash"]


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
