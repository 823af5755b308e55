"""Expected costs: equal to the table's sum for one child, with the gradient that finite differences give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from netadapt_trt.search.cost import ExpectedCost
from netadapt_trt.search.objective import cost_terms
from netadapt_trt.search.steps import generator_of
from netadapt_trt.search.theta import Theta
from netadapt_trt.space.knobs import Knobs, start

if TYPE_CHECKING:
    from netadapt_trt.space.table import SpaceTable


def one_hot(columns: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(columns), count).double()


@pytest.mark.parametrize(
    ("columns", "latency_ms", "energy_mj"), [((0, 0, 3), 1.0 + 1.25 + 0.125 + 0.5, 5.5), ((2, 2, 2), 10.0, 19.25)]
)
def test_cost_of_one_child_is_the_tables_sum(
    table: SpaceTable, columns: tuple[int, ...], latency_ms: float, energy_mj: float
) -> None:
    cost = ExpectedCost(table)
    weights = one_hot(columns, 4)
    energy = cost.energy_j(weights)
    assert energy is not None
    assert float(cost.latency_s(weights)) == pytest.approx(latency_ms / 1e3, rel=1e-15)
    assert float(energy) == pytest.approx(energy_mj / 1e3, rel=1e-15)
    assert float(cost.latency_s(weights)) == pytest.approx(table.latency(columns) / 1e3, rel=1e-15)


def test_cost_at_uniform_theta_is_what_the_knobs_were_shown_with(table: SpaceTable) -> None:
    cost, weights = ExpectedCost(table), Theta(table.space).probabilities().detach()
    begun = start(table, Knobs(alpha=0.7, beta=0.5, gamma=0.3, delta=1.5))
    energy = cost.energy_j(weights)
    assert energy is not None
    assert float(cost.latency_s(weights)) == pytest.approx(begun.lat_s, rel=1e-14)
    assert float(energy) == pytest.approx(begun.ener_j, rel=1e-14)
    total = cost_terms(Knobs(alpha=0.7, beta=0.5, gamma=0.3, delta=1.5), cost.latency_s(weights), energy)
    assert float(total) == pytest.approx(begun.vlat + begun.vener, rel=1e-12)


@pytest.mark.parametrize("temperature", [None, 5.0, 0.5])
def test_cost_gradient_matches_finite_differences(table: SpaceTable, temperature: float | None) -> None:
    knobs = Knobs(alpha=2.0, beta=0.6, gamma=3.0, delta=1.3)
    cost, theta = ExpectedCost(table), Theta(table.space)
    with torch.no_grad():
        theta.values += torch.randn(theta.values.shape, dtype=torch.float64, generator=generator_of(1))

    def loss() -> torch.Tensor:
        weights = theta.probabilities() if temperature is None else theta.gumbel_softmax(temperature, generator_of(7))
        return cost_terms(knobs, cost.latency_s(weights), cost.energy_j(weights))

    (gradient,) = torch.autograd.grad(loss(), theta.values)
    step = 1e-6
    for row, column in np.ndindex(*theta.values.shape):
        with torch.no_grad():
            theta.values[row, column] += step
            above = float(loss().detach())
            theta.values[row, column] -= 2 * step
            below = float(loss().detach())
            theta.values[row, column] += step
        assert float(gradient[row, column]) == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-10)
    assert gradient[0, 3] == 0  # skip, which the first place does not offer


def test_cost_without_energy_leaves_its_term_out(table: SpaceTable) -> None:
    from dataclasses import replace

    bare = replace(table, energy_mj=np.full_like(table.energy_mj, np.nan))
    cost, weights = ExpectedCost(bare), Theta(bare.space).probabilities().detach()
    assert cost.energy_j(weights) is None
    latency = cost.latency_s(weights)
    assert float(cost_terms(Knobs(alpha=2.0, beta=1.0), latency, None)) == pytest.approx(2 * float(latency))


def test_cost_of_no_weight_is_nothing_whatever_it_multiplies() -> None:
    huge = torch.tensor(1e40, dtype=torch.float64, requires_grad=True)
    found = cost_terms(Knobs(alpha=0.0, beta=10.0), huge, None)  # 1e400 is beyond double precision
    assert float(found) == 0
