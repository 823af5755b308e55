"""The most probable child among those that meet the targets, and whether any child meets them at all.

With one target that is a multiple-choice knapsack, and small enough to solve. With two it is not solved, only searched well;
but whether two targets can be met at once follows from one: the fastest child within the energy says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Limit", "most_probable_within", "require_reachable"]

_KEPT = 4096
"""Partial children at each place while two targets are looked after."""
_FEW = 256
"""Of them, to find a child by which others are dropped."""
_TOLERANCE = 1e-9
_ROUNDING = 1e-9
"""Of a bound beyond which a partial child is dropped: far above what sums of doubles lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a child's sum of ``costs`` [places, columns] (NaN: not offered) and ``fixed`` may be, in one unit."""

    what: str
    unit: str
    target: float
    costs: NDArray[np.float64]
    fixed: float

    def of(self, columns: Sequence[int]) -> float:
        """The child's cost."""
        return float(self.costs[np.arange(len(columns)), list(columns)].sum() + self.fixed)

    def least(self) -> float:
        """What the cheapest child costs."""
        return float(np.nanmin(self.costs, axis=1).sum() + self.fixed)

    def met_by(self, cost: float) -> bool:
        """Whether ``cost`` is within the target, but for rounding."""
        return cost <= self.target * (1 + _TOLERANCE)

    def extra(self) -> NDArray[np.float64]:
        """Costs beyond the cheapest of each place."""
        found: NDArray[np.float64] = self.costs - np.nanmin(self.costs, axis=1, keepdims=True)
        return found

    def room(self) -> float:
        """What a child may cost beyond the cheapest one."""
        return self.target * (1 + _TOLERANCE) - self.least()

    def __str__(self) -> str:
        return f"{self.what} target of {self.target:g} {self.unit}"


def require_reachable(limits: Mapping[str, Limit]) -> None:
    """Raise SpecError for a target below what the cheapest child costs, or for two that no child meets at once."""
    for limit in limits.values():
        if not limit.met_by(limit.least()):
            raise SpecError(
                f"no child of this space meets the {limit}: the cheapest one costs {limit.least():.4g} {limit.unit}; raise "
                f"the target, or search a space of smaller blocks"
            )
    if len(limits) > 1:
        first, second = limits.values()
        if not first.met_by(first.of(_cheapest_within(first, second))):
            raise _unreachable(first, second)


def most_probable_within(theta: NDArray[np.float64], limits: Sequence[Limit]) -> tuple[int, ...]:
    """The child with the largest product of probabilities that meets every limit; the argmax where that one does.

    ``theta`` [places, columns], NaN where not offered. At most two limits. Under one limit the child is the optimum; under
    two it is the best that comes of the :data:`_KEPT` partial children kept at each place, and there is one if there can be.

    Raises:
        SpecError: no child meets the limits.
    """
    best = tuple(int(column) for column in np.nanargmax(theta, axis=1))
    if all(limit.met_by(limit.of(best)) for limit in limits):
        return best
    found = _well_within(theta, limits) if len(limits) > 1 else None
    if found is not None:
        return found
    require_reachable({limit.what: limit for limit in limits})
    return _best_within(theta, limits[0]) if len(limits) == 1 else _cheapest_within(*limits)


def _unreachable(first: Limit, second: Limit) -> SpecError:
    least = [one.of(_cheapest_within(one, other)) for one, other in ((first, second), (second, first))]
    return SpecError(
        f"no child of this space meets the {first} and the {second} at once, though each alone can be met: the least "
        f"{first.what} within the {second.what} target is {least[0]:.4g} {first.unit}, the least {second.what} within the "
        f"{first.what} target {least[1]:.4g} {second.unit}; raise one of the targets, or search a space of smaller blocks"
    )


def _cheapest_within(first: Limit, second: Limit) -> tuple[int, ...]:
    """The child that costs least by ``first`` of those that meet ``second``, which some child must meet."""
    return _best_within(-first.costs, second)


def _best_within(worth: NDArray[np.float64], limit: Limit) -> tuple[int, ...]:
    """The child with the largest sum of ``worth`` [places, columns] (NaN: not offered) within ``limit``; some child must be.

    At a price for cost every block loses something against the best of its place. What an optimum loses in all is at most
    what a child that is known loses, and the price of the room which that leaves. So a good one is looked for first.
    """
    room, extra = max(limit.room(), 0.0), limit.extra()
    price, known = _price(worth, extra, room)
    paid = worth - price * extra
    loss = np.nanmax(paid, axis=1, keepdims=True) - paid
    rows = np.arange(len(worth))
    for kept in (_FEW, None):
        most = float(loss[rows, known].sum() + price * (room - extra[rows, known].sum()))
        most += _ROUNDING * (1 + abs(most) + price * room)
        found = _extended(worth, extra, loss, room, most, kept)
        known = known if found is None else found
    return tuple(int(column) for column in known)


