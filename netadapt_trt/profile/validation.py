"""What came out of testing a table: estimates against measured networks, as figures, in words and as a file.

Figures are fractions (0.05 is 5 %). The machine's own noise stands beside every error, because no estimate can agree with
a measurement better than the measurement agrees with itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from netadapt_trt.files import write_document
from netadapt_trt.measure.stats import mape, spearman

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "FORMAT",
    "VERSION",
    "Agreement",
    "Anchor",
    "Portion",
    "ValidatedNetwork",
    "Validation",
    "agreement",
    "write_validation",
]

FORMAT = "netadapt-validation"
VERSION = 1

_ROUNDING = 1e-9  # of a ratio: a formula that is right is not counted out for its last digit


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedNetwork:
    """One held-out network. ``estimate_ms`` is ``table_ms``, what the table says, times its portion's drift.

    ``sigma_ms`` is the estimate's own uncertainty, where the estimator offers one. ``isolated_sum_ms``: its layers timed
    alone at exactly these widths and added up, where that was done. ``repeatability``: how far odd and even rounds differ.
    ``extrapolated``: keys of the layers that were read outside the table's cells. ``portion`` counts from 0.
    """

    widths: Mapping[str, int]
    estimate_ms: float
    measured_ms: float
    table_ms: float
    sigma_ms: float | None
    isolated_sum_ms: float | None
    repeatability: float
    extrapolated: tuple[str, ...]
    portion: int

    @property
    def error(self) -> float:
        """Estimate over measured, less 1."""
        return self.estimate_ms / self.measured_ms - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A network that the table was measured with, timed among the others; ``then_ms`` None where the table lacks it."""

    widths: Mapping[str, int]
    then_ms: float | None
    now_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Networks that were timed turn by turn, with ``anchors`` among them.

    ``drift`` is the geometric mean of the anchors' times now over then; None where the table holds none of them.
    """

    anchors: tuple[Anchor, ...]
    drift: float | None
    networks: int
    rounds: int
    repeatability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How estimates agree with measurements; all but ``bias`` and ``spearman`` are shares or mean relative errors.

    ``bias`` is the mean of estimate over measured. ``within_3x_repeatability`` holds the error of each network against
    three times the mean repeatability of all. ``mape_without_drift_correction`` takes every drift as 1. ``within_1_sigma``:
    networks whose error is at most the estimate's own standard deviation (two thirds, were that exact), None where it has
    none.
    """

    mape: float
    bias: float
    spearman: float | None
    within_5pct: float
    within_10pct: float
    within_3x_repeatability: float
    within_1_sigma: float | None
    mape_without_drift_correction: float
    isolated_sum_mape: float | None
    isolated_sum_bias: float | None
    isolated_networks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A table tested on networks it does not hold. ``drift`` is the median of the portions', None where none is known.

    ``redrawn`` settings were drawn but passed over, because the table holds them or they came twice. ``stopped`` says what
    ended it early. ``disturbed`` says in words what moved or was busy on the device meanwhile. ``channels`` is the sum over
    all groups of the uncut network.
    """

    lut: str
    model: str
    plan: str
    date: str
    identity: Mapping[str, Any]
    seed: int
    granularity: int
    channels: int
    agreement: Agreement
    repeatability_mape: float
    repeatability_wanted: float
    drift: float | None
    rounds: int
    redrawn: int
    stopped: str | None
    disturbed: tuple[str, ...]
    verdict: tuple[str, ...]
    portions: tuple[Portion, ...]
    networks: tuple[ValidatedNetwork, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the figures of the agreement among them at the top."""
        content = asdict(self)
        return {**content.pop("agreement"), **content}


def agreement(networks: Sequence[ValidatedNetwork], repeatability: float) -> Agreement:
    """The figures over ``networks``, of which there is at least one. ``repeatability`` is the mean over all of them."""
    measured = [network.measured_ms for network in networks]
    estimates = [network.estimate_ms for network in networks]
    errors = [abs(network.error) for network in networks]
    alone = [(network.isolated_sum_ms, network.measured_ms) for network in networks if network.isolated_sum_ms is not None]
    sums, wholes = [one for one, _ in alone], [whole for _, whole in alone]

    known = [
        abs(network.estimate_ms - network.measured_ms) <= network.sigma_ms
        for network in networks
        if network.sigma_ms is not None
    ]

    def within(limit: float) -> float:
        return sum(error <= limit + _ROUNDING for error in errors) / len(errors)

    return Agreement(
        mape=mape(estimates, measured),
        bias=sum(network.error for network in networks) / len(networks) + 1,
        spearman=spearman(estimates, measured),
        within_5pct=within(0.05),
        within_10pct=within(0.10),
        within_3x_repeatability=within(3 * repeatability),
        within_1_sigma=fmean(known) if known else None,
        mape_without_drift_correction=mape([network.table_ms for network in networks], measured),
        isolated_sum_mape=mape(sums, wholes) if alone else None,
        isolated_sum_bias=sum(one / whole for one, whole in alone) / len(alone) if alone else None,
        isolated_networks=len(alone),
    )


def write_validation(path: Path, validation: Validation) -> None:
    """Write ``validation`` as a document, atomically. Raises OSError."""
    write_document(path, format=FORMAT, version=VERSION, content=validation.to_json())
