"""The whole loop for real: a tiny network, the embedded digits, the fake device."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from netadapt_trt.adapt.run import adapt, resume
from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.backend import load_backend
from netadapt_trt.errors import BudgetError, CoverageError, FileFormatError, SpecError
from netadapt_trt.graph.network import load_network, open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.profile.run import profile
from netadapt_trt.spec import ModelSpec, parse_budget
from netadapt_trt.training.data import open_data
from netadapt_trt.training.evaluate import evaluate
from netadapt_trt.training.fine_tune import FineTune, fine_tune
from netadapt_trt.zoo.weights import save_weights

FACTORY = """
from torch import nn

def network():
    def unit(inputs, outputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(
        unit(1, 24, 1), unit(24, 32, 2), unit(32, 48, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)
    )
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> AdaptSettings:
    """Settings of a run on a seed network that knows the digits, profiled on the fake device."""
    folder = tmp_path_factory.mktemp("seed")
    (folder / "tiny.py").write_text(FACTORY)
    spec = ModelSpec(model=f"{folder / 'tiny.py'}:network", input_shape=(1, 1, 8, 8))
    network = open_network(spec)
    data = open_data("digits", input_shape=spec.input_shape)
    fine_tune(network.model, data.train, FineTune(steps=120, batch_size=64, learning_rate=0.05))
    save_weights(network.model, folder / "seed.safetensors")
    profile(make_plan(network), load_backend("fake"), folder / "fake.lut.jsonl")
    return AdaptSettings(
        spec=spec,
        data="digits",
        budgets=(parse_budget("latency=0.7x"),),
        output=folder,
        weights=str(folder / "seed.safetensors"),
        lut=folder / "fake.lut.jsonl",
        short_steps=5,
        batch_size=64,
        long_epochs=1.0,
        long_seeds=2,
        tensorboard=False,
    )


@pytest.fixture(scope="module")
def finished(base: AdaptSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[AdaptSettings, dict[str, Any]]:
    chosen = replace(base, output=tmp_path_factory.mktemp("run"), tensorboard=True)
    result = adapt(chosen)
    assert result.to_json() == {
        key: value for key, value in json.loads(result.path.read_text()).items() if key not in ("format", "version")
    }
    return chosen, result.to_json()


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_adapt_meets_a_measured_budget(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    _, result = finished
    assert result["reached"] is True
    share = result["adapted"]["latency_ms"]["measured"] / result["initial"]["latency_ms"]["measured"]
    assert 0.5 < share <= 0.7
    assert result["adapted"]["params"] < result["initial"]["params"]
    assert result["uniform"]["latency_ms"]["measured"] <= result["adapted"]["latency_ms"]["measured"]


def test_result_has_the_contract_keys(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    _, result = finished
    top = {"model", "backend", "precision", "device", "budgets", "iterations", "seconds", "initial", "adapted", "uniform"}
    assert top <= result.keys()
    assert {"profile", "search", "fine_tune", "evaluate", "long_term", "total"} <= result["seconds"].keys()
    for name in ("initial", "adapted", "uniform"):
        block = result[name]
        assert {"accuracy", "latency_ms", "energy_mj", "params", "macs", "memory_bytes", "size_bytes"} <= block.keys()
        assert {"estimate", "measured"} <= block["latency_ms"].keys()
        assert {"estimate", "measured"} <= block["energy_mj"].keys()
        assert 0 <= block["accuracy"] <= 1
    assert (result["backend"], result["device"]) == ("fake", "fake-device")
    assert result["long_term_seeds"]["adapted"]["stdev"] is not None


def test_history_tells_every_decision(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    settings, result = finished
    lines = history(settings.output)
    assert lines[0] == {"format": "netadapt-history", "version": 1}
    decisions = [line for line in lines if line.get("type") == "decision"]
    assert [line["iteration"] for line in decisions] == list(range(1, result["iterations"] + 1))
    for line in decisions:
        assert line["resources"]["latency"]["estimate"] <= line["targets"]["latency"]
        assert line["resources"]["latency"]["measured"] > 0
        assert (settings.output / f"iter-{line['iteration']:03d}" / "weights.safetensors").is_file()
    assert not list(settings.output.glob("iter-*/proposals"))
    assert [line["reached"] for line in lines if line.get("type") == "end"] == [True]


def test_adapted_network_is_the_one_described(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    settings, result = finished
    network = load_network(settings.output / "adapted")
    assert dict(network.widths) == result["adapted"]["widths"]
    data = open_data("digits", input_shape=settings.spec.input_shape)
    seeds = result["long_term_seeds"]["adapted"]["accuracy"]
    assert evaluate(network.model, data.test) == pytest.approx(seeds[0])
    assert result["adapted"]["accuracy"] == pytest.approx(sum(seeds) / 2)


def test_resume_of_a_finished_run_changes_nothing(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    settings, result = finished
    before = (settings.output / "history.jsonl").read_bytes()
    assert resume(settings.output).to_json() == result
    assert (settings.output / "history.jsonl").read_bytes() == before


def test_adapt_refuses_to_write_over_a_run(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    with pytest.raises(FileFormatError, match="--resume"):
        adapt(finished[0])


def test_resume_refuses_to_change_decisions(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    with pytest.raises(SpecError, match="winner cannot change"):
        resume(finished[0].output, overrides={"winner": "paper"})


def test_unreachable_budget_finishes_the_best_network_and_says_how_far(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = replace(base, output=tmp_path, budgets=(parse_budget("params=0.001x"),), short_steps=0, long_epochs=0.0)
    chosen = replace(chosen, reduction=0.4, uniform=False)
    with pytest.raises(BudgetError, match=r"params came from \d+ to \d+, the budget is") as raised:
        adapt(chosen)
    assert "no channel group can shrink any further" in str(raised.value)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["reached"] is False
    assert set(result["adapted"]["widths"].values()) == {8}
    assert result["uniform"] is None


def test_iteration_limit_ends_and_can_be_raised(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = replace(base, output=tmp_path, short_steps=0, long_epochs=0.0, uniform=False, max_iterations=1, long_seeds=1)
    with pytest.raises(BudgetError, match="limit of 1 iterations"):
        adapt(chosen)
    assert resume(tmp_path, overrides={"max_iterations": 100}).reached


def test_lut_that_lacks_this_network_is_said_before_anything_is_written(base: AdaptSettings, tmp_path: Path) -> None:
    assert base.lut is not None
    header = base.lut.read_text().splitlines()[0]
    (tmp_path / "empty.lut.jsonl").write_text(header + "\n")
    with pytest.raises(CoverageError, match="netadapt-trt profile"):
        adapt(replace(base, output=tmp_path / "run", lut=tmp_path / "empty.lut.jsonl"))
    assert not (tmp_path / "run").exists()


def test_measured_figure_from_a_device_sends_a_finished_run_on(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = replace(base, output=tmp_path / "run", measure=False, short_steps=0, long_epochs=0.0, uniform=False)
    chosen = replace(chosen, budgets=(parse_budget("latency=0.9x"),))
    first = adapt(chosen).to_json()
    assert first["adapted"]["latency_ms"]["measured"] is None
    plan_hash, identity = _device(chosen)
    limit = first["budgets"][0]["limit"]
    entry = {"plan_hash": plan_hash, "widths": first["adapted"]["widths"], "latency_ms": {"median": limit * 1.03}}
    bench = {"format": "netadapt-bench", "version": 1, "identity": identity, "artifacts": [entry]}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    second = resume(chosen.output, overrides={"measured": tmp_path / "bench.json"}).to_json()
    assert second["iterations"] > first["iterations"]
    assert second["adapted"]["latency_ms"]["estimate"] <= limit
    assert second["adapted"]["macs"] < first["adapted"]["macs"]


def _device(settings: AdaptSettings) -> tuple[str, dict[str, Any]]:
    from netadapt_trt.lut.store import read_lut
    from netadapt_trt.plan.store import load_plan, plan_hash

    assert settings.lut is not None
    return plan_hash(load_plan(settings.output / "plan.json")), read_lut(settings.lut).identity.to_json()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_runs_decide_the_same_with_one_and_two_workers() -> None:
    tool = Path(__file__).parents[2] / "tools" / "bench_resume.py"
    done = subprocess.run(
        [sys.executable, str(tool), "--kills", "2", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["same"] is True
