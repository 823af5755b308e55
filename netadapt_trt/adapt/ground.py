"""What a run stands on and never changes: the plan, the resource models, the budgets, the means to measure and to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netadapt_trt.adapt.anchor import BroughtMeasurements, Meter, open_meter, read_bench
from netadapt_trt.adapt.candidates import granularities
from netadapt_trt.adapt.proposal import DataArguments, ProposalJob, ProposalResult, run_proposal
from netadapt_trt.adapt.resources import Resources, TableResource, open_resources
from netadapt_trt.adapt.workers import InProcessExecutor, WorkerPool, process_executor
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.adapt.resources import StartedOn, Widths
    from netadapt_trt.adapt.settings import AdaptSettings
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.progress import Progress

__all__ = ["Ground", "devices_of", "open_ground", "open_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """``steps`` are the groups' granularities, ``meter`` is None where the LUT's device is not at hand."""

    settings: AdaptSettings
    plan: Plan
    resources: Resources
    steps: Mapping[str, int]
    data: DataArguments
    devices: tuple[str, ...]
    meter: Meter | None
    brought: BroughtMeasurements | None

    def brought_values(self, widths: Widths) -> dict[str, float]:
        """What a bench.json says about the network at ``widths``: by resource, in the LUT's terms; or nothing."""
        if self.brought is None:
            return {}
        initial = {name: model.initial for name, model in self.resources.models.items() if model.scale is not None}
        return self.brought.values(widths, full=self.plan.full_widths(), initial=initial)


def open_ground(settings: AdaptSettings, plan: Plan, progress: Progress, started: StartedOn | None = None) -> Ground:
    """Open all of it, so that whatever is wrong is said before anything is trained; ``started`` for a run that has begun.

    Raises:
        CoverageError, IdentityError, FileFormatError, SpecError: see the parts.
    """
    if not plan.groups:
        reasons = "; ".join(sorted({frozen.reason for frozen in plan.frozen})) or "no channels were found"
        raise SpecError(f"{plan.model} has no channel group that may shrink ({reasons})")
    resources = open_resources(
        plan, settings.budgets, lut=settings.lut, backend=settings.backend, progress=progress, started=started
    )
    return Ground(
        settings=settings,
        plan=plan,
        resources=resources,
        steps=_steps(plan, settings, resources, started),
        data=DataArguments.of(settings),
        devices=devices_of(settings),
        meter=_meter(settings, plan, resources, progress),
        brought=_brought(settings, plan, resources),
    )


def _steps(plan: Plan, settings: AdaptSettings, resources: Resources, started: StartedOn | None) -> dict[str, int]:
    """As the run began with them, since its table may have grown and its staircase look different now."""
    if started is not None and set(started.steps) == set(plan.full_widths()):
        return dict(started.steps)
    latency = resources.models.get("latency")
    return granularities(plan, settings, latency.staircase if isinstance(latency, TableResource) else None)


def _meter(settings: AdaptSettings, plan: Plan, resources: Resources, progress: Progress) -> Meter | None:
    if resources.lut is None or resources.backend is None or not settings.measure:
        return None
    if not {"latency", "energy"} & set(resources.models):
        return None
    found = open_meter(resources.backend, plan, resources.lut.identity, rounds=settings.rounds)
    if isinstance(found, str):
        progress.notice(found)
        return None
    return found


def _brought(settings: AdaptSettings, plan: Plan, resources: Resources) -> BroughtMeasurements | None:
    if settings.measured is None:
        return None
    if resources.lut is None:
        raise SpecError("--measured brings figures of a device; give the LUT of that device too (--lut FILE)")
    from netadapt_trt.plan.store import plan_hash

    return read_bench(settings.measured, plan=plan, plan_hash=plan_hash(plan), identity=resources.lut.identity)


def devices_of(settings: AdaptSettings) -> tuple[str, ...]:
    """The device of each worker; the first also evaluates and does the long-term training.

    Raises:
        SpecError: a device that is not here; the message lists those that are.
    """
    if settings.devices:
        from netadapt_trt.training.devices import require_device

        for name in settings.devices:
            require_device(name)
        return settings.devices
    import torch

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return (device,) * settings.workers


def open_pool(ground: Ground) -> WorkerPool[ProposalJob, ProposalResult]:
    """The workers of a run: this process where there is one, else one process per device."""
    threads, devices = ground.settings.threads_per_worker, ground.devices
    if len(devices) == 1:
        return WorkerPool(run_proposal, lambda: InProcessExecutor(threads), size=1, device=devices[0])
    if threads is None:
        from netadapt_trt.measure.machine import physical_cores

        threads = max(1, physical_cores() // len(devices))
    return WorkerPool(run_proposal, lambda: process_executor(devices, threads), size=len(devices), device=devices[0])
