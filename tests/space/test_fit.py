"""Costs held against whole networks: what is known by construction is found again."""

from __future__ import annotations

import numpy as np
import pytest

from netadapt_trt.space.fit import Costs, Manner, corrected, likeliest

DRAW = np.random.default_rng(7)
PLACES, COLUMNS = 6, 5
VALUES = DRAW.uniform(1.0, 4.0, (PLACES, COLUMNS))
LAYERS = np.tile(np.array([3.0, 4.0, 3.0, 3.0, 0.0]), (PLACES, 1))
VALUES[:, 4] = 0.0  # a skip
COSTS = Costs(VALUES, LAYERS, 2.0, 3, (0, 0, 1, 1, 2, 2))


def children(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, COLUMNS, (count, PLACES))


def test_sums_by_hand() -> None:
    choice = np.array([[0, 1, 2, 3, 4, 0]])
    by_hand = 2.0 + VALUES[0, 0] + VALUES[1, 1] + VALUES[2, 2] + VALUES[3, 3] + 0.0 + VALUES[5, 0]
    assert COSTS.sums(choice)[0] == pytest.approx(by_hand, rel=1e-12)


def test_without_children_sums_are_what_they_are() -> None:
    empty = np.zeros((0,), dtype=np.int64)
    assert corrected(COSTS, empty, np.zeros(0), likeliest(COSTS, empty, np.zeros(0))) is COSTS


def test_few_children_only_scale() -> None:
    chosen = children(2)
    found = corrected(COSTS, chosen, 0.7 * COSTS.sums(chosen), Manner())
    np.testing.assert_allclose(found.values, 0.7 * VALUES)
    assert found.fixed == pytest.approx(1.4)


def test_a_scale_a_price_per_layer_and_a_constant_are_found() -> None:
    """As on the fake device: 0.8 times the sum of lone layers, less 0.1 for each of them, and 0.3 for a call."""

    def truth(chosen: np.ndarray) -> np.ndarray:
        layers = 3 + LAYERS[np.arange(PLACES), chosen].sum(axis=1)
        return np.asarray(0.8 * COSTS.sums(chosen) - 0.1 * layers + 0.3)

    chosen, others = children(20), children(200, seed=2)
    found = corrected(COSTS, chosen, truth(chosen), likeliest(COSTS, chosen, truth(chosen)))
    np.testing.assert_allclose(found.sums(others), truth(others), rtol=0.005)
    assert (found.values[:, 4] == 0).all()  # a skip has no layers and still costs nothing


def test_a_column_that_runs_worse_in_company_is_found() -> None:
    dear = VALUES * np.array([1.0, 1.2, 1.0, 1.0, 1.0])
    chosen, others = children(25), children(200, seed=2)
    measured = Costs(dear, LAYERS, 2.0, 3, COSTS.stages).sums(chosen)
    found = corrected(COSTS, chosen, measured, likeliest(COSTS, chosen, measured))
    wanted = Costs(dear, LAYERS, 2.0, 3, COSTS.stages).sums(others)
    before = np.abs(COSTS.sums(others) / wanted - 1).mean()
    after = np.abs(found.sums(others) / wanted - 1).mean()
    assert after < before / 4


def test_noise_is_not_learnt() -> None:
    """Sums that are right, measured with 3 %: corrections must not make them worse than that noise."""
    chosen, others = children(25), children(200, seed=2)
    measured = COSTS.sums(chosen) * np.exp(np.random.default_rng(3).normal(0, 0.03, 25))
    found = corrected(COSTS, chosen, measured, likeliest(COSTS, chosen, measured))
    assert np.abs(found.sums(others) / COSTS.sums(others) - 1).mean() < 0.015


def test_children_that_were_disturbed_count_for_less() -> None:
    """Three of 25 took 1.5 to 2 times as long as they do, as beside a neighbour that kept a processor."""
    chosen, others = children(25), children(200, seed=2)
    measured = COSTS.sums(chosen) * 0.8 * np.exp(np.random.default_rng(3).normal(0, 0.005, 25))
    measured[[2, 11, 17]] *= (1.5, 2.0, 1.7)
    found = corrected(COSTS, chosen, measured, likeliest(COSTS, chosen, measured))
    assert np.abs(found.sums(others) / (0.8 * COSTS.sums(others)) - 1).mean() < 0.02


def test_costs_stay_positive() -> None:
    """Children that took next to nothing: no block may cost less than nothing."""
    chosen = children(10)
    found = corrected(COSTS, chosen, 1e-3 * COSTS.sums(chosen), Manner(0.3, 0.003))
    assert (found.values[:, :4] > 0).all()
    assert found.fixed >= 0
