from __future__ import annotations

import pytest

from netadapt_trt.adapt.winner import Scored, choose_winner, share_saved
from netadapt_trt.errors import SpecError


def scored(group: str, accuracy: float, **resources: float) -> Scored:
    return Scored(group=group, width=8, accuracy=accuracy, resources=resources)


def choose(rule: str, *proposals: Scored, target: float = 95.0, before: float = 0.9) -> str | None:
    found = choose_winner(
        proposals,
        rule=rule,  # type: ignore[arg-type]
        accuracy_before=before,
        achieved={"latency": 100.0},
        budgets={"latency": 50.0},
        targets={"latency": target},
    )
    return None if found is None else found.group


def test_paper_takes_the_most_accurate() -> None:
    assert choose("paper", scored("a", 0.80, latency=60), scored("b", 0.85, latency=94)) == "b"


def test_ratio_takes_least_loss_per_saving() -> None:
    # a: 0.10 lost for 0.8 of the gap; b: 0.05 for 0.12
    assert choose("ratio", scored("a", 0.80, latency=60), scored("b", 0.85, latency=94)) == "a"


def test_ratio_prefers_no_loss_and_among_those_the_largest_saving() -> None:
    proposals = (scored("a", 0.899, latency=50), scored("b", 0.95, latency=95), scored("c", 0.90, latency=90))
    assert choose("ratio", *proposals) == "c"


def test_winner_never_missed_its_target() -> None:
    assert choose("paper", scored("a", 0.99, latency=96), scored("b", 0.2, latency=95)) == "b"
    assert choose("ratio", scored("a", 0.99, latency=96)) is None


def test_ties_fall_to_accuracy_then_order() -> None:
    assert choose("ratio", scored("a", 0.95, latency=90), scored("b", 0.96, latency=90)) == "b"
    assert choose("paper", scored("a", 0.95, latency=90), scored("b", 0.95, latency=90)) == "a"


def test_last_step_stays_near_the_budget_where_all_else_is_equal() -> None:
    # Both close the whole gap to 50; what b saves beyond it buys nothing.
    over, near = scored("b", 0.9, latency=40), scored("a", 0.9, latency=49)
    for rule in ("ratio", "paper"):
        assert choose(rule, over, near) == choose(rule, near, over) == "a"
    # Accuracy still comes first.
    assert choose("ratio", scored("b", 0.91, latency=40), near) == "b"


def test_share_saved_is_the_mean_over_open_budgets() -> None:
    achieved = {"latency": 100.0, "energy": 20.0, "params": 5.0}
    budgets = {"latency": 50.0, "energy": 10.0, "params": 6.0}
    # latency closes 10 of 50, energy 5 of 10; params is met already and does not count
    assert share_saved({"latency": 90.0, "energy": 15.0, "params": 1.0}, achieved, budgets) == pytest.approx(0.35)


def test_share_saved_counts_no_more_than_the_gap() -> None:
    assert share_saved({"latency": 10.0}, {"latency": 100.0}, {"latency": 50.0}) == 1.0


def test_several_budgets_cap_the_met_one() -> None:
    found = choose_winner(
        [scored("a", 0.99, latency=90, params=7), scored("b", 0.5, latency=90, params=5)],
        rule="paper",
        accuracy_before=0.9,
        achieved={"latency": 100.0, "params": 5.0},
        budgets={"latency": 50.0, "params": 6.0},
        targets={"latency": 95.0, "params": 6.0},
    )
    assert found is not None
    assert found.group == "b"


def test_choose_refuses_an_unknown_rule() -> None:
    with pytest.raises(SpecError, match="unknown winner rule"):
        choose("best", scored("a", 0.5, latency=1))
