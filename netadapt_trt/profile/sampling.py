"""Which whole networks to look into next: where the estimate is least certain, and where an adaptation will look.

Adaptation goes from the uncut network to narrow ones whose groups shrink at different speeds. Random networks of that kind
are drawn, and of each handful the one is taken whose estimate is least certain.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.lut.networks import uneven_widths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from netadapt_trt.backend import Backend
    from netadapt_trt.lut.estimator import NetworkEstimator
    from netadapt_trt.plan.schema import Plan

__all__ = ["Sampling", "next_widths", "sampling_for"]

_HANDFUL = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How long a profile goes on looking into networks.

    ``target_error``: mean held-out error of the estimate (0.03 is 3 %) at which it stops, with ``least`` networks or more;
    ``most``: networks in all. ``batch``: how many are timed in turn with the uncut one. ``rounds`` to ``most_rounds``, until
    odd and even rounds agree within ``repeat_within``, of ``round_ms`` after ``warmup_ms`` each. ``seconds``: a batch takes
    hardly longer. ``grid_share``: of the cells of a full grid that may be measured, once there are ``few`` networks and
    ``cheap`` cells; where widths are tied, forty networks would be a tenth of the grid.
    """

    target_error: float = 0.03
    least: int = 20
    most: int = 40
    batch: int = 10
    rounds: int = 10
    most_rounds: int = 40
    repeat_within: float = 0.02
    round_ms: float = 80.0
    warmup_ms: float = 40.0
    seconds: float = 50.0
    grid_share: float = 0.049
    few: int = 12
    cheap: int = 600

    def room(self, networks: int, cells: int, grid: int) -> int:
        """How many more networks may be looked into after ``networks`` that showed ``cells`` of the ``grid``."""
        per_network = max(1.0, cells / max(1, networks))
        within = max(self.few - networks, int((max(self.cheap, self.grid_share * grid) - cells) / per_network))
        return max(0, min(self.most - networks, within))


def sampling_for(backend: Backend, **chosen: Any) -> Sampling:
    """What suits the backend, with ``chosen`` fields. A device made of a formula repeats itself and needs no patience."""
    if getattr(backend, "simulated", backend.name == "fake"):
        return replace(Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0), **chosen)
    return replace(Sampling(), **chosen)


def next_widths(
    plan: Plan,
    estimator: NetworkEstimator | None,
    count: int,
    *,
    granularity: int,
    seed: int,
    known: Iterable[Mapping[str, int]] = (),
) -> list[dict[str, int]]:
    """``count`` settings of widths to look into that are not ``known``; fewer where hardly any others come out.

    Without an estimator (nothing is known yet) simply random ones.
    """
    draw, taken = random.Random(f"sampling {seed}"), {tuple(widths.values()) for widths in known}
    found: list[dict[str, int]] = []
    for _ in range(4 * count):
        if len(found) == count:
            break
        handful = [uneven_widths(plan, draw, granularity=granularity) for _ in range(_HANDFUL if estimator else 1)]
        fresh = [widths for widths in handful if tuple(widths.values()) not in taken]
        if fresh:
            widths = (
                fresh[0] if estimator is None else max(fresh, key=lambda one: estimator.unsure(one) / estimator.raw(one))
            )
            taken.add(tuple(widths.values()))
            found.append(widths)
    return found
