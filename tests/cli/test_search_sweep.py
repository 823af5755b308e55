"""``search sweep`` and the report of it, as a user calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import save_space

if TYPE_CHECKING:
    from pathlib import Path

SPACE = Space(
    name="tiny",
    input_shape=(1, 8, 8),
    num_classes=10,
    stem=Stem(channels=8, stride=2),
    stages=(Stage(8, 1, 1), Stage(12, 2, 2)),
    blocks=(Block("k3_e1", 3, 1), Block("k5_e2", 5, 2)),
    head_channels=16,
)
QUICK = ["--epochs", "2", "--warmup-epochs", "1", "--batch-size", "256", "--paths", "sampled", "--no-tensorboard"]


@pytest.fixture
def start(tmp_path: Path) -> list[str]:
    save_space(SPACE, tmp_path / "space.json")
    (tmp_path / "latency.txt").write_text("0.001 0.003 0\n0.001 0.003 0\n0.001 0.003 0.0001\n")
    (tmp_path / "energy.txt").write_text("0.002 0.004 0\n0.002 0.004 0\n0.002 0.004 0.0002\n")
    tables = ["--table", str(tmp_path / "latency.txt"), "--table", str(tmp_path / "energy.txt")]
    space = ["--space", str(tmp_path / "space.json")]
    return ["search", "sweep", *space, *tables, "--data", "digits", "-o", str(tmp_path / "sweep")]


def said(text: str) -> str:
    """Without the breaks that a narrow terminal makes."""
    return " ".join(text.split())


def test_sweep_goes_on_and_is_drawn(start: list[str], tmp_path: Path) -> None:
    runner = CliRunner()
    grid = ["--alpha", "1,20", "--gamma", "2"]
    done = runner.invoke(app, [*start, *QUICK, *grid, "--no-train", "--backend", "fake", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert [run["knobs"]["alpha"] for run in content["runs"]] == [1.0, 20.0]
    assert all(run["measured"]["latency_ms"]["median"] > 0 for run in content["runs"])

    again = runner.invoke(app, ["search", "sweep", "--resume", str(tmp_path / "sweep"), "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["runs"] == content["runs"]
    shown = runner.invoke(app, ["search", "sweep", "--resume", str(tmp_path / "sweep")])
    assert "results.json" in shown.stdout
    assert "measured: same graph, fresh weights, fp32 (trained weights take the same time)" in said(shown.stdout)

    # What was not trained so far would be trained otherwise than was asked: never silently.
    for more, name in (
        (["--train", "--child-epochs", "3"], "leave out --child-epochs, --train, which cannot change"),
        (["--no-train"], "leave out --train"),
        (["--child-batch-size", "64"], "leave out --child-batch-size"),
        (["--child-learning-rate", "0.05"], "leave out --child-learning-rate"),  # also what is the default
        (["--table", "a.lut.jsonl"], "leave out --table,"),
    ):
        refused = runner.invoke(app, ["search", "sweep", "--resume", str(tmp_path / "sweep"), *more])
        assert refused.exit_code == 1
        assert name in said(refused.stderr)

    pytest.importorskip("jinja2")
    drawn = runner.invoke(app, ["report", str(tmp_path / "sweep"), "-o", str(tmp_path / "page.html")])
    assert drawn.exit_code == 0, drawn.output
    assert "What alpha and beta did" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--alpha", "1,two"], "--alpha '1,two' is no list of numbers"),
        (["--beta=-1"], "below 0 it would reward slow networks"),
        (["--alpha", "1", "--knobs", "grid.json"], "--knobs names every point of the grid; leave out --alpha"),
        (["--knobs", "nowhere.json"], "nowhere.json does not exist"),
        (["--alpha", "1e60"], "no search can learn from that"),
    ],
)
def test_grid_that_makes_no_sense_is_said_before_anything(
    more: list[str], message: str, start: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*start, *QUICK, *more])
    assert done.exit_code == 1, done.output
    assert message in said(done.stderr)
    assert "Traceback" not in done.output
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_what_a_sweep_needs_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["search", "sweep", "--space", "fbnet-small"])
    assert done.exit_code == 1
    assert "search sweep needs a table of what blocks cost and data to train on and a directory" in said(done.stderr)
    other = CliRunner().invoke(app, ["search", "sweep", "--resume", str(tmp_path), "--alpha", "1"])
    assert other.exit_code == 1
    assert "leave out --alpha" in said(other.stderr)
    none = CliRunner().invoke(app, ["search", "sweep", "--resume", str(tmp_path)])
    assert "is not a sweep" in said(none.stderr)


def test_usual_grid_of_a_table_that_changed_is_refused_by_the_tables_name(start: list[str], tmp_path: Path) -> None:
    quick = [*start, *QUICK, "--no-train"]
    knobs = tmp_path / "knobs.json"
    knobs.write_text('[{"alpha": 1}]')
    assert CliRunner().invoke(app, [*quick, "--knobs", str(knobs)]).exit_code == 0

    (tmp_path / "latency.txt").write_text("0.002 0.003 0\n0.001 0.003 0\n0.001 0.003 0.0001\n")
    other = CliRunner().invoke(app, quick)
    assert other.exit_code == 1
    assert "the table " in said(other.stderr)
    assert "latency.txt changed since the sweep" in said(other.stderr)
    (tmp_path / "latency.txt").unlink()
    gone = CliRunner().invoke(app, quick)
    assert gone.exit_code == 1
    assert f"--resume {tmp_path / 'sweep'}" in "".join(gone.stderr.split("\n")).replace("  ", " ")
    assert "Traceback" not in other.output + gone.output


def test_settings_of_the_searches_are_those_of_search_run(start: list[str], tmp_path: Path) -> None:
    asked = ["--momentum", "0.5", "--weight-decay", "0.01", "--theta-start", "0.25", "--gradient-clip", "2"]
    done = CliRunner().invoke(app, [*start, *QUICK, *asked, "--alpha", "1", "--no-train"])
    assert done.exit_code == 0, done.output
    [run] = (tmp_path / "sweep").glob("001-*/run.json")
    arguments = json.loads(run.read_text())["arguments"]
    found = {name: arguments[name] for name in ("momentum", "weight_decay", "theta_start", "gradient_clip")}
    assert found == {"momentum": 0.5, "weight_decay": 0.01, "theta_start": 0.25, "gradient_clip": 2.0}
    refused = CliRunner().invoke(app, ["search", "sweep", "--resume", str(tmp_path / "sweep"), "--momentum", "0.5"])
    assert "leave out --momentum, which cannot change" in said(refused.stderr)


def test_every_setting_of_search_run_but_targets_is_one_of_search_sweep() -> None:
    from inspect import signature

    from netadapt_trt.cli import search_run, search_sweep

    run, sweep = (set(signature(module.run).parameters) for module in (search_run, search_sweep))
    assert run - sweep == {"latency_target", "energy_target"}
