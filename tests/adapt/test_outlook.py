"""What is said before the loop about budgets that hold or cannot, and after it about those that were missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netadapt_trt.adapt.course import Course
from netadapt_trt.adapt.ground import Ground
from netadapt_trt.adapt.iteration import _reachable_step
from netadapt_trt.adapt.outlook import STUCK, minimum_widths, shortfall, tell_outlook
from netadapt_trt.adapt.proposal import DataArguments
from netadapt_trt.adapt.resources import Resources
from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.plan.schema import Group, Plan
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import ModelSpec, parse_budget


class Sum:
    """0.01 ms for each channel; 1 ms for the uncut network of "a" with 64 and "b" with 36."""

    initial = 1.0

    def __init__(self, scale: float | None = 1.0) -> None:
        self.scale = scale

    def value(self, widths: dict[str, int]) -> float:
        return 0.01 * (widths["a"] + widths["b"])

    def curve(self, widths: dict[str, int], group: str, candidates: Any) -> Any:
        return np.array([self.value({**widths, group: int(width)}) for width in candidates])

    def anchor(self, widths: dict[str, int], measured: float) -> None: ...

    def extrapolates(self, widths: dict[str, int]) -> tuple[str, ...]:
        return ()


class Notes(QuietProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


def start(budget: str, model: Sum | None = None, step: int = 8, **settings: Any) -> tuple[Ground, Course]:
    chosen = AdaptSettings(
        spec=ModelSpec(model="m", input_shape=(1, 3, 8, 8)),
        data="digits",
        budgets=(parse_budget(budget),),
        output=Path("unused"),
        lut=Path("unused"),
        **settings,
    )
    models: dict[str, Any] = {chosen.budgets[0].resource: model or Sum()}
    ground = Ground(
        settings=chosen,
        plan=Plan("m", {}, (), (), (Group("a", 64, ()), Group("b", 36, ())), (), {}, {}, {}, ()),
        resources=Resources(models=models, lut=None, backend=None),
        steps={"a": step, "b": step},
        data=DataArguments.of(chosen),
        devices=("cpu",),
        meter=None,
        brought=None,
    )
    course = Course(ground.resources, chosen.budgets, reduction=chosen.reduction, decay=chosen.decay)
    course.take(
        {
            "type": "initial",
            "widths": {"a": 64, "b": 36},
            "accuracy_holdout": 0.9,
            "resources": {chosen.budgets[0].resource: {"estimate": 1.0, "measured": None}},
        }
    )
    return ground, course


def told(budget: str, model: Sum | None = None) -> list[str]:
    notes = Notes()
    tell_outlook(*start(budget, model), notes)
    return notes.lines


def test_minimum_widths_are_one_step_or_a_group_as_it_is() -> None:
    assert minimum_widths({"a": 64, "b": 4}, {"a": 16, "b": 8}) == {"a": 16, "b": 4}


def test_outlook_warns_where_the_smallest_network_is_above_the_budget() -> None:
    # two groups of 8 channels are left: 0.16 ms
    assert told("latency=0.15x") == [
        "warning: even the smallest network, every group at its minimum width, is estimated at 0.1600 ms; the budget "
        "latency=0.15x is 0.1500 ms. The run goes as far as it can, estimates err"
    ]
    assert told("latency=0.16x") == []
    (exact,) = told("latency=0.15x", Sum(scale=None))
    assert "needs 0.1600 ms" in exact
    assert "err" not in exact


def test_outlook_asks_whether_a_ratio_was_meant() -> None:
    assert told("latency=0.1ms")[0].endswith("did you mean latency=0.1x, a share of the initial network's value?")
    assert "did you mean" not in told("latency=0.01ms")[0]


def test_outlook_says_that_a_budget_holds_already() -> None:
    (line,) = told("latency=40ms")
    assert line == (
        "the budget latency=40ms holds before anything is cut: the initial network needs 1.000 ms of 40.00 ms; "
        "latency=0.6x would ask for 0.6 times what it needs"
    )
    (line,) = told("latency=1x")
    assert line.endswith("needs 1.000 ms of 1.000 ms")


def test_step_that_no_proposal_meets_is_halved_in_plain_words() -> None:
    # the step of 0.6 ms is more than 56 channels of "a" (0.56 ms) or 28 of "b" (0.28 ms) can give; 0.3 ms "a" can
    ground, course = start("latency=0.2x", reduction=0.6, decay=0.99)
    notes = Notes()
    targets, proposed = _reachable_step(ground, course, notes)
    assert targets == {"latency": pytest.approx(0.7)}
    assert [p.group for p in proposed] == ["a"]
    assert notes.lines == ["iteration 1: no proposal meets this step; trying half of it: 0.300 ms"]


def content(reason: str, widths: dict[str, int], **budget: Any) -> dict[str, Any]:
    missed = {"resource": "latency", "value": 0.1, "relative": True, "budget": "latency=0.1x", "initial": 1.0}
    return {
        "reason": reason,
        "iterations": 7,
        "budgets": [{**missed, "limit": 0.1, "achieved": 0.16, "met": False, **budget}],
        "adapted": {"widths": widths},
        "schedule": {"reduction": 0.025},
    }


@pytest.mark.parametrize(
    ("reason", "widths", "step", "advice"),
    [
        ("the limit of 7 iterations was reached", {"a": 8}, 8, "--resume runs/one --max-iterations 14"),
        (STUCK, {"a": 8}, 8, "its minimum width; a new run needs a larger budget or a smaller --granularity (now 8)"),
        (STUCK, {"a": 1}, 1, "its minimum width; a new run needs a larger budget"),
        (STUCK, {"a": 16}, 8, "a larger budget, a smaller --granularity (now 8) or a smaller --reduction (now 0.025)"),
        (STUCK, {"a": 9}, 1, "result.json; a new run needs a larger budget or a smaller --reduction (now 0.025)"),
    ],
)
def test_shortfall_gives_figures_and_only_hints_that_apply(
    reason: str, widths: dict[str, int], step: int, advice: str
) -> None:
    message = shortfall(content(reason, widths), Path("runs/one/result.json"), {"a": step})
    assert "latency came from 1.000 ms to 0.1600 ms, the budget latency=0.1x is 0.1000 ms" in message
    assert message.endswith(advice)


def test_shortfall_asks_whether_a_ratio_was_meant() -> None:
    found = content(STUCK, {"a": 8}, relative=False, budget="latency=0.1ms")
    assert shortfall(found, Path("result.json"), {"a": 8}).endswith("did you mean latency=0.1x, a share of the initial network's value?")  # fmt: skip # noqa: E501
