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
