from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.profile.sampling import Sampling, next_widths, sampling_for

if TYPE_CHECKING:
    from types import ModuleType

    from netadapt_trt.plan.schema import Plan


class Unsure:
    """An estimator that knows nothing of narrow networks: what is left out of 1 is unsure."""

    def unsure(self, widths: dict[str, int]) -> float:
        return self.raw(widths) * (1 - sum(widths.values()) / 512)

    def raw(self, widths: dict[str, int]) -> float:
        return 0.1 + sum(widths.values())


@pytest.fixture
def plan(clockwork: ModuleType) -> Plan:
    found: Plan = clockwork.make_plan(256, 256)
    return found


def test_settings_are_the_same_for_one_seed_and_others_for_another(plan: Plan) -> None:
    unsure: Any = Unsure()
    for estimator in (None, unsure):
        drawn = [next_widths(plan, estimator, 6, granularity=8, seed=seed) for seed in (9, 9, 19)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert len({tuple(widths.values()) for widths in drawn[0]}) == 6
        assert all(size % 8 == 0 and 8 <= size <= 256 for widths in drawn[0] for size in widths.values())


def test_unsure_settings_are_preferred(plan: Plan) -> None:
    unsure: Any = Unsure()
    drawn, plain = (next_widths(plan, estimator, 20, granularity=8, seed=3) for estimator in (unsure, None))
    sums = [sorted(sum(widths.values()) for widths in settings) for settings in (drawn, plain)]
    # The narrowest of sixteen against any: the median of one lies below nearly all of the other.
    assert sums[0][10] < sums[1][2]


def test_few_settings_are_not_drawn_for_ever(clockwork: ModuleType) -> None:
    small = clockwork.make_plan(8, 16)
    assert next_widths(small, None, 10, granularity=8, seed=0) in (
        [{"a": 8, "b": 8}, {"a": 8, "b": 16}],
        [{"a": 8, "b": 16}, {"a": 8, "b": 8}],
    )


def test_known_settings_are_not_looked_into_again(clockwork: ModuleType) -> None:
    """Of the 32 settings two are left, and they are the ones an estimator is surest of."""
    small = clockwork.make_plan()
    unsure: Any = Unsure()
    every = [{"a": a, "b": b} for a in range(8, 33, 8) for b in range(8, 65, 8)]
    left = [{"a": 32, "b": 64}, {"a": 32, "b": 56}]
    known = [widths for widths in every if widths not in left]
    found = next_widths(small, unsure, 5, granularity=8, seed=1, known=known)
    assert sorted(found, key=str) == sorted(left, key=str)
    assert next_widths(small, unsure, 5, granularity=8, seed=1, known=every) == []


def test_room_is_what_the_share_of_the_grid_leaves() -> None:
    sampling = Sampling(most=40, grid_share=0.05, few=20, cheap=500)
    # 20 networks showed 700 cells, 35 each; 5 % of 17,000 are 850, which leaves 150: four networks more.
    assert sampling.room(20, 700, 17_000) == 4
    assert sampling.room(24, 840, 17_000) == 0
    assert sampling.room(30, 1500, 17_000) == 0
    # A few are taken whatever they cost, and many while they are cheap; the most holds whatever is left.
    assert sampling.room(5, 700, 1000) == 15
    assert sampling.room(25, 300, 1000) == 15
    assert sampling.room(30, 450, 1000) == 3
    assert sampling.room(0, 600, 1000) == 20
    assert sampling.room(30, 900, 10**6) == 10
    assert sampling.room(40, 900, 10**6) == 0


def test_formulas_need_no_patience() -> None:
    device: Any = SimpleNamespace(name="ort")
    formula: Any = SimpleNamespace(name="fake")
    simulated: Any = SimpleNamespace(name="trt", simulated=True)
    assert sampling_for(device, most=30) == Sampling(most=30)
    for backend in (formula, simulated):
        found = sampling_for(backend, target_error=0.1)
        assert (found.most_rounds, found.round_ms, found.warmup_ms, found.target_error) == (2, 0.0, 0.0, 0.1)
    assert sampling_for(formula).most == Sampling().most
