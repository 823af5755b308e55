"""A run that costs seconds: a tiny network that knows the embedded digits, profiled on the fake device."""

from __future__ import annotations

import pytest
import torch

from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.backend import load_backend
from netadapt_trt.graph.network import open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.profile.run import profile
from netadapt_trt.spec import ModelSpec, parse_budget
from netadapt_trt.training.data import open_data
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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
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
