"""A target instead of a knob: alpha (or gamma) is set so that the most probable child ends at the target.

The term ``alpha * LAT^beta`` is written ``weight / beta * (LAT / target)^beta``: ``weight`` is what one per cent more
latency costs at the target, in hundredths of a nat, whatever the units. Its logarithm is led by a proportional and an
integral part of log(child / target): the integral finds the weight, the proportional part keeps it from swinging about the
target, because theta itself integrates what drives it. It is led by the most probable child, not by the expected latency:
while theta is undecided the two are far apart, and it is the child that has to fit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.search.within import Limit, require_reachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.space.table import SpaceTable

__all__ = ["Pilot", "limits_of"]

_FIRST = 0.5
_LOWEST, _HIGHEST = 1e-3, 1e3
_INTEGRAL = 20.0
"""Over a whole search the logarithm moves by that many times the mean of log(child / target)."""
_PROPORTIONAL = 2.0
"""Both were chosen on planted cases without training: 50 to 1,500 steps, blocks whose worth differs by 0.01 to 0.25 nats."""


def limits_of(table: SpaceTable, latency_ms: float | None, energy_mj: float | None) -> dict[str, Limit]:
    """Targets by their resource.

    Raises:
        SpecError: an energy target without a table of energy, or targets that no child meets, alone or at once.
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
        """Alpha or gamma: multiplies seconds or joules to the power. Raises SpecError where that is no number."""
        try:
            return float(self._weight / self._power / (self.limit.target / 1e3) ** self._power)
        except (OverflowError, ZeroDivisionError) as error:
            raise SpecError(
                f"a {self.limit.what} target of {self.limit.target:g} {self.limit.unit} to the power {self._power:g} is no "
                f"number that a loss can hold; use a smaller power, or a target that is a likely {self.limit.what}"
            ) from error

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
        except (TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"the state of a target is damaged: {error!r}") from error
