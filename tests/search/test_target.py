"""Targets: planted cases without any training. Costs and preferences are drawn; theta is moved as the search moves it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from netadapt_trt.errors import SpecError
from netadapt_trt.search.target import Pilot
from netadapt_trt.search.within import Limit, most_probable_within


def limit(costs: np.ndarray, target: float, fixed: float = 0.0) -> Limit:
    return Limit(what="latency", unit="ms", target=target, costs=costs, fixed=fixed)


def test_pilot_factor_is_the_weight_at_the_target() -> None:
    """alpha * target^beta is weight / beta, which starts at 1/2."""
    pilot = Pilot(limit(np.ones((2, 2)), 4.0), 0.6, 100)
    assert pilot.factor * 0.004**0.6 == pytest.approx(0.5 / 0.6)


def test_pilot_continues_from_its_state() -> None:
    costs = np.array([[1.0, 4.0], [1.5, 2.0]])
    first, second = (Pilot(limit(costs, 3.0), 0.6, 50) for _ in range(2))
    for columns in ((1, 1), (0, 0), (1, 0)):
        first.update(columns)
    second.load(first.state())
    for pilot in (first, second):
        pilot.update((1, 1))
    assert first.factor == second.factor


@dataclass(frozen=True)
class Planted:
    """22 places, 9 blocks. What a block is worth rises with its cost, differently in each place."""

    costs: np.ndarray
    worth: torch.Tensor
    noise: float = 0.03

    @classmethod
    def drawn(cls, seed: int) -> Planted:
        generator = np.random.default_rng(seed)
        costs = np.array([1, 0.8, 1.8, 3.2, 1.2, 1.0, 2.2, 4.0, 0.02]) * generator.lognormal(0, 0.25, (22, 9))
        costs *= generator.lognormal(0, 0.4, (22, 1))
        relative = costs / costs.mean(1, keepdims=True)
        worth = 0.05 * np.log(relative + 0.3) * generator.uniform(0.3, 2, (22, 1)) + generator.normal(0, 0.015, (22, 9))
        return cls(costs * 5 / costs.mean(1).sum(), torch.from_numpy(worth))

    def search(self, target: Limit, steps: int, seed: int, beta: float = 0.6) -> torch.Tensor:
        """Theta at the end, moved by Adam along a noisy gradient of worth and the exact one of latency."""
        generator = torch.Generator().manual_seed(seed)
        theta = torch.ones(22, 9, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([theta], lr=0.01)
        costs, pilot = torch.from_numpy(self.costs), Pilot(target, beta, steps)
        for _ in range(steps):
            chances = theta.softmax(1)
            noise = torch.randn(22, 9, dtype=torch.float64, generator=generator) * self.noise
            latency_s = ((chances * costs).sum() + target.fixed) / 1e3
            loss = -(chances * (self.worth + noise)).sum() + pilot.factor * latency_s**beta
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            pilot.update(tuple(theta.argmax(1).tolist()))
        return theta.detach()

    def best(self, target: Limit) -> float:
        """The largest worth within the target: of all prices of latency the best, which is within a block of the optimum."""
        found = -math.inf
        for price in np.logspace(-4, 1, 300):
            child = tuple((self.worth.numpy() - price * self.costs).argmax(1).tolist())
            if target.of(child) <= target.target:
                found = max(found, self.of(child))
        return found

    def of(self, child: tuple[int, ...]) -> float:
        return float(sum(self.worth[row, column] for row, column in enumerate(child)))


@pytest.mark.parametrize("steps", [400, 1500])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_target_ends_with_a_child_at_it_and_worth_nearly_the_most(steps: int, share: float, seed: int) -> None:
    planted = Planted.drawn(seed)
    least, most = planted.costs.min(1).sum(), planted.costs.max(1).sum()
    target = limit(planted.costs, 0.5 + least + share * (most - least), 0.5)
    theta = planted.search(target, steps, seed).numpy()
    argmax = tuple(theta.argmax(1).tolist())
    assert target.of(argmax) == pytest.approx(target.target, rel=0.12 if steps < 1000 else 0.08)
    child = most_probable_within(theta, [target])
    assert 0.88 * target.target <= target.of(child) <= target.target
    spread = planted.worth.max(1).values.sum() - planted.worth.min(1).values.sum()
    assert planted.of(child) >= planted.best(target) - 0.06 * float(spread)


def test_target_that_does_not_bind_leaves_the_choice_to_accuracy() -> None:
    planted = Planted.drawn(3)
    target = limit(planted.costs, float(planted.costs.max(1).sum()) * 1.5)
    theta = planted.search(target, 800, 0)
    assert (theta.argmax(1) == planted.worth.argmax(1)).float().mean() > 0.85


@pytest.mark.parametrize(("target_ms", "power"), [(1e300, 10.0), (1e-300, 2.0)])
def test_target_whose_power_is_no_number_is_refused(target_ms: float, power: float) -> None:
    pilot = Pilot(limit(np.array([[1.0, 2.0]]), target_ms), power, 10)
    with pytest.raises(SpecError, match="is no number that a loss can hold"):
        _ = pilot.factor
