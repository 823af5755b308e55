from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.adapt.course import Course, resource_block
from netadapt_trt.adapt.resources import Resources
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import parse_budget

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Linear:
    """value = scale x width of "a"; anchoring sets the scale."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.initial = 100.0

    def value(self, widths: dict[str, int]) -> float:
        return self.scale * widths["a"]

    def curve(self, widths: dict[str, int], group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(self.scale * candidates, dtype=np.float64)

    def anchor(self, widths: dict[str, int], measured: float) -> None:
        self.scale = measured / widths["a"]

    def extrapolates(self, widths: dict[str, int]) -> tuple[str, ...]:
        return ()


class Notes(QuietProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


def course(budget: str = "latency=0.5x") -> Course:
    resources = Resources(models={"latency": Linear()}, lut=None, backend=None)
    found = Course(resources, (parse_budget(budget),), reduction=0.025, decay=0.96)
    found.take(
        {
            "type": "initial",
            "widths": {"a": 100},
            "accuracy_holdout": 0.9,
            "resources": {"latency": {"estimate": 100.0, "measured": 100.0, "scale": 1.0}},
        }
    )
    return found


def decision(iteration: int, width: int, estimate: float, measured: float | None) -> dict[str, Any]:
    block = {"estimate": estimate, "measured": measured, "scale": 1.0}
    return {
        "type": "decision",
        "iteration": iteration,
        "group": "a",
        "widths": {"a": width},
        "accuracy": 0.8,
        "resources": {"latency": block},
    }


def test_course_follows_decisions() -> None:
    found = course()
    assert found.targets(0) == {"latency": 97.5}
    found.take(decision(1, 97, 97.0, None))
    assert (found.iteration, found.accuracy, found.achieved) == (1, 0.8, {"latency": 97.0})
    assert found.targets(0)["latency"] == pytest.approx(97.0 - 100 * 0.025 * 0.96)


def test_measured_value_counts_and_anchors() -> None:
    found = course()
    found.take(decision(1, 50, 50.0, 60.0))
    assert found.achieved == {"latency": 60.0}
    reached = [found.reached]  # the estimate of 50 would have said so
    found.take(decision(2, 40, 48.0, 49.0))
    assert [*reached, found.reached] == [False, True]


def test_anchor_line_puts_the_run_back() -> None:
    found = course()
    found.take(decision(1, 50, 50.0, None))
    reached = [found.reached]
    block = {"latency": {"estimate": 50.0, "measured": 55.0, "scale": 1.0}}
    found.take({"type": "anchor", "iteration": 1, "widths": {"a": 50}, "resources": block})
    assert [*reached, found.reached] == [True, False]
    assert found.progress_share() == pytest.approx(0.9)


def test_other_lines_are_passed_over() -> None:
    found = course()
    found.take({"type": "proposal", "iteration": 1, "group": "a", "resources": {"latency": 1.0}})
    assert found.achieved == {"latency": 100.0}


def test_plan_step_says_when_it_raises_decay() -> None:
    notes, found = Notes(), course("latency=0.3x")
    found.plan_step(notes)
    found.plan_step(notes)
    assert len(notes.lines) == 1
    assert f"{1 - 0.8 * 0.025 / 0.7:.4f}" in notes.lines[0]


def test_replay_equals_going_along() -> None:
    one, two = course("latency=0.3x"), course("latency=0.3x")
    for record in (decision(1, 97, 97.0, 98.0), decision(2, 95, 95.0, 94.0)):
        one.plan_step(QuietProgress())
        one.take(record)
        two.take(record)
    assert one.schedules == two.schedules
    assert one.targets(0) == two.targets(0)


def test_resource_block_keeps_estimate_and_measured_apart() -> None:
    models = {"latency": Linear()}
    block = resource_block(Resources(models=models, lut=None, backend=None), {"a": 80}, {"latency": 88.0})
    assert block == {"latency": {"estimate": 80.0, "measured": 88.0, "scale": 1.0}}


def test_label_says_where_the_next_iteration_starts() -> None:
    found = course()
    found.take(decision(1, 90, estimate=90.0, measured=80.55))
    assert found.label() == "iteration 2: 80.5 ms, budget 50.0 ms, holdout 80.0 %"
