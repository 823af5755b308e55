"""How fast the target comes down: NetAdapt's resource reduction schedule, one per budgeted resource.

Step i asks for ``R0 * reduction * decay**(i-1)`` less than what has been achieved, and never for less than the budget. The
steps sum to at most ``R0 * reduction / (1 - decay)``; where that cannot cover what is left, decay is raised (never lowered).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netadapt_trt.errors import BudgetError

__all__ = ["MAX_HALVINGS", "Schedule", "make_schedule"]

MAX_HALVINGS = 4
"""How often a step that no group can meet is halved. Looking costs microseconds, giving up costs the run."""

_MARGIN = 0.8
"""The raised decay lets the steps sum to 1/0.8 of what is left, so that the budget is met in finitely many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The schedule of one resource before its next step: ``step`` is that step as a share of ``initial``.

    Attributes:
        initial: R0, the uncut network's value, in the resource's unit.
        budget: what it must come down to, same unit.
    """

    initial: float
    budget: float
    step: float
    decay: float

    def met(self, achieved: float) -> bool:
        """Whether ``achieved`` is within the budget."""
        return achieved <= self.budget

    def reachable(self, achieved: float) -> Schedule:
        """This schedule, its decay raised where the remaining steps would not sum to what is left.

        At the first step this is ``1 - 0.8 * reduction / (1 - budget / initial)``.
        """
        left = (achieved - self.budget) / self.initial
        if left <= 0 or self.step / (1 - self.decay) >= left:
            return self
        return replace(self, decay=1 - _MARGIN * self.step / left)

    def target(self, achieved: float, halvings: int = 0) -> float:
        """The most that this step's proposals may need. A resource that is met keeps its budget as a cap."""
        if self.met(achieved):
            return self.budget
        full = max(self.budget, achieved - self.initial * self.step)
        return achieved - (achieved - full) * 0.5**halvings

    def after_step(self) -> Schedule:
        """The schedule of the next step."""
        return replace(self, step=self.step * self.decay)


def make_schedule(*, initial: float, budget: float, reduction: float = 0.025, decay: float = 0.96) -> Schedule:
    """The schedule before its first step (its decay is not raised yet, see :meth:`Schedule.reachable`).

    Raises:
        BudgetError: the initial value is not positive.
    """
    if not initial > 0:
        raise BudgetError(f"the uncut network's value is {initial:g}; a budget needs a positive one, profile it again")
    return Schedule(initial=initial, budget=budget, step=reduction, decay=decay)
