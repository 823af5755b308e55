"""Children of a sweep timed turn by turn on a runtime, so that a slow minute hits all of them alike."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.measure.energy import measure_energy
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice
from netadapt_trt.measure.stopwatch import time_interleaved
from netadapt_trt.plan.write import write_network
from netadapt_trt.progress import QUIET
from netadapt_trt.space.plan import child_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.progress import Progress
    from netadapt_trt.space.schema import Space

__all__ = ["NETWORKS", "measure_children"]

NETWORKS = "same graph, fresh weights, fp32"
"""What is timed in place of the trained children, and how results.json calls it."""


def measure_children(
    space: Space,
    children: Sequence[Sequence[str]],
    *,
    backend: str,
    num_classes: int | None = None,
    threads: int | None = None,
    rounds: int = 7,
    round_ms: float = 200.0,
    meter: Callable[[Backend], PowerMeter | None] | None = None,
    progress: Progress = QUIET,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(conditions, for each child ``latency_ms`` and ``energy_mj`` as {median, ...} and {total, ...} or None).

    Weights are fresh: kernels take as long with trained ones. ``num_classes`` are those of the data, where children have
    other than the space's. Energy is what the runtime knows itself, else what ``meter`` measures.

    Raises:
        SpecError: an unknown backend. BackendError: it is missing, or refuses a child. PowerError: the source vanished.
    """
    space = space if num_classes is None else replace(space, num_classes=num_classes)
    runtime = load_backend(backend)
    count = threads or runtime.default_threads()
    notice = quiet_notice(other_load())
    if notice:
        progress.notice(notice)
    opset, ir_version = runtime.opset()
    options = CompileOptions(precision="fp32", threads=count)
    conditions: dict[str, Any] = {
        "identity": runtime.identity(precision="fp32", batch=1, threads=count).to_json(),
        "networks": NETWORKS,
        "num_classes": space.num_classes,
        "rounds": rounds,
        "session": machine_state().to_json(),
        "power_source": None,
    }
    with ExitStack() as stack:
        executables = [
            stack.enter_context(
                runtime.compile(
                    write_network(child_plan(space, list(blocks)), {}, opset=opset, ir_version=ir_version), options
                )
            )
            for blocks in children
        ]
        timings = time_interleaved(executables, rounds=rounds, round_ms=round_ms)
        energies = _energies(runtime, executables, timings, meter, conditions)
    found = [
        {"latency_ms": timing.stats.to_json(), "energy_mj": energy} for timing, energy in zip(timings, energies, strict=True)
    ]
    return conditions, found


def _energies(
    runtime: Backend,
    executables: Sequence[Executable],
    timings: Sequence[RoundTimings],
    meter: Callable[[Backend], PowerMeter | None] | None,
    conditions: dict[str, Any],
) -> list[dict[str, Any] | None]:
    power = None if meter is None or all(timing.energy is not None for timing in timings) else meter(runtime)
    if power is None:
        return [None if timing.energy is None else timing.energy.to_json() for timing in timings]
    with power:
        readings = measure_energy(power, executables)
        conditions["power_source"] = power.source.name
    return [None if reading.energy is None else reading.energy.to_json() for reading in readings]
