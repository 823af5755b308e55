"""After the last decision: the uniform baseline, long-term training, the last measurement, result.json.

Every part that the history has already is taken from there, so an interrupted finish goes on where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.adapt.long_term import long_term, train_uniform_start
from netadapt_trt.adapt.result import Result, measure_final, write_result
from netadapt_trt.adapt.uniform import Uniform, find_uniform, uniform_networks

if TYPE_CHECKING:
    from collections.abc import Callable

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
    found = find_uniform(
        uniform_networks(ground.plan.full_widths(), ground.steps),
        estimate=model.value,
        limit=model.value(course.widths),
        measured_share=_measured_share(ground, course) if resource == "latency" else None,
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
        measured=ground.meter is not None and resource == "latency",
    )
    return found


def _measured_share(ground: Ground, course: Course) -> Callable[[Widths], float] | None:
    meter = ground.meter
    if meter is None:
        return None

    def share(widths: Widths) -> float:
        adapted, uniform = meter.time([course.widths, widths])
        return uniform.stats.median / adapted.stats.median

    return share
