"""After the last decision: the uniform baseline, long-term training, the last measurement, result.json.

Every part that the history has already is taken from there, so an interrupted finish goes on where it was.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netadapt_trt.adapt.long_term import long_term, train_uniform_start
from netadapt_trt.adapt.result import Result, measure_final, write_result
from netadapt_trt.adapt.uniform import Uniform, find_uniform, uniform_networks

if TYPE_CHECKING:
    from netadapt_trt.adapt.anchor import Meter
    from netadapt_trt.adapt.course import Course
    from netadapt_trt.adapt.ground import Ground
    from netadapt_trt.adapt.resources import Widths
    from netadapt_trt.adapt.state import Record, RunDirectory
    from netadapt_trt.progress import Progress

__all__ = ["finish"]


def finish(ground: Ground, run: RunDirectory, course: Course, reason: str, progress: Progress) -> Result:
    """Finish the network that ``course`` ended with, whether its budget was reached or not."""
    networks = {"initial": ground.plan.full_widths(), "adapted": course.widths}
    uniform = _uniform(ground, run, course, progress) if ground.settings.uniform and course.iteration else None
    trained: dict[str, list[Record]] = {}
    if uniform is not None:
        networks["uniform"] = uniform.widths
        _keep_brought(ground, run, uniform.widths, course.iteration)
        start = train_uniform_start(ground, run, uniform.widths, course.iteration, progress)
        trained["uniform"] = long_term(ground, run, "uniform", start, course.iteration, progress)
    start = run.iteration(course.iteration)
    trained["adapted"] = long_term(ground, run, "adapted", start, course.iteration, progress)
    final = measure_final(ground, run, networks, course.iteration)
    return write_result(ground, run, course, reason=reason, trained=trained, networks=networks, final=final)


def _uniform(ground: Ground, run: RunDirectory, course: Course, progress: Progress) -> Uniform | None:
    """The baseline's widths; searched once per adapted network and then kept in the history."""
    known = run.history.of("uniform", iteration=course.iteration)
    if known:
        record = known[-1]
        if record["multiplier"] is None:
            return None
        return Uniform(multiplier=float(record["multiplier"]), widths=dict(record["widths"]))
    resource = "latency" if "latency" in ground.resources.models else ground.settings.budgets[0].name
    model = ground.resources.models[resource]
    meter = None if ground.meter is None or resource != "latency" else _Shares(ground.meter, course.widths)
    found = find_uniform(
        uniform_networks(ground.plan.full_widths(), ground.steps),
        estimate=model.value,
        limit=model.value(course.widths),
        measured_share=meter,
    )
    if found is None:
        progress.notice(
            f"there is no uniform baseline: even the narrowest one needs more {resource} than the adapted network"
        )
    run.history.append(
        "uniform",
        iteration=course.iteration,
        multiplier=None if found is None else found.multiplier,
        widths=None if found is None else found.widths,
        resource=resource,
        measured=meter is not None,
        seconds={"measure": 0.0 if meter is None else round(meter.seconds, 6)},
    )
    return found


class _Shares:
    """Measures a network's latency as a share of the adapted one's; ``seconds`` is what that took."""

    def __init__(self, meter: Meter, adapted: Widths) -> None:
        self._meter = meter
        self._adapted = adapted
        self.seconds = 0.0

    def __call__(self, widths: Widths) -> float:
        started = time.perf_counter_ns()
        adapted, other = self._meter.time([self._adapted, widths])
        self.seconds += (time.perf_counter_ns() - started) / 1e9
        return other.stats.median / adapted.stats.median


def _keep_brought(ground: Ground, run: RunDirectory, uniform: Widths, iteration: int) -> None:
    """Write down what a bench.json says about the baseline, for the processes after this one."""
    found = ground.brought_values(uniform)
    resources = {name: {"measured": value} for name, value in found.items()}
    if found and not run.history.of("brought", widths=uniform, resources=resources):
        run.history.append("brought", iteration=iteration, widths=uniform, resources=resources)
