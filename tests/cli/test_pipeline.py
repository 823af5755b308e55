"""All verbs in a row as a user would call them, on the fake device; and what they say to bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app

if TYPE_CHECKING:
    from typer.testing import Result

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORK = [f"{EXAMPLES / 'user_network.py'}:small_net", "--model-arg", "width=64", "--input", "1x3x16x16"]
LOOP = ["--reduction", "0.1", "--short-steps", "1", "--long-epochs", "0", "--batch-size", "64", "--no-tensorboard"]


def call(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


def document(*words: object, status: int = 0) -> Any:
    return json.loads(call(*words, "--json", status=status).stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plan, weights and table of the example network."""
    made = tmp_path_factory.mktemp("pipeline")
    planned = document("plan", *NETWORK, "-o", made / "net.plan.json")
    assert planned["params"] > 0
    trained = document("train", *NETWORK, "--data", "digits", "--epochs", "1", "-o", made / "seed.safetensors")
    assert 0 <= trained["accuracy"] <= 1
    profiled = document("profile", made / "net.plan.json", "--backend", "fake", "--lut", made / "fake.lut.jsonl")
    assert profiled["missing"] == 0
    return made


def adapt_words(folder: Path, run: Path, *more: object) -> list[object]:
    return [
        *("adapt", *NETWORK, "--weights", folder / "seed.safetensors", "--data", "digits"),
        *("--lut", folder / "fake.lut.jsonl", *LOOP, "-o", run, *more),
    ]


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    result = document(*adapt_words(folder, folder / "run", "--budget", "latency=0.8x"))
    assert result["adapted"]["latency_ms"]["measured"] <= 0.8 * result["initial"]["latency_ms"]["measured"]
    assert result["reached"]
    return folder / "run"


