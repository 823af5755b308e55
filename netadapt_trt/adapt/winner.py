"""Which proposal goes on.

``paper``: the most accurate one on the holdout set (NetAdapt). ``ratio``: a proposal that loses no accuracy beats any that
does, among those the largest saving wins; else the least accuracy lost per resource saved. Ties fall to the more accurate,
then the more saving, then the one that stays nearer to its budgets (what is saved beyond them serves nobody), then the
first group in the network's order, so that the outcome never depends on finishing order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.adapt.settings import WinnerRule

__all__ = ["Scored", "choose_winner", "share_saved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A finished proposal: holdout accuracy (0 to 1) and the value of every budgeted resource."""

    group: str
    width: int
    accuracy: float
    resources: Mapping[str, float]


def share_saved(proposal: Mapping[str, float], achieved: Mapping[str, float], budgets: Mapping[str, float]) -> float:
    """Mean share of the remaining gaps that ``proposal`` closes, over the resources not met yet; each at most 1.

    A gap cannot be more than closed: what a proposal saves beyond the budget is worth nothing to the user.
    """
    shares = [
        min((achieved[name] - proposal[name]) / (achieved[name] - budget), 1.0)
        for name, budget in budgets.items()
        if achieved[name] > budget
    ]
    return sum(shares) / len(shares) if shares else 0.0


def choose_winner(
    proposals: Sequence[Scored],
    *,
    rule: WinnerRule,
    accuracy_before: float,
    achieved: Mapping[str, float],
    budgets: Mapping[str, float],
    targets: Mapping[str, float],
) -> Scored | None:
    """The winner among ``proposals`` (in the network's group order), None when none met every target.

    Args:
        proposals: finished ones; those that missed a target are passed over.
        rule: ``paper`` or ``ratio``.
        accuracy_before: the current network's holdout accuracy.
        achieved: its resources, by name.
        budgets: what they must come down to, same units.
        targets: this step's targets, same units.

    Raises:
        SpecError: an unknown rule.
    """
    if rule not in ("paper", "ratio"):
        raise SpecError(f"unknown winner rule {rule!r}; known: paper, ratio")
    fitting = [p for p in proposals if all(p.resources[name] <= target for name, target in targets.items())]
    if not fitting:
        return None

    def merit(proposal: Scored) -> tuple[float, ...]:
        saved = share_saved(proposal.resources, achieved, budgets)
        left = sum(proposal.resources[name] / budget for name, budget in budgets.items() if budget > 0)
        if rule == "paper":
            return (proposal.accuracy, saved, left)
        lost = accuracy_before - proposal.accuracy
        if lost <= 0:
            return (1.0, saved, proposal.accuracy, left)
        return (0.0, -lost / saved if saved > 0 else float("-inf"), proposal.accuracy, saved, left)

    return max(fitting, key=merit)  # max keeps the first of equals: the network's order