def _extended(
    worth: NDArray[np.float64],
    extra: NDArray[np.float64],
    loss: NDArray[np.float64],
    room: float,
    most: float,
    kept: int | None,
) -> NDArray[np.int64] | None:
    """The child worth most of those that lose at most ``most``, built place by place; None where all were dropped.

    A partial child is dropped when another is worth as much and costs no more. ``kept``: so many at each place go on, those
    that lost least; None: all.
    """
    gained, lost, spent, chosen = np.zeros(1), np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
    for row in range(len(worth)):
        offered = np.flatnonzero(~np.isnan(worth[row]))
        gained, lost, spent = (
            (sums[:, None] + values[row, offered]).ravel()
            for sums, values in ((gained, worth), (lost, loss), (spent, extra))
        )
        order = np.flatnonzero((spent <= room) & (lost <= most))
        order = order[np.lexsort((spent[order], -gained[order]))]
        if len(order):
            least = np.minimum.accumulate(spent[order])
            order = order[np.concatenate([[True], spent[order[1:]] < least[:-1]])]
        if kept is not None and len(order) > kept:
            order = order[np.sort(np.argpartition(lost[order], kept)[:kept])]
        gained, lost, spent = gained[order], lost[order], spent[order]
        chosen = np.hstack([chosen[order // len(offered)], offered[order % len(offered), None]])
    return chosen[0] if len(chosen) else None  # the first is worth most


def _price(worth: NDArray[np.float64], extra: NDArray[np.float64], room: float) -> tuple[float, NDArray[np.int64]]:
    """The lowest price of a unit of cost, nearly, at which the best of each place fit into ``room``; and these columns."""

    def bought(price: float) -> NDArray[np.int64]:
        paid = worth - price * extra
        tied = paid >= np.nanmax(paid, axis=1, keepdims=True)
        found: NDArray[np.int64] = np.nanargmin(np.where(tied, extra, np.nan), axis=1)
        return found

    def fits(columns: NDArray[np.int64]) -> bool:
        return bool(extra[np.arange(len(columns)), columns].sum() <= room)

    low, high = 0.0, 1.0
    while not fits(bought(high)):
        low, high = high, high * 4
        if high > 1e30:  # blocks cost so little more that no price tells them apart
            return 0.0, np.nanargmax(np.where(extra <= 0, worth, np.nan), axis=1)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(bought(middle)) else (middle, high)
    return high, bought(high)


def _well_within(theta: NDArray[np.float64], limits: Sequence[Limit]) -> tuple[int, ...] | None:
    """A probable child that meets all limits, by a beam of partial children; None where that loses them all."""
    extra = np.stack([limit.extra() for limit in limits])
    room = np.array([limit.room() for limit in limits])
    behind = theta - np.nanmax(theta, axis=1, keepdims=True)
    scores, spent, chosen = np.zeros(1), np.zeros((1, len(limits))), np.zeros((1, 0), dtype=np.int64)
    for row in range(len(theta)):
        offered = np.flatnonzero(~np.isnan(theta[row]))
        scores = (scores[:, None] + behind[row, offered]).ravel()
        spent = (spent[:, None, :] + extra[:, row, offered].T).reshape(-1, len(limits))
        chosen = np.hstack([np.repeat(chosen, len(offered), axis=0), np.tile(offered, len(chosen))[:, None]])
        keep = _promising(scores, spent, room)
        scores, spent, chosen = scores[keep], spent[keep], chosen[keep]
    return tuple(int(column) for column in chosen[int(scores.argmax())]) if len(scores) else None


def _promising(scores: NDArray[np.float64], spent: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which partial children to extend, best first."""
    order = np.lexsort((*spent.T, -scores))
    order = order[(spent[order] <= room).all(1)]
    if len(order) <= _KEPT:
        return order
    # Of too many, the most probable and the cheapest: those that a tight limit will leave over.
    cheap = order[np.argsort((spent[order] / np.maximum(room, 1e-300)).max(1), kind="stable")[: _KEPT // 4]]
    return np.unique(np.concatenate([order[: _KEPT - len(cheap)], cheap]))