def test_adapt_leaves_a_result_with_the_contract_s_keys(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    for name in ("initial", "adapted", "uniform"):
        assert {"accuracy", "latency_ms", "energy_mj", "params", "macs", "memory_bytes", "size_bytes"} <= set(result[name])
    assert {"model", "backend", "precision", "device", "budgets", "iterations", "seconds"} <= set(result)


def test_adapt_of_a_finished_run_shows_it_again(run: Path) -> None:
    before = (run / "result.json").read_bytes()
    shown = document("adapt", "--resume", run)
    assert (run / "result.json").read_bytes() == before
    assert shown == {**json.loads(before), "run": str(run)}


def test_export_and_bench_keep_the_promise_in_sight(folder: Path, run: Path) -> None:
    exported = document("export", run, "--backend", "fake", "-o", folder / "deploy" / "model.onnx")
    assert exported["check"]["relative_error"] <= exported["check"]["tolerance"]
    timed = document("bench", folder / "deploy" / "model.onnx", "--backend", "fake", "-o", folder / "deploy" / "bench.json")
    (row,) = timed["artifacts"]
    assert row["estimate_ms"] is not None
    assert row["latency_ms"]["median"] > 0


def test_a_network_keeps_the_normalisation_it_was_trained_with(folder: Path) -> None:
    """The record beside the weights goes before the data set's own, and whatever is done with the network says so."""
    weights, odd = folder / "odd.safetensors", {"mean": [0.9] * 3, "std": [0.05] * 3}
    trained = document(
        *("train", *NETWORK, "--data", "digits", "--normalize", "0.9/0.05", "--epochs", "1", "-o", weights),
    )
    words = adapt_words(folder, folder / "odd-run", "--budget", "latency=0.8x", "--no-uniform", "--weights", weights)
    adapted = call(*words)
    assert "inputs are normalised by 0.9/0.05" in adapted.stderr
    kept = json.loads((folder / "odd-run" / "run.json").read_text())
    assert kept["arguments"]["normalize"] == "0.9/0.05"
    assert odd.items() <= kept["preprocessing"].items()
    result = json.loads((folder / "odd-run" / "result.json").read_text())
    assert result["initial"]["accuracy"] == pytest.approx(trained["accuracy"], abs=0.01)

    again = document("train", *NETWORK, "--weights", weights, "--data", "digits", "--epochs", "0.1", "-o", folder / "x.safetensors")  # fmt: skip # noqa: E501
    assert odd.items() <= again["preprocessing"].items()
    sources: dict[str, list[str | Path]] = {
        "of-run": [folder / "odd-run"],
        "by-name": [*NETWORK, "--weights", weights, "--data", "digits"],
        "without-data": [*NETWORK, "--weights", weights],
    }
    for name, source in sources.items():
        document("export", *source, "--backend", "fake", "--samples", "2", "-o", folder / name)
        assert odd.items() <= json.loads((folder / name / "deploy.json").read_text())["preprocessing"].items()


def test_power_source_that_is_not_there_is_told_before_the_first_cell(folder: Path) -> None:
    lut = folder / "none.lut.jsonl"
    told = call("profile", folder / "net.plan.json", "--backend", "ort", "--power", "bogus", "--lut", lut, status=1)
    assert "no power source is called 'bogus'" in told.stderr
    assert not lut.exists()


def test_report_is_written(folder: Path, run: Path) -> None:
    written = document("report", run, "-o", folder / "report.html")
    assert Path(written["output"]).read_text().lstrip().lower().startswith("<!doctype html>")


def test_results_are_shown_to_people(folder: Path, run: Path) -> None:
    shown = call("adapt", "--resume", run).stdout
    assert "uniform" in shown
    assert re.search(
        r"^latency=0\.8x: in the loop 0\.\d+ of 0\.\d+ ms, met; final timing 0\.\d+ of 0\.\d+ ms, m", shown, re.M
    )
    assert "measured under" in call("lut", "show", folder / "fake.lut.jsonl").stdout.lower()
    assert "covered" in call("lut", "check", folder / "fake.lut.jsonl", "--plan", folder / "net.plan.json").stdout
    assert "cells measured" in call("profile", folder / "net.plan.json", "--backend", "fake", "--lut", folder / "fake.lut.jsonl").stdout  # fmt: skip # noqa: E501
    assert "Channel groups" in call("plan", *NETWORK, "-o", folder / "again.plan.json").stdout
    assert "largest error" in call("export", run, "--backend", "fake", "-o", folder / "again.onnx").stdout
    assert "estimate ms" in call("bench", folder / "again.onnx", "--backend", "fake", "-o", folder / "again.json").stdout
    assert "What works here" in call("doctor").stdout


def test_a_budget_out_of_reach_ends_with_1_and_the_best_network(folder: Path) -> None:
    words = adapt_words(folder, folder / "far", "--budget", "latency=0.3x", "--max-iterations", "1", "--no-uniform")
    result = document(*words, status=1)
    assert not result["reached"]
    assert (folder / "far" / "adapted" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "zoo:mobilnet_v1", "--input", "1x3x16x16", "-o", "x"], "mobilenet_v1"),
        (["plan", "torchvision:resnet18", "-o", "x"], "--input"),
        (["plan", "torchvision:resnet18", "--input", "big", "-o", "x"], "1x3x224x224"),
        (["profile", "absent.plan.json", "--lut", "x"], "absent.plan.json does not exist"),
        (["profile", "absent.plan.json", "--lut", "x", "--backend", "orr"], "did you mean ort"),
        (["lut", "show", "absent.jsonl"], "does not exist"),
        (["train", *NETWORK, "-o", "x.safetensors"], "--data"),
        (["train", *NETWORK, "--data", "digit", "-o", "x.safetensors"], "digits"),
        (["adapt"], "MODEL"),
        (["adapt", *NETWORK, "--data", "digits", "-o", "x", "--budget", "speed=2"], "latency"),
        (["adapt", *NETWORK, "--data", "digits", "-o", "x", "--budget", "latency=0.5x"], "--lut"),
        (
            ["adapt", *NETWORK, "--data", "digits", "--budget", "macs=0.5x"],
            "a directory for the run; add for example -o runs/",
        ),
        (["adapt", *NETWORK], "add for example --data digits -o runs/first --budget latency=0.6x"),
        (["adapt", "--resume", "absent"], "not a run directory"),
        (["export", "absent", "-o", "x.onnx"], "neither a directory nor a model"),
        (["bench", "absent.onnx"], "there is no file"),
        (["report", "absent"], "absent"),
    ],
)
def test_bad_input_gets_a_message(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*words, status=1)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_resume_refuses_what_would_change_decisions(run: Path) -> None:
    assert "reduction" in call("adapt", "--resume", run, "--reduction", "0.2", status=1).stderr


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_finishes(folder: Path) -> None:
    run = folder / "interrupted"
    words = [
        str(word) for word in adapt_words(folder, run, "--budget", "latency=0.75x", "--short-steps", "12", "--no-uniform")
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "netadapt_trt", *words], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    history = run / "history.jsonl"
    while process.poll() is None and not (history.is_file() and '"proposal"' in history.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors.decode()
    assert b"saved" in errors
    before = history.read_text()
    assert document("adapt", "--resume", run)["reached"]
    assert history.read_text().startswith(before.rsplit("\n", 1)[0])


def test_lut_validate_says_what_came_out(folder: Path, tmp_path: Path) -> None:
    words = ("lut", "validate", folder / "fake.lut.jsonl", "--plan", folder / "net.plan.json", "--networks", 3)
    text = call(*words, "-o", tmp_path / "kept.json").stdout
    for part in ("Held-out networks", "MAPE", "Spearman", "drift", "worst is network", "layers timed alone", "written"):
        assert part in text
    assert json.loads((tmp_path / "kept.json").read_text())["format"] == "netadapt-validation"


def test_lut_validate_is_the_same_by_model(folder: Path) -> None:
    common = ("lut", "validate", folder / "fake.lut.jsonl", "--networks", 2, "--isolated", 0)
    by_model = document(*common, "--model", *NETWORK)
    assert by_model["networks"] == document(*common, "--plan", folder / "net.plan.json")["networks"]
    assert by_model["isolated_sum_mape"] is None


def test_lut_validate_refuses_in_words(folder: Path, tmp_path: Path) -> None:
    lut, plan = folder / "fake.lut.jsonl", ("--plan", folder / "net.plan.json")
    assert "either --plan FILE, or --model MODEL" in call("lut", "validate", lut, status=1).stderr
    both = call("lut", "validate", lut, *plan, "--model", NETWORK[0], status=1)
    assert "either --plan FILE, or --model MODEL" in both.stderr
    call("lut", "validate", lut, *plan, "--networks", 0, status=2)
    other, empty = tmp_path / "other.lut.jsonl", tmp_path / "empty.lut.jsonl"
    other.write_text(lut.read_text().replace('"fake-device"', '"Orin"', 1))
    failed = document("lut", "validate", other, *plan, status=1)
    assert failed["error"] == "IdentityError"
    assert "device: the LUT has 'Orin', here it is 'fake-device'" in failed["message"]
    empty.write_text("".join(lut.read_text().splitlines(keepends=True)[:2]))
    assert "netadapt-trt profile" in call("lut", "validate", empty, *plan, status=1).stderr


def test_lut_validate_interrupted_keeps_nothing_and_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netadapt_trt.measure.stopwatch.time_interleaved", interrupt)
    words = ("lut", "validate", folder / "fake.lut.jsonl", "--plan", folder / "net.plan.json", "-o", tmp_path / "never.json")
    assert "nothing of it is kept" in call(*words, status=130).stderr
    assert not (tmp_path / "never.json").exists()
