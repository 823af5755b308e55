"""Expected costs over real tables: HANNA's, as it was published, and one that the profiler measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from netadapt_trt.backend import load_backend
from netadapt_trt.profile.space import profile_space
from netadapt_trt.search.cost import ExpectedCost
from netadapt_trt.space.store import load_space
from netadapt_trt.space.table import SpaceTable, read_tables

PI = Path(__file__).parents[2] / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"


@pytest.fixture(scope="module", params=["hanna", "measured"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpaceTable:
    if request.param == "hanna":
        return read_tables(load_space("fbnet-cifar"), [PI])
    space, lut = load_space("fbnet-small"), tmp_path_factory.mktemp("measured") / "small.lut.jsonl"
    profile_space(space, load_backend("fake"), lut)
    return read_tables(space, [lut])


def test_one_hot_is_the_tables_sum_and_slopes_are_its_entries(table: SpaceTable) -> None:
    cost, draw = ExpectedCost(table), np.random.default_rng(0)
    for _ in range(50):
        choice = tuple(int(draw.choice(place.candidates)) for place in table.space.places)
        weights = torch.zeros(table.latency_ms.shape, dtype=torch.float64)
        weights[range(len(choice)), list(choice)] = 1
        energy = cost.energy_j(weights)
        assert energy is not None
        assert float(cost.latency_s(weights)) == pytest.approx(table.latency(choice) / 1e3, rel=1e-12)
        assert float(energy) == pytest.approx(table.energy(choice) / 1e3, rel=1e-12)


def test_gradients_match_finite_differences(table: SpaceTable) -> None:
    """Through the softmax of theta, every entry that is offered."""
    cost, offered = ExpectedCost(table), torch.from_numpy(~np.isnan(table.latency_ms))
    theta = torch.from_numpy(np.random.default_rng(1).normal(size=table.latency_ms.shape)).requires_grad_(True)

    def costs(values: torch.Tensor) -> torch.Tensor:
        weights = values.masked_fill(~offered, -torch.inf).softmax(1)
        energy = cost.energy_j(weights)
        assert energy is not None
        return torch.stack([cost.latency_s(weights), energy])

    for number in range(2):
        (slope,) = torch.autograd.grad(costs(theta)[number], theta)
        with torch.no_grad():
            scale = float(costs(theta)[number])
            for row, column in torch.nonzero(offered).tolist():
                step = torch.zeros_like(theta)
                step[row, column] = 1e-5
                difference = float(costs(theta + step)[number] - costs(theta - step)[number]) / 2e-5
                assert float(slope[row, column]) == pytest.approx(difference, rel=1e-4, abs=1e-8 * scale)
