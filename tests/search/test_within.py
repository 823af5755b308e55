"""The most probable child within targets, against trying all of them and against a knapsack solved over whole numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.search.within import Limit, most_probable_within, require_reachable


def limit(costs: np.ndarray, target: float, fixed: float = 0.0, what: str = "latency") -> Limit:
    unit = {"latency": "ms", "energy": "mJ"}[what]
    return Limit(what=what, unit=unit, target=target, costs=costs, fixed=fixed)


def everything(theta: np.ndarray) -> list[tuple[int, ...]]:
    return list(itertools.product(*(np.flatnonzero(~np.isnan(row)).tolist() for row in theta)))


def test_most_probable_child_is_the_argmax_where_it_fits() -> None:
    theta = np.array([[0.0, 2.0], [1.0, np.nan]])
    costs = np.array([[1.0, 5.0], [2.0, np.nan]])
    assert most_probable_within(theta, [limit(costs, 7.0)]) == (1, 0)
    assert most_probable_within(theta, []) == (1, 0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("resources", [1, 2])
def test_most_probable_child_within_is_that_of_trying_all(seed: int, resources: int) -> None:
    generator = np.random.default_rng((seed, resources))
    theta = generator.normal(size=(5, 4))
    theta[2, 3] = np.nan
    limits = []
    for _ in range(resources):
        costs = generator.uniform(0.1, 3.0, (5, 4))
        costs[2, 3] = np.nan
        least, most = np.nanmin(costs, 1).sum(), np.nanmax(costs, 1).sum()
        limits.append(limit(costs, 0.5 + least + 0.3 * (most - least), 0.5))
    fitting = [child for child in everything(theta) if all(one.of(child) <= one.target for one in limits)]
    best = max(fitting, key=lambda child: sum(theta[row, column] for row, column in enumerate(child)))
    assert most_probable_within(theta, limits) == best


def test_most_probable_child_of_many_places_meets_a_tight_target() -> None:
    generator = np.random.default_rng(0)
    theta, costs = generator.normal(size=(22, 9)), generator.uniform(0.1, 3.0, (22, 9))
    least = costs.min(1).sum()
    child = most_probable_within(theta, [limit(costs, least)])
    assert child == tuple(costs.argmin(1))
    child = most_probable_within(theta, [limit(costs, 2 * least)])
    assert limit(costs, 0).of(child) == pytest.approx(2 * least, rel=0.01)


def solved(theta: np.ndarray, costs: np.ndarray, most: int) -> float:
    """The largest sum of theta at whole ``costs`` of at most ``most`` in all: place by place, for every sum of costs."""
    best = np.full(most + 1, -np.inf)
    best[0] = 0.0
    for likings, prices in zip(theta, costs, strict=True):
        extended = np.full(most + 1, -np.inf)
        for liking, price in zip(likings, prices, strict=True):
            extended[price:] = np.maximum(extended[price:], best[: most + 1 - price] + liking)
        best = extended
    return float(best.max())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("follows", [False, True])  # theta likes what is dear, so that everything nearly ties
def test_most_probable_child_of_many_places_is_the_optimum(seed: int, follows: bool) -> None:
    generator = np.random.default_rng(seed)
    costs = generator.integers(1, 400, (30, 12))
    theta = generator.normal(size=(30, 12)) * (0.02 if follows else 1.0) + (costs / 100 if follows else 0.0)
    least, most = int(costs.min(1).sum()), int(costs.max(1).sum())
    target = least + round(generator.uniform(0.02, 0.6) * (most - least))
    child = most_probable_within(theta, [limit(costs.astype(float), target)])
    rows = np.arange(30)
    assert costs[rows, child].sum() <= target
    assert theta[rows, child].sum() == pytest.approx(solved(theta, costs, target), abs=1e-9)


def test_places_that_are_all_alike_are_no_trouble() -> None:
    """22 cost 22, and each dear one 9 more: of 100 eight fit, 22 + 8 * 9 = 94."""
    theta, costs = np.tile([0.0, 15.0], (22, 1)), np.tile([1.0, 10.0], (22, 1))
    child = most_probable_within(theta, [limit(costs, 100.0)])
    assert sum(child) == 8


def test_blocks_that_cost_all_but_the_same_leave_the_cheapest() -> None:
    theta, costs = np.array([[5.0, 0.0, 1.0]] * 3), np.array([[1.0 + 1e-6, 1.0, 1.0]] * 3)
    assert most_probable_within(theta, [limit(costs, 3.0)]) == (2, 2, 2)


def test_target_below_the_cheapest_child_is_refused() -> None:
    with pytest.raises(SpecError, match="latency target of 2 ms: the cheapest one costs 3 ms"):
        require_reachable({"latency": limit(np.array([[1.0, 4.0], [1.5, 2.0]]), 2.0, 0.5)})


def opposed() -> dict[str, np.ndarray]:
    """Two places, two blocks: what is fast spends much. 2 ms cost 8 mJ, 5 ms 5 mJ, 8 ms 2 mJ."""
    return {"latency": np.array([[1.0, 4.0]] * 2), "energy": np.array([[4.0, 1.0]] * 2)}


def both(latency: float, energy: float, costs: dict[str, np.ndarray]) -> dict[str, Limit]:
    targets = {"latency": latency, "energy": energy}
    return {what: limit(costs[what], targets[what], what=what) for what in targets}


def test_targets_that_no_child_meets_at_once_are_refused() -> None:
    with pytest.raises(SpecError, match=r"latency within the energy target is 8 ms.* within the latency target 8 mJ"):
        require_reachable(both(4.9, 4.9, opposed()))
    with pytest.raises(SpecError, match="at once"):
        most_probable_within(np.zeros((2, 2)), list(both(4.9, 4.9, opposed()).values()))
    require_reachable(both(5.0, 5.0, opposed()))
    assert sorted(most_probable_within(np.zeros((2, 2)), list(both(5.0, 5.0, opposed()).values()))) == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_two_targets_are_refused_exactly_where_no_child_meets_them(seed: int) -> None:
    """Around what each of some children costs in both, which is where a careless search would go wrong."""
    generator = np.random.default_rng(seed)
    costs = {"latency": generator.uniform(0.1, 3, (5, 4)), "energy": generator.uniform(0.1, 3, (5, 4))}
    for values in costs.values():
        values[1, 2] = np.nan
    children = everything(costs["latency"])
    known = {what: [limit(values, 1.0).of(child) for child in children] for what, values in costs.items()}
    for one in generator.integers(0, len(children), 8):
        exactly = both(known["latency"][one], known["energy"][one], costs)
        require_reachable(exactly)
        found = most_probable_within(generator.normal(size=(5, 4)) + 0 * costs["latency"], list(exactly.values()))
        assert all(each.met_by(each.of(found)) for each in exactly.values())
        less = both(known["latency"][one] * 0.97, known["energy"][one] * 0.97, costs)
        fits = any(all(known[what][child] <= less[what].target for what in less) for child in range(len(children)))
        if fits:
            require_reachable(less)
        else:
            with pytest.raises(SpecError, match="no child of this space meets"):
                require_reachable(less)


def test_two_tight_targets_of_many_places_still_find_the_child() -> None:
    """A planted child that spares both a little in every place, and nothing else meets both."""
    generator = np.random.default_rng(5)
    latency = generator.uniform(1, 3, (22, 9))
    costs = {"latency": latency, "energy": 4.0 - latency}  # their sum is 4 in every place but for the planted blocks
    planted = tuple(generator.integers(0, 9, 22).tolist())
    for values in costs.values():
        values[np.arange(22), planted] = 1.99
    theta = generator.normal(size=(22, 9))
    theta[np.arange(22), planted] -= 10.0
    assert most_probable_within(theta, list(both(22 * 1.99, 22 * 1.99, costs).values())) == planted
