"""A target instead of a knob: alpha (or gamma) is set so that the most probable child ends at the target.

The term ``alpha * LAT^beta`` is written ``weight / beta * (LAT / target)^beta``: ``weight`` is what one per cent more
latency costs at the target, in hundredths of a nat, whatever the units. Its logarithm is led by a proportional and an
integral part of log(child / target): the integral finds the weight, the proportional part keeps it from swinging about the
target, because theta itself integrates what drives it. It is led by the most probable child, not by the expected latency:
while theta is undecided the two are far apart, and it is the child that has to fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import FileFormatError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from netadapt_trt.space.table import SpaceTable

__all__ = ["Limit", "Pilot", "limits_of", "most_probable_within", "require_reachable"]

_FIRST = 0.5
_LOWEST, _HIGHEST = 1e-3, 1e3
_INTEGRAL = 20.0
"""Over a whole search the logarithm moves by that many times the mean of log(child / target)."""
_PROPORTIONAL = 2.0
"""Both were chosen on planted cases without training: 50 to 1,500 steps, blocks whose worth differs by 0.01 to 0.25 nats."""
_KEPT = 4096
_TOLERANCE = 1e-9


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


def limits_of(table: SpaceTable, latency_ms: float | None, energy_mj: float | None) -> dict[str, Limit]:
    """Targets by their resource.

    Raises:
        SpecError: an energy target without a table of energy, or a target below the cheapest child.
    """
    found: dict[str, Limit] = {}
    if latency_ms is not None:
        found["latency"] = Limit(
            what="latency", unit="ms", target=latency_ms, costs=table.latency_ms, fixed=table.fixed_latency_ms
        )
    if energy_mj is not None:
        if not table.has_energy:
            raise SpecError(f"an energy target needs a table of energy, {table.source} has none; name a second --table")
        found["energy"] = Limit(
            what="energy", unit="mJ", target=energy_mj, costs=table.energy_mj, fixed=table.fixed_energy_mj
        )
    require_reachable(found)
    return found


def require_reachable(limits: Mapping[str, Limit]) -> None:
    """Raise SpecError for a target below what the cheapest child costs."""
    for limit in limits.values():
        least = float(np.nanmin(limit.costs, axis=1).sum() + limit.fixed)
        if limit.target < least * (1 - _TOLERANCE):
            raise SpecError(
                f"no child of this space meets the {limit.what} target of {limit.target:g} {limit.unit}: the cheapest one "
                f"costs {least:.4g} {limit.unit}; raise the target, or search a space of smaller blocks"
            )


class Pilot:
    """Sets the factor of one term of the loss (alpha for latency, gamma for energy), step by step.

    ``power`` is beta or delta, ``steps`` how many steps of theta the whole search has.
    """

    def __init__(self, limit: Limit, power: float, steps: int) -> None:
        self.limit = limit
        self._power = power
        self._gain = _INTEGRAL / max(1, steps)
        self._level = math.log(_FIRST)
        self._weight = _FIRST

    @property
    def factor(self) -> float:
        """Alpha or gamma: multiplies seconds or joules to the power."""
        return float(self._weight / self._power / (self.limit.target / 1e3) ** self._power)

    def update(self, columns: Sequence[int]) -> None:
        """Take in the most probable child after a step of theta."""
        miss = math.log(max(self.limit.of(columns), 1e-12) / self.limit.target)
        low, high = math.log(_LOWEST), math.log(_HIGHEST)
        self._level = min(max(self._level + self._gain * miss, low), high)
        self._weight = math.exp(min(max(self._level + _PROPORTIONAL * miss, low), high))

    def state(self) -> list[float]:
        """What :meth:`load` continues from."""
        return [self._level, self._weight]

    def load(self, state: Any) -> None:
        """Raises FileFormatError."""
        try:
            self._level, self._weight = (float(value) for value in state)
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"the state of a target is damaged: {error!r}") from error


def most_probable_within(theta: NDArray[np.float64], limits: Sequence[Limit]) -> tuple[int, ...]:
    """The child with the largest product of probabilities that meets every limit; the argmax where that one does.

    ``theta`` [places, columns], NaN where not offered. Partial children are extended place by place; one is dropped when it
    can meet a limit no more, or when another is at least as probable and as cheap. That is exact up to the 4,096 most
    promising ones that are kept at each place.

    Raises:
        SpecError: none was found.
    """
    best = tuple(int(column) for column in np.nanargmax(theta, axis=1))
    if all(limit.of(best) <= limit.target * (1 + _TOLERANCE) for limit in limits):
        return best
    # Costs beyond the cheapest of each place: what is spent is compared with what may be.
    extra = np.stack([limit.costs - np.nanmin(limit.costs, axis=1, keepdims=True) for limit in limits])
    room = np.array(
        [limit.target * (1 + _TOLERANCE) - np.nanmin(limit.costs, axis=1).sum() - limit.fixed for limit in limits]
    )
    behind = theta - np.nanmax(theta, axis=1, keepdims=True)
    scores, spent, chosen = np.zeros(1), np.zeros((1, len(limits))), np.zeros((1, 0), dtype=np.int64)
    for row in range(len(theta)):
        offered = np.flatnonzero(~np.isnan(theta[row]))
        scores = (scores[:, None] + behind[row, offered]).ravel()
        spent = (spent[:, None, :] + extra[:, row, offered].T).reshape(-1, len(limits))
        chosen = np.hstack([np.repeat(chosen, len(offered), axis=0), np.tile(offered, len(chosen))[:, None]])
        keep = _promising(scores, spent, room)
        scores, spent, chosen = scores[keep], spent[keep], chosen[keep]
    if not len(scores):
        told = " and ".join(f"{limit.what} of {limit.target:g} {limit.unit}" for limit in limits)
        raise SpecError(f"no child was found that meets a {told} at once; raise one of the targets")
    return tuple(int(column) for column in chosen[int(scores.argmax())])


def _promising(scores: NDArray[np.float64], spent: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which partial children to extend, best first."""
    order = np.lexsort((*spent.T, -scores))
    order = order[(spent[order] <= room).all(1)]
    if spent.shape[1] == 1:  # a child less probable than one before it must at least be cheaper than all of those
        least = np.minimum.accumulate(spent[order, 0])
        order = order[np.concatenate([[True], spent[order[1:], 0] < least[:-1]])] if len(order) else order
    if len(order) <= _KEPT:
        return order
    # Of too many, the most probable and the cheapest: those that a tight limit will leave over.
    cheap = order[np.argsort((spent[order] / np.maximum(room, 1e-300)).max(1), kind="stable")[: _KEPT // 4]]
    return np.unique(np.concatenate([order[: _KEPT - len(cheap)], cheap]))
