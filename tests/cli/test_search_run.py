"""``search run`` and ``search child`` as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app
from netadapt_trt.cli.search_run import parse_amount
from netadapt_trt.errors import SpecError
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
    return [
        "search",
        "run",
        "--space",
        str(tmp_path / "space.json"),
        *tables,
        "--data",
        "digits",
        "-o",
        str(tmp_path / "run"),
    ]


def said(text: str) -> str:
    """Without the breaks that a narrow terminal makes."""
    return " ".join(text.split())


def test_search_run_then_child_then_export(start: list[str], tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, [*start, *QUICK, "--alpha", "5", "--gamma", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert len(document["child"]["blocks"]) == 3
    told = said(done.stderr)
    # (1 + 3) / 2 twice and (1 + 3 + 0.1) / 3 ms; vLAT and the rest before anything is trained
    assert f"at the start: LAT {(2 + 2 + 4.1 / 3) / 1e3:.4g} s, ENER" in told
    assert "vLAT" in told
    assert "energy dominance" in told
    assert "latency dominance" in told
    child = runner.invoke(app, ["search", "child", str(tmp_path / "run"), "--sample", "1", "--epochs", "1", "--json"])
    assert child.exit_code == 0, child.output
    first, second = json.loads(child.stdout)["children"]
    assert (first["kind"], second["kind"]) == ("argmax", "sampled")
    assert any(" export " in line for line in first["next"])
    words = first["next"][0].split()[1:]
    exported = runner.invoke(app, [*words, "--json"])
    assert exported.exit_code == 0, exported.output
    record = json.loads((tmp_path / "run" / "children" / "argmax" / "deploy" / "deploy.json").read_text())
    assert record["promise"]["latency_ms"]["estimate"] == first["estimate"]["latency_ms"]
    words = ["search", "child", str(tmp_path / "run"), "--sample", "1", "--epochs", "1", "--export", "--json"]
    again = runner.invoke(app, words)  # trained already: only what is missing is done
    assert again.exit_code == 0, again.output
    for found in json.loads(again.stdout)["children"]:
        onnx = tmp_path / "run" / "children" / found["name"] / "deploy" / "model.onnx"
        assert found["onnx"] == str(onnx)
        assert json.loads(onnx.with_name("deploy.json").read_text())["backend"] == "ort"
    for wrong, told in (
        (["--export", "--no-train"], "leave one of them out"),
        (["--backend", "ort"], "add --export"),
        (["--export", "--backend", "tensorrt"], "unknown backend"),
    ):
        refused = runner.invoke(app, ["search", "child", str(tmp_path / "run"), *wrong])
        assert refused.exit_code == 1
        assert told in said(refused.stderr)


def test_search_run_shows_a_table_and_the_next_command(start: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*start, *QUICK, "--latency-target", "5ms"])
    assert done.exit_code == 0, done.output
    assert "the search sets the knobs by itself" in said(done.stderr)
    assert "target: 5.00 ms; the child needs" in done.stdout
    assert f"netadapt-trt search child {tmp_path / 'run'}" in done.stdout
    shown = CliRunner().invoke(app, ["search", "child", str(tmp_path / "run"), "--no-train"])
    assert shown.exit_code == 0
    assert "argmax" in shown.stdout
    assert not (tmp_path / "run" / "children").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--beta", "-1"], "would reward slow networks"),
        (["--alpha", "1e30", "--beta", "0", "--gamma", "1e40"], "gamma"),
        (["--alpha", "1", "--latency-target", "4ms"], "leave --alpha out"),
        (["--latency-target", "4 miles"], "write a number with s, ms, us"),
        (["--latency-target", "1us"], "no child of this space meets"),
        (["--space", "fbnet-smal"], "did you mean fbnet-small"),
        (["--data", "digit"], "nearest: digits"),
    ],
)
def test_search_run_says_what_does_not_fit(start: list[str], tmp_path: Path, more: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [*start, *more])
    assert done.exit_code == 1
    assert words in said(done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_search_run_refuses_two_targets_that_no_child_meets_at_once(start: list[str], tmp_path: Path) -> None:
    """What is fast spends much: k3 k3 skip takes 2.1 ms and 8.2 mJ, k5 k5 skip 6.1 ms and 4.2 mJ."""
    (tmp_path / "energy.txt").write_text("0.004 0.002 0\n0.004 0.002 0\n0.004 0.002 0.0002\n")
    done = CliRunner().invoke(app, [*start, *QUICK, "--latency-target", "3ms", "--energy-target", "5mJ"])
    assert done.exit_code == 1
    assert "at once, though each alone can be met" in said(done.stderr)
    # Within 5 mJ both must be k5, within 3 ms both k3.
    assert "the least latency within the energy target is 6.1 ms, the least energy within" in said(done.stderr)
    assert "latency target 8.2 mJ" in said(done.stderr)
    assert not (tmp_path / "run").exists()


def test_search_run_without_anything_says_what_it_needs() -> None:
    done = CliRunner().invoke(app, ["search", "run"])
    assert done.exit_code == 1
    assert "--space fbnet-small --table FILE --data digits -o runs/search" in said(done.stderr)


def test_search_run_refuses_a_second_start(start: list[str], tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, [*start, *QUICK]).exit_code == 0
    again = runner.invoke(app, [*start, *QUICK])
    assert again.exit_code == 1
    assert "already holds a run" in said(again.stderr)
    resumed = runner.invoke(app, ["search", "run", "--resume", str(tmp_path / "run"), "--json"])
    assert resumed.exit_code == 0
    other = runner.invoke(app, ["search", "run", "--resume", str(tmp_path / "run"), "--alpha", "3"])
    assert other.exit_code == 1
    assert "alpha cannot change" in said(other.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_search_run_interrupted_saves_and_goes_on(start: list[str], tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "netadapt_trt",
        *start,
        *QUICK,
        "--epochs",
        "500",
        "--temperature-decay",
        "0.999",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "COLUMNS": "400"}
    )
    deadline = time.monotonic() + 120
    while not (run / "theta" / "epoch-002.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"netadapt-trt search run --resume {run} goes on" in told
    assert (run / "checkpoint.safetensors").is_file()
    assert len((run / "history.jsonl").read_text().splitlines()) >= 3


@pytest.mark.parametrize(
    ("text", "unit", "value"), [("4ms", "ms", 4.0), ("0.5 s", "ms", 500.0), ("750us", "ms", 0.75), (".002J", "mJ", 2.0)]
)
def test_parse_amount_reads_units(text: str, unit: str, value: float) -> None:
    assert parse_amount(text, unit, option="--x") == pytest.approx(value)


@pytest.mark.parametrize("text", ["4", "4mJ", "-4ms", "ms", "1e3ms", "4ms 5ms"])
def test_parse_amount_refuses_the_rest(text: str) -> None:
    with pytest.raises(SpecError, match="as --x 4ms"):
        parse_amount(text, "ms", option="--x")
