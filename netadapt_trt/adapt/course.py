"""Where a run stands, as the history tells it: nothing here lives longer than a line of it, so resuming is reading.

The same code follows a run as it goes and after a restart: every decided line is taken in by :meth:`Course.take`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.figures import figure
from netadapt_trt.adapt.schedule import Schedule, make_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.adapt.resources import Resources, Widths
    from netadapt_trt.adapt.state import Record
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Budget

__all__ = ["Course", "resource_block"]


class Course:
    """The current network's widths, accuracy and resources, and the schedule of each budget before its next step.

    Attributes:
        iteration: decisions so far.
        achieved: each budgeted resource's value now: measured where it was measured, else estimated.
        limits: the budgets in each resource's unit.
    """

    def __init__(self, resources: Resources, budgets: tuple[Budget, ...], *, reduction: float, decay: float) -> None:
        self._resources = resources
        self.iteration = 0
        self.widths: Widths = {}
        self.accuracy = 0.0
        self.achieved: dict[str, float] = {}
        self.schedules: dict[str, Schedule] = {}
        for budget in budgets:
            initial = resources.models[budget.name].initial
            self.schedules[budget.name] = make_schedule(
                initial=initial, budget=budget.absolute(initial), reduction=reduction, decay=decay
            )

    @property
    def limits(self) -> dict[str, float]:
        """The budgets, each in its resource's unit."""
        return {name: schedule.budget for name, schedule in self.schedules.items()}

    @property
    def reached(self) -> bool:
        """Whether every budget holds."""
        return all(schedule.met(self.achieved[name]) for name, schedule in self.schedules.items())

    def progress_share(self) -> float:
        """Share of the way to the budgets, of the one that lags most; 0 at the start, 1 when all hold."""
        shares = [
            (schedule.initial - self.achieved[name]) / (schedule.initial - schedule.budget)
            for name, schedule in self.schedules.items()
            if schedule.initial > schedule.budget
        ]
        return min([1.0, *(max(0.0, share) for share in shares)])

    def label(self) -> str:
        """The next iteration and where it starts: ``iteration 2: 0.212 ms, budget 0.180 ms, holdout 60.4 %``."""
        figures = "; ".join(
            f"{figure(name, self.achieved[name], 3)}, budget {figure(name, limit, 3)}" for name, limit in self.limits.items()
        )
        return f"iteration {self.iteration + 1}: {figures}, holdout {100 * self.accuracy:.1f} %"

    def take(self, record: Record) -> None:
        """Follow an ``initial``, ``decision`` or ``anchor`` line; others are passed over."""
        kind = record.get("type")
        if kind not in ("initial", "decision", "anchor"):
            return
        if kind == "initial":
            self.accuracy = float(record["accuracy_holdout"])
        if kind == "decision":
            self.iteration = int(record["iteration"])
            self.accuracy = float(record["accuracy"])
            self.schedules = {n: s.reachable(self.achieved[n]).after_step() for n, s in self.schedules.items()}
        self.widths = {str(group): int(width) for group, width in record["widths"].items()}
        for name, block in record["resources"].items():
            known = name in self._resources.models  # not where this process has no table, or one without energy
            if known and block.get("measured") is not None and kind != "initial":
                self._resources.models[name].anchor(self.widths, float(block["measured"]))
        self.achieved = {name: self._value(record["resources"][name]) for name in self.schedules}

    def plan_step(self, progress: Progress) -> None:
        """Raise a schedule's decay where its steps would not reach the budget, and say so."""
        for name, schedule in self.schedules.items():
            raised = schedule.reachable(self.achieved[name])
            if raised is not schedule:
                progress.notice(
                    f"{name}: steps decaying by {schedule.decay:g} would stop short of the budget; "
                    f"decay is raised to {raised.decay:.4f}"
                )
                self.schedules[name] = raised

    def targets(self, halvings: int) -> dict[str, float]:
        """What the next step may need at most, by resource, after that many halvings."""
        return {name: schedule.target(self.achieved[name], halvings) for name, schedule in self.schedules.items()}

    @staticmethod
    def _value(block: Mapping[str, Any]) -> float:
        measured = block.get("measured")
        return float(block["estimate"] if measured is None else measured)


def resource_block(
    resources: Resources, widths: Widths, measured: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """The ``resources`` entry of a history line: what was promised (before anchoring to ``measured``) and what was found."""
    return {
        name: {"estimate": model.value(widths), "measured": measured.get(name), "scale": model.scale}
        for name, model in resources.models.items()
    }
