"""Energy budgets on the fake device: its kernels draw 5 W where they compute and 3 W where they wait for memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from netadapt_trt.adapt.run import adapt
from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.backend import load_backend
from netadapt_trt.errors import CoverageError
from netadapt_trt.graph.network import open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.lut.reading import networks_of
from netadapt_trt.lut.store import read_lut
from netadapt_trt.profile.run import profile
from netadapt_trt.report.page import write_report
from netadapt_trt.spec import ModelSpec, parse_budget
from netadapt_trt.training.data import open_data
from netadapt_trt.training.fine_tune import FineTune, fine_tune
from netadapt_trt.zoo.weights import save_weights

if TYPE_CHECKING:
    from pathlib import Path

# The convolutions compute, the linear layer waits for its weights.
FACTORY = """
from torch import nn

def network():
    def unit(inputs, outputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(
        unit(1, 48, 1), unit(48, 48, 1), unit(48, 48, 2), nn.Flatten(), nn.Linear(768, 128), nn.ReLU(), nn.Linear(128, 10)
    )
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> AdaptSettings:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("energy")
    (folder / "net.py").write_text(FACTORY)
    spec = ModelSpec(model=f"{folder / 'net.py'}:network", input_shape=(1, 1, 8, 8))
    network = open_network(spec)
    data = open_data("digits", input_shape=spec.input_shape)
    fine_tune(network.model, data.train, FineTune(steps=60, batch_size=64, learning_rate=0.05))
    save_weights(network.model, folder / "seed.safetensors")
    profile(make_plan(network), load_backend("fake"), folder / "fake.lut.jsonl")
    return AdaptSettings(
        spec=spec,
        data="digits",
        budgets=(parse_budget("energy=0.7x"),),
        output=folder / "none",
        weights=str(folder / "seed.safetensors"),
        lut=folder / "fake.lut.jsonl",
        short_steps=2,
        batch_size=64,
        long_epochs=0.3,
        reduction=0.06,
        uniform=False,
        tensorboard=False,
    )


def run(base: AdaptSettings, output: Path, budget: str) -> dict[str, Any]:
    return adapt(replace(base, output=output, budgets=(parse_budget(budget),))).to_json()


def share(result: dict[str, Any], resource: str) -> float:
    found: float = result["adapted"][resource]["measured"] / result["initial"][resource]["measured"]
    return found


def test_energy_budget_is_met_with_other_widths_than_the_latency_budget_of_equal_cost(
    base: AdaptSettings, tmp_path: Path
) -> None:
    energy = run(base, tmp_path / "energy", "energy=0.7x")
    assert energy["reached"] is True
    assert 0.5 < share(energy, "energy_mj") <= 0.7
    latency = run(base, tmp_path / "latency", f"latency={share(energy, 'latency_ms'):.4f}x")
    assert latency["reached"] is True
    assert latency["adapted"]["widths"] != energy["adapted"]["widths"]
    # What the energy budget leaves draws less power on average: the loop weighed it, not only the time.
    power = [share(result, "energy_mj") / share(result, "latency_ms") for result in (energy, latency)]
    assert power[0] < power[1]
    for result in (energy, latency):
        for name in ("initial", "adapted"):
            assert all(result[name][key]["measured"] > 0 for key in ("latency_ms", "energy_mj"))
            assert all(result[name][key]["estimate"] > 0 for key in ("latency_ms", "energy_mj"))


def test_one_rail_can_be_budgeted_and_shown(base: AdaptSettings, tmp_path: Path) -> None:
    result = run(base, tmp_path / "rail", "energy@FAKE_GPU=0.7x")
    assert result["reached"] is True
    assert result["budgets"][0]["budget"] == "energy@FAKE_GPU=0.7x"
    rail = {name: result[name]["energy_mj"]["rails"]["FAKE_GPU"] for name in ("initial", "adapted")}
    assert rail["adapted"]["measured"] <= 0.7 * rail["initial"]["measured"]
    assert rail["adapted"]["estimate"] == pytest.approx(rail["adapted"]["measured"], rel=0.05)
    assert rail["initial"]["measured"] < result["initial"]["energy_mj"]["measured"]
    write_report([tmp_path / "rail"], tmp_path / "report.html")
    assert "Energy of FAKE_GPU" in (tmp_path / "report.html").read_text()


def test_rails_add_up_to_the_total(base: AdaptSettings) -> None:
    assert base.lut is not None
    lut, plan = read_lut(base.lut), make_plan(open_network(base.spec))
    total = networks_of(lut, plan, "energy")
    rails = [networks_of(lut, plan, f"energy@{rail}") for rail in ("FAKE_GPU", "FAKE_DRAM")]
    assert len(total) > 1
    for (widths, whole), (_, first), (_, second) in zip(total, *rails, strict=True):
        assert first + second == pytest.approx(whole, rel=1e-4), widths


def test_unknown_rail_names_the_known_ones(base: AdaptSettings, tmp_path: Path) -> None:
    with pytest.raises(CoverageError, match=r"no end-to-end energy@VDD_IN .*its rails: FAKE_DRAM, FAKE_GPU"):
        run(base, tmp_path / "none", "energy@VDD_IN=0.7x")
    assert not (tmp_path / "none" / "history.jsonl").exists()
