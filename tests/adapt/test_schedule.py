from __future__ import annotations

import pytest

from netadapt_trt.adapt.schedule import make_schedule
from netadapt_trt.errors import BudgetError


def test_target_first_steps_follow_reduction_and_decay() -> None:
    schedule = make_schedule(initial=100.0, budget=60.0).reachable(100.0)
    assert schedule.decay == 0.96
    assert schedule.target(100.0) == pytest.approx(97.5)
    assert schedule.after_step().target(97.0) == pytest.approx(97.0 - 100 * 0.025 * 0.96)


def test_target_is_clipped_at_the_budget() -> None:
    schedule = make_schedule(initial=100.0, budget=60.0)
    assert schedule.target(61.0) == 60.0


def test_target_of_met_resource_is_its_budget() -> None:
    assert make_schedule(initial=100.0, budget=60.0).target(50.0) == 60.0


def test_target_halves() -> None:
    schedule = make_schedule(initial=100.0, budget=60.0)
    assert schedule.target(100.0, 1) == pytest.approx(98.75)
    assert schedule.target(100.0, 2) == pytest.approx(99.375)


def test_reachable_raises_decay_for_a_deep_budget() -> None:
    # 0.025 / (1 - 0.96) = 0.625 cannot cover 0.7
    schedule = make_schedule(initial=10.0, budget=3.0).reachable(10.0)
    assert schedule.decay == pytest.approx(1 - 0.8 * 0.025 / 0.7)


def test_reachable_keeps_decay_where_it_suffices() -> None:
    schedule = make_schedule(initial=10.0, budget=4.0)
    assert schedule.reachable(10.0) is schedule


def test_schedule_with_raised_decay_arrives_even_without_overshoot() -> None:
    schedule, achieved, steps = make_schedule(initial=1.0, budget=0.2), 1.0, 0
    while not schedule.met(achieved):
        schedule = schedule.reachable(achieved)
        achieved = schedule.target(achieved)
        schedule, steps = schedule.after_step(), steps + 1
        assert steps < 200
    assert achieved == 0.2


def test_schedule_recovers_when_a_measurement_puts_it_back() -> None:
    schedule = make_schedule(initial=1.0, budget=0.5)
    for _ in range(40):
        schedule = schedule.after_step()
    raised = schedule.reachable(0.9)
    assert raised.decay > schedule.decay
    assert raised.step / (1 - raised.decay) == pytest.approx(0.4 / 0.8)


def test_make_schedule_refuses_a_zero_initial_value() -> None:
    with pytest.raises(BudgetError, match="positive"):
        make_schedule(initial=0.0, budget=1.0)
