"""What the knobs of a search weigh, seen before anything is trained.

The loss is ``CE + alpha * LAT^beta + gamma * ENER^delta`` with LAT in seconds and ENER in joules: expectations over the
blocks' probabilities (FBNet, Wu et al. 2019, without its logarithm; the energy term and the dominance ratios are HANNA's).
Every search starts from uniform probabilities, so both terms are known at once: vLAT and vENER. Against a cross
entropy of about 2 (ten classes, nothing learnt) they say whether a knob does anything, or everything.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.space.table import SpaceTable

__all__ = ["Knobs", "Start", "doubtful_weight", "start", "term", "worst"]

_STEEPEST = 10.0
"""With the power 10, a tenth more latency weighs 2.6 times as much: steeper terms are slips, and their powers overflow."""

_HARDLY, _MOSTLY = 0.01, 100.0
"""Shares of the cross-entropy of guessing below which cost terms hardly count, and above which nothing else does."""

_LARGEST = 1e30
"""A term above it is no loss that anything is learnt from, and single precision ends at 3e38."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """``CE + alpha * LAT^beta + gamma * ENER^delta``: LAT in seconds, ENER in joules. FBNet's own values for latency.

    Raises SpecError for a value that is no finite number, or below 0: that would reward slow and hungry networks.
    """

    alpha: float = 0.2
    beta: float = 0.6
    gamma: float = 0.0
    delta: float = 0.6

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SpecError(f"{name} must be a number")
            found = _double(value)
            if not math.isfinite(found):
                raise SpecError(f"{name} is {found}; it must be a finite number")
            if found < 0:
                what = "energy-hungry" if name in ("gamma", "delta") else "slow"
                raise SpecError(f"{name} is {found:g}; below 0 it would reward {what} networks, use 0 or more")
            if name in ("beta", "delta") and found > _STEEPEST:
                raise SpecError(
                    f"{name} is {found:g}; powers go up to {_STEEPEST:g} (mostly from 0 to 2), use a smaller one"
                )

    def to_json(self) -> dict[str, float]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Knobs:
        """Raises KeyError for a missing knob, SpecError as the class does."""
        return cls(**{name: content[name] for name in ("alpha", "beta", "gamma", "delta")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a search begins, at uniform theta: ``lat_s`` seconds, ``ener_j`` joules (None without a table of energy).

    ``vlat`` is alpha * LAT^beta and ``vener`` gamma * ENER^delta there. ``energy_dominance`` is vENER over vLAT,
    ``latency_dominance`` its inverse; None where they would divide by 0.
    """

    lat_s: float
    ener_j: float | None
    vlat: float
    vener: float
    energy_dominance: float | None
    latency_dominance: float | None


def _double(value: float) -> float:
    """``value`` in double precision: infinite for an integer of hundreds of digits, as JSON may hold one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def term(factor: float, value: float, power: float, *, names: tuple[str, str] = ("alpha", "beta")) -> float:
    """``factor * value ** power``. ``names`` of factor and power are for the message of SpecError: the term overflows."""
    if factor == 0:
        return 0.0
    try:
        found = float(factor * value**power)
    except OverflowError:
        found = math.inf
    if not found <= _LARGEST:
        raise SpecError(
            f"{names[0]} {factor:g} and {names[1]} {power:g} make a loss of {value:.4g}^{power:g} * {factor:g}, "
            f"above {_LARGEST:g}: no search can learn from that; use smaller ones ({names[1]} is mostly from 0 to 2)"
        )
    return found


def worst(costs: np.ndarray, fixed: float) -> float:
    """The dearest child: the largest cost of each place [places, columns] (NaN: not offered), and ``fixed``."""
    return float(np.nanmax(costs, axis=1).sum()) + fixed


def start(table: SpaceTable, knobs: Knobs) -> Start:
    """Latency, energy and both terms of the loss at uniform theta: the mean over each place's candidates, summed.

    Raises SpecError for knobs under which the loss overflows, here or for the dearest child, and for an energy term without
    a table of energy.
    """
    lat_s, ener_j = (float(value) for value in _uniform(table))
    if knobs.gamma and not table.has_energy:
        raise SpecError(
            f"gamma is {knobs.gamma:g}, but {table.source} says nothing of energy; name a table of energy, or use gamma 0"
        )
    term(knobs.alpha, worst(table.latency_ms, table.fixed_latency_ms) / 1e3, knobs.beta)
    vlat, vener = term(knobs.alpha, lat_s, knobs.beta), 0.0
    if table.has_energy:
        names = ("gamma", "delta")
        term(knobs.gamma, worst(table.energy_mj, table.fixed_energy_mj) / 1e3, knobs.delta, names=names)
        vener = term(knobs.gamma, ener_j, knobs.delta, names=names)
    return Start(
        lat_s=lat_s,
        ener_j=ener_j if table.has_energy else None,
        vlat=vlat,
        vener=vener,
        energy_dominance=vener / vlat if vlat > 0 else None,
        latency_dominance=vlat / vener if vener > 0 else None,
    )


def doubtful_weight(begun: Start, num_classes: int) -> tuple[str, ...]:
    """A sentence about knobs whose terms hardly count at the start, or leave accuracy no say; none about others."""
    share = (begun.vlat + begun.vener) / math.log(max(2, num_classes))
    if _HARDLY <= share <= _MOSTLY:
        return ()
    what = "hardly count" if share < _HARDLY else "leave accuracy no say"
    return (
        f"the cost terms begin at {share:.2g} times the cross-entropy of guessing: they {what}; choose other knobs, or give "
        f"a target, which sets them",
    )


def _uniform(table: SpaceTable) -> tuple[float, float]:
    """(seconds, joules)."""
    everything = table.uniform()
    joules = table.expected_energy(everything) / 1e3 if table.has_energy else math.nan
    return table.expected_latency(everything) / 1e3, joules
