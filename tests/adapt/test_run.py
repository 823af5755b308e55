"""The whole loop for real: a tiny network, the embedded digits, the fake device."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.adapt.run import adapt, resume
from netadapt_trt.errors import BudgetError, CoverageError, DataError, FileFormatError, SpecError, WorkerError
from netadapt_trt.graph.network import load_network
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import parse_budget
from netadapt_trt.training.data import open_data
from netadapt_trt.training.evaluate import evaluate

if TYPE_CHECKING:
    from netadapt_trt.adapt.settings import AdaptSettings


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


def test_result_judges_the_budget_in_the_final_timing_too(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    settings, result = finished
    (timed,) = (line["networks"] for line in history(settings.output) if line.get("type") == "final")
    value, limit = timed["adapted"]["latency_ms"]["median"], 0.7 * timed["initial"]["latency_ms"]["median"]
    (budget,) = result["budgets"]
    assert budget["final"] == {"value": value, "limit": pytest.approx(limit), "met": value <= limit}
    assert budget["achieved"] <= budget["limit"]


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
    before = {path: path.read_bytes() for path in settings.output.rglob("*") if path.is_file()}
    assert resume(settings.output).to_json() == result
    assert {path: path.read_bytes() for path in settings.output.rglob("*") if path.is_file()} == before


def test_adapt_refuses_to_write_over_a_run(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    with pytest.raises(FileFormatError, match="--resume"):
        adapt(finished[0])


def test_resume_refuses_to_change_decisions(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    with pytest.raises(SpecError, match="winner cannot change"):
        resume(finished[0].output, overrides={"winner": "paper"})


def test_unreachable_budget_finishes_the_best_network_and_says_how_far(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = replace(base, output=tmp_path, budgets=(parse_budget("params=0.001x"),), short_steps=0, long_epochs=0.0)
    chosen = replace(chosen, reduction=0.4, uniform=False)
    with pytest.raises(BudgetError, match=r"params came from 21\.55 k parameters to 1\.338 k parameters, the bud") as raised:
        adapt(chosen)
    assert "no channel group can shrink any further" in str(raised.value)
    assert "every group is at its minimum width; a new run needs a larger budget or a smaller --granularity (now 8)" in str(
        raised.value
    )
    assert "--reduction" not in str(raised.value)
    assert "--max-iterations" not in str(raised.value)
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


def test_seconds_of_measuring_are_those_of_all_its_lines(finished: tuple[AdaptSettings, dict[str, Any]]) -> None:
    settings, result = finished
    spent = {
        kind: [line["seconds"]["measure"] for line in history(settings.output) if line.get("type") == kind]
        for kind in ("decision", "uniform", "final")
    }
    assert {kind: len(seconds) for kind, seconds in spent.items()} == {
        "decision": result["iterations"],
        "uniform": 1,
        "final": 1,
    }
    assert result["seconds"]["measure"] == pytest.approx(sum(sum(seconds) for seconds in spent.values()), abs=0.001)


def test_result_names_extrapolated_layers(base: AdaptSettings, tmp_path: Path) -> None:
    assert base.lut is not None
    lines = base.lut.read_text().splitlines()
    # Of the pooling layer, only what the two widest of its widths cost is known: 48 and 40 channels.
    known = [line for line in lines if 'GlobalAveragePool(x0)=y0"' not in line or json.loads(line)["widths"][0] >= 40]
    (tmp_path / "wide.lut.jsonl").write_text("\n".join(known) + "\n")
    notes = Notes()
    chosen = replace(base, output=tmp_path / "run", lut=tmp_path / "wide.lut.jsonl", short_steps=0, long_epochs=0.0)
    chosen = replace(chosen, long_seeds=1, uniform=False, budgets=(parse_budget("latency=0.65x"),), reduction=0.1)
    result = adapt(chosen, progress=notes).to_json()
    last = [line for line in history(tmp_path / "run") if line.get("type") == "decision"][-1]
    assert last["extrapolated"]
    assert result["adapted"]["extrapolated"] == last["extrapolated"]
    assert result["initial"]["extrapolated"] == []
    told = [line for line in notes.lines if "beyond what the LUT measured" in line]
    decided = [line for line in history(tmp_path / "run") if line.get("extrapolated")]
    assert [line.partition(":")[0] for line in told] == [f"iteration {line['iteration']}" for line in decided]
    assert f"{len(last['extrapolated'])} layers" in told[-1]
    assert last["extrapolated"][0][:45] in told[-1]


class Notes(QuietProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


def test_diverged_proposals_are_never_adopted(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = replace(base, output=tmp_path, short_steps=1, short_learning_rate=1e30)
    with pytest.raises(WorkerError, match=r"no longer finite after step 1 of 1.*start a new run, with a lower --short"):
        adapt(chosen)
    kinds = {line.get("type") for line in history(tmp_path)}
    assert "failure" in kinds
    assert not kinds & {"proposal", "decision"}


def test_networks_with_too_few_outputs_are_refused_before_anything_is_written(base: AdaptSettings, tmp_path: Path) -> None:
    (tmp_path / "five.py").write_text(
        "from torch import nn\n\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))\n"
    )
    spec = replace(base.spec, model=f"{tmp_path / 'five.py'}:network")
    chosen = replace(base, spec=spec, weights=None, lut=None, budgets=(parse_budget("macs=0.5x"),), output=tmp_path / "run")
    with pytest.raises(DataError, match="the network has 5 outputs, the data has labels up to 9"):
        adapt(chosen)
    assert not chosen.output.exists()


@pytest.mark.parametrize("device", ["cuda:99", "foo"])
def test_devices_that_are_not_here_are_refused_before_anything_is_written(
    base: AdaptSettings, tmp_path: Path, device: str
) -> None:
    with pytest.raises(SpecError, match=f"no device '{device}' here; choose one of: cpu"):
        adapt(replace(base, output=tmp_path / "run", devices=(device,)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_runs_decide_the_same_with_one_and_two_workers() -> None:
    tool = Path(__file__).parents[2] / "tools" / "bench_resume.py"
    done = subprocess.run(
        [sys.executable, str(tool), "--kills", "2", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["same"] is True
    assert [run["kills"] for run in found["runs"]] == [2]
