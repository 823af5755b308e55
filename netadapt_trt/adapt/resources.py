"""What a network costs at any widths, one model per resource, all asked in the same way.

Latency and energy come from a LUT and can be re-anchored to measurements; macs, params and memory are counted on the plan
and are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from netadapt_trt.errors import CoverageError, IdentityError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from netadapt_trt.backend import Backend
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.plan.sizes import PlanSizes
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Budget, Identity

__all__ = [
    "CountedResource",
    "ResourceModel",
    "Resources",
    "StartedOn",
    "TableResource",
    "Widths",
    "open_resources",
]

Widths = dict[str, int]
"""Every channel group of the plan and its width."""

COUNTED = ("macs", "params", "memory")


class ResourceModel(Protocol):
    """One resource of one network, in its own unit (ms, mJ, bytes, counts)."""

    @property
    def initial(self) -> float:
        """The uncut network's value, which relative budgets refer to; measured where the resource is."""

    @property
    def scale(self) -> float | None:
        """What sums of table rows are multiplied by; None where the value is exact."""

    def value(self, widths: Widths) -> float:
        """The network at ``widths``."""

    def curve(self, widths: Widths, group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """The network for each candidate width of ``group``, all else at ``widths``: shape [n]."""

    def anchor(self, widths: Widths, measured: float) -> None:
        """From here on agree with what was ``measured`` at ``widths``. Exact resources ignore it."""

    def extrapolates(self, widths: Widths) -> tuple[str, ...]:
        """Layers whose value at ``widths`` lies outside what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedOn:
    """The LUT that a run began with, as far as its figures depend on it.

    Attributes:
        identity: the conditions of every measured figure in the history; None where it has none yet.
        initial: the uncut network's value by resource, which targets, budgets and measured ratios refer to.
        steps: the granularity of every group's widths; {} of a run that did not write it down.
    """

    identity: Identity | None
    initial: Mapping[str, float]
    steps: Mapping[str, int] = field(default_factory=dict)


class TableResource:
    """Latency, energy or the energy of one rail, from a LUT by way of its estimator.

    ``initial`` is the uncut network's value that a run began with, where the table may have been measured anew since.
    """

    def __init__(
        self,
        lut: Lut,
        plan: Plan,
        backend: Backend,
        resource: str,
        initial: float | None = None,
    ) -> None:
        from netadapt_trt.lut.estimator import NetworkEstimator
        from netadapt_trt.lut.reading import initial_measured

        self._estimator = NetworkEstimator(lut, plan, backend.partition(plan), resource)
        self._initial = initial_measured(lut, plan, resource)
        self._estimator.raw(plan.full_widths())  # complains about missing layers now, not hours later
        if initial is not None:
            self._initial = initial
        # Targets are shares of the uncut network's measured value, so the estimates go through it.
        if self._estimator.in_context or self._initial != initial_measured(lut, plan, resource):
            self._estimator.anchor(plan.full_widths(), self._initial)

    @property
    def initial(self) -> float:
        """End-to-end measurement of the uncut network, from the LUT that the run began with."""
        return self._initial

    @property
    def staircase(self) -> dict[str, int]:
        """Channels that the runtime's kernels compute together, by group; {} where the table shows no steps."""
        return self._estimator.staircase()

    @property
    def scale(self) -> float | None:
        """Measured over summed, at the network the table is anchored to."""
        return self._estimator.scale

    def value(self, widths: Widths) -> float:
        """Scaled sum of rows."""
        return self._estimator.estimate(widths).value

    def curve(self, widths: Widths, group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scaled sums of rows, shape [n]."""
        return np.asarray(self._estimator.curve(widths, group, candidates), dtype=np.float64)

    def anchor(self, widths: Widths, measured: float) -> None:
        """Rescale."""
        self._estimator.anchor(widths, measured)

    def extrapolates(self, widths: Widths) -> tuple[str, ...]:
        """Keys of layers outside their measured hull."""
        return self._estimator.extrapolates(widths)


class CountedResource:
    """macs, params or memory, counted on the plan for many widths at once."""

    def __init__(self, plan: Plan, resource: str, sizes: PlanSizes | None = None) -> None:
        from netadapt_trt.plan.sizes import PlanSizes

        counts = sizes or PlanSizes(plan)
        self._count = {"macs": counts.macs, "params": counts.params, "memory": counts.memory_bytes}[resource]
        self._full = plan.full_widths()
        self._groups = list(self._full)

    @property
    def initial(self) -> float:
        """The uncut network's count."""
        return self.value(self._full)

    @property
    def scale(self) -> float | None:
        """Exact: none."""
        return None

    def value(self, widths: Widths) -> float:
        """The count at ``widths``."""
        return float(self._count(self._row(widths)[None, :])[0])

    def curve(self, widths: Widths, group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """The counts, shape [n]."""
        rows = np.repeat(self._row(widths)[None, :], len(candidates), axis=0)
        rows[:, self._groups.index(group)] = candidates
        return np.asarray(self._count(rows), dtype=np.float64)

    def anchor(self, widths: Widths, measured: float) -> None:
        """Nothing to do: counts are exact."""

    def extrapolates(self, widths: Widths) -> tuple[str, ...]:
        """Nothing ever is."""
        return ()

    def _row(self, widths: Mapping[str, int]) -> NDArray[np.int64]:
        return np.array([widths.get(group, self._full[group]) for group in self._groups], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """All models at hand by resource name: the budgeted ones and whatever else can be said without more measuring."""

    models: Mapping[str, ResourceModel]
    lut: Lut | None
    backend: Backend | None

    def extrapolates(self, widths: Widths) -> tuple[str, ...]:
        """Layers that any model reads outside its measured hull."""
        found = [key for model in self.models.values() for key in model.extrapolates(widths)]
        return tuple(dict.fromkeys(found))


def open_resources(
    plan: Plan,
    budgets: Sequence[Budget],
    *,
    lut: Path | None,
    backend: str | None,
    progress: Progress,
    started: StartedOn | None = None,
) -> Resources:
    """Build the models of every budget, and of latency and energy where the LUT has them anyway.

    ``started`` is what a resumed run began with: the LUT must be one of the same conditions, and may have grown.

    Raises:
        CoverageError: a budgeted resource that the LUT does not cover; the message holds the command that measures it.
        IdentityError: the LUT is of another backend than ``backend``, or of other conditions than the run's first one.
    """
    table, runtime = _open_lut(lut, backend, None if started is None else started.identity)
    initial = {} if started is None else started.initial
    budgeted = [budget.name for budget in budgets]
    models: dict[str, ResourceModel] = {}
    for name in dict.fromkeys([*budgeted, "latency", "energy", *COUNTED]):
        if name in COUNTED:
            models[name] = CountedResource(plan, name)
        elif table is not None and runtime is not None:
            try:
                models[name] = TableResource(table, plan, runtime, name, initial.get(name))
            except CoverageError as error:
                if name in budgeted:
                    if name == "energy" and not _holds_energy(table):
                        raise CoverageError(_no_energy(table, lut)) from error
                    raise
                if name == "latency":
                    progress.notice(f"latency is left out of this run: {error}")
    return Resources(models=models, lut=table, backend=runtime)


def _holds_energy(table: Lut) -> bool:
    return any(cell.energy_mj for cell in table.cells) or any(line.energy_mj for line in table.networks)


def _no_energy(table: Lut, path: Path | None) -> str:
    identity = table.identity
    return (
        f"{path} holds no energy: no power source was read while {identity.backend} was timed on {identity.device}. "
        f"Profile again there with one that works (netadapt-trt doctor lists them), or budget latency, memory, macs or "
        f"params instead"
    )


def _open_lut(path: Path | None, backend: str | None, started: Identity | None) -> tuple[Lut | None, Backend | None]:
    if path is None:
        return None, None
    from netadapt_trt.backend import load_backend
    from netadapt_trt.lut.store import read_lut

    lut = read_lut(path)
    if backend is not None and backend != lut.identity.backend:
        raise IdentityError(
            f"{path} was measured with backend = {lut.identity.backend!r}, the run asks for {backend!r}; "
            f"use that backend, or a LUT of this one"
        )
    differences = [] if started is None else started.differences(lut.identity)
    if differences:
        told = "; ".join(f"{key} was {run!r} when the run began and is {new!r} here" for key, run, new in differences)
        raise IdentityError(
            f"{path} was measured under other conditions than the LUT of this run: {told}. Its milliseconds do not compare "
            f"with those in the run's history; resume with a LUT of the same conditions, or start a new run with this one"
        )
    return lut, load_backend(lut.identity.backend)
