"""The NetAdapt loop (Yang et al., ECCV 2018): shrink a network step by step until every budget holds, then finish it.

All state is in the run directory. A process that is stopped at any moment, by Ctrl-C or by kill -9, loses at most the
proposals under way; :func:`resume` reads the history and goes on to the same decisions.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.course import Course, resource_block
from netadapt_trt.adapt.finish import finish
from netadapt_trt.adapt.ground import Ground, open_ground, open_pool
from netadapt_trt.adapt.iteration import take_step
from netadapt_trt.adapt.outlook import shortfall, tell_outlook
from netadapt_trt.adapt.proposal import open_data_set, open_splits
from netadapt_trt.adapt.resources import StartedOn
from netadapt_trt.adapt.result import read_finished
from netadapt_trt.adapt.state import RunDirectory, create_run, open_run, refuse_existing
from netadapt_trt.errors import BudgetError, FileFormatError, SpecError
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import Identity
from netadapt_trt.training.tensorboard_log import tensorboard_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.adapt.result import Result
    from netadapt_trt.adapt.settings import AdaptSettings
    from netadapt_trt.graph.network import Network
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.progress import Progress

__all__ = ["CHANGEABLE", "adapt", "resume"]

CHANGEABLE = frozenset(
    {
        "devices",
        "lut",
        "max_iterations",
        "measure",
        "measured",
        "profile_seconds",
        "tensorboard",
        "threads_per_worker",
        "workers",
    }
)
"""Settings that :func:`resume` may override."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The uncut network, opened from its spec and weights, and what it stands on."""

    network: Network
    plan: Plan
    ground: Ground


def adapt(settings: AdaptSettings, *, progress: Progress = QUIET) -> Result:
    """Run NetAdapt from the beginning, in the directory ``settings.output``.

    With more than one worker the calling script needs the usual ``if __name__ == "__main__":`` guard: workers are spawned.

    Raises:
        BudgetError: a budget was not reached; result.json says how far the best network got.
        CoverageError, DataError, IdentityError, SpecError, TraceError, WeightsError: something does not fit; said before
            anything is trained or written.
        WorkerError: every proposal of an iteration failed.
        LockedError, FileFormatError: the directory is in use, or holds a run already.
    """
    from netadapt_trt.training.fine_tune import check_classes

    refuse_existing(settings.output)
    settings = _as_weights_want(settings, progress)
    opened = _open(settings, progress)
    data = open_data_set(opened.ground.data)
    check_classes(opened.network.model, data)
    open_splits(opened.ground.data)
    lut = opened.ground.resources.lut
    facts = {
        "preprocessing": data.preprocessing.to_json(),
        "granularity": dict(opened.ground.steps),
        "lut_identity": None if lut is None else lut.identity.to_json(),
    }
    with create_run(settings, facts) as run:
        return _go_on(run, opened, progress)


def resume(path: Path, *, overrides: Mapping[str, Any] | None = None, progress: Progress = QUIET) -> Result:
    """Continue the run in ``path`` where it stopped; also a finished one, to which ``measured`` brings new figures.

    A finished one without overrides is only read: no file is touched, and neither its LUT nor its data is needed.

    Args:
        path: the run directory.
        overrides: settings for this process in place of the run's own: where and how long it works, not what it decides
            (``CHANGEABLE``). ``measured``, a bench.json from the device: where it knows the current network the estimate is
            anchored to it, and the loop goes on if the budget does not hold after all.
        progress: told what happens.

    Raises:
        IdentityError: ``lut`` is of other conditions than the LUT that the run began with.
        SpecError: an override that would change decisions. Else as :func:`adapt`.
    """
    changes = dict(overrides or {})
    fixed = sorted(set(changes) - CHANGEABLE)
    if fixed:
        raise SpecError(f"{path} has its settings already; {', '.join(fixed)} cannot change (start a new run for that)")
    if "workers" in changes:
        changes.setdefault("devices", ())
    elif "devices" in changes:
        changes["workers"] = max(1, len(changes["devices"]))
    with open_run(path, changes) as run:
        finished = None if changes else read_finished(run)
        return _go_on(run, None, progress) if finished is None else _judged(run, finished)


def _as_weights_want(settings: AdaptSettings, progress: Progress) -> AdaptSettings:
    """With the normalisation that the weights were trained with, so that run.json says it and every process opens it so."""
    from netadapt_trt.training.weights_preprocessing import choose_normalization

    normalize = choose_normalization(
        settings.normalize, data=settings.data, weights=settings.weights, spec=settings.spec, progress=progress
    )
    return replace(settings, normalize=normalize)


def _open(settings: AdaptSettings, progress: Progress, started: StartedOn | None = None) -> _Opened:
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan

    if settings.weights is None:
        progress.notice("no weights were given: the network starts from random ones, which makes sense for trials only")
    network = open_network(settings.spec, settings.weights)
    plan = make_plan(network)
    for notice in dict.fromkeys([*network.notices, *plan.notices]):
        progress.notice(notice)
    return _Opened(network=network, plan=plan, ground=open_ground(settings, plan, progress, started))


def _go_on(run: RunDirectory, opened: _Opened | None, progress: Progress) -> Result:
    ground = _start(run, opened, progress)
    settings = run.settings
    course = Course(ground.resources, settings.budgets, reduction=settings.reduction, decay=settings.decay)
    for record in run.history.records:
        course.take(record)
    for iteration in range(1, course.iteration + 1):  # left behind by a kill just after the decision
        shutil.rmtree(run.proposals(iteration), ignore_errors=True)
    _anchor_to_brought(ground, run, course, progress)
    tell_outlook(ground, course, progress)
    reason = _loop(ground, run, course, progress)
    _end(run, course, reason)
    return _judged(run, finish(ground, run, course, reason, progress))


def _judged(run: RunDirectory, result: Result) -> Result:
    """``result``, where it reached its budgets. Raises BudgetError where it did not."""
    if not result.reached:
        raise BudgetError(shortfall(result.content, result.path, run.facts.get("granularity") or {}))
    return result


def _start(run: RunDirectory, opened: _Opened | None, progress: Progress) -> Ground:
    """Open the run's ground; where it has not begun, write the plan, the uncut network and the ``initial`` line."""
    from netadapt_trt.plan.store import load_plan, save_plan

    started_on = _started_on(run)
    if run.history.of("initial"):
        ground = (
            opened.ground if opened else open_ground(run.settings, load_plan(run.path / "plan.json"), progress, started_on)
        )
        _remember_lut(run, ground, started_on)
        return ground
    from netadapt_trt.graph.network import save_network
    from netadapt_trt.training.evaluate import evaluate

    opened = opened or _open(run.settings, progress, started_on)
    ground = opened.ground
    save_plan(opened.plan, run.path / "plan.json")
    save_network(opened.network, run.iteration(0))
    _, held_out = open_splits(ground.data)
    started = time.perf_counter_ns()
    accuracy = evaluate(opened.network.model, held_out, device=ground.devices[0])
    test = evaluate(opened.network.model, open_data_set(ground.data).test, device=ground.devices[0])
    seconds = round((time.perf_counter_ns() - started) / 1e9, 3)
    full = opened.plan.full_widths()
    known = {name: model.initial for name, model in ground.resources.models.items() if model.scale is not None}
    run.history.append(
        "initial",
        widths=full,
        accuracy_holdout=accuracy,
        accuracy_test=test,
        resources=resource_block(ground.resources, full, known),
        seconds={"evaluate": seconds},
    )
    _remember_lut(run, ground, started_on)
    return ground


def _started_on(run: RunDirectory) -> StartedOn | None:
    """The LUT that the run's figures come from; None where an older version did not write it down."""
    if "lut_identity" not in run.facts:
        return None
    lines = run.history.of("lut")
    content = lines[-1]["identity"] if lines else run.facts["lut_identity"]
    try:
        identity = None if content is None else Identity.from_json(content)
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{run.path / 'run.json'} holds a damaged lut_identity: {error!r}") from error
    initial = {
        name: float(block["measured"])
        for line in [*run.history.of("initial"), *lines]
        for name, block in line["resources"].items()
        if block.get("measured") is not None
    }
    return StartedOn(identity=identity, initial=initial, steps=run.facts.get("granularity") or {})


def _remember_lut(run: RunDirectory, ground: Ground, started: StartedOn | None) -> None:
    """A run that began without a LUT and now has one writes down whose milliseconds follow."""
    if started is None or started.identity is not None or ground.resources.lut is None:
        return
    known = {name: model.initial for name, model in ground.resources.models.items() if model.scale is not None}
    if known:
        run.history.append(
            "lut",
            identity=ground.resources.lut.identity.to_json(),
            resources={name: {"measured": value} for name, value in known.items()},
        )


def _anchor_to_brought(ground: Ground, run: RunDirectory, course: Course, progress: Progress) -> None:
    """Take in what a bench.json says about the current network, once."""
    if ground.brought is None:
        return
    found = ground.brought_values(course.widths)
    if not found:
        progress.notice(
            f"{ground.brought.path} holds no measurement of the network that this run is at (iteration {course.iteration}); "
            f"export that one and bench it on the device"
        )
        return
    if course.iteration == 0 or any(
        all(record["resources"].get(name, {}).get("measured") == value for name, value in found.items())
        for record in run.history.of("anchor", iteration=course.iteration)
    ):
        return
    record = run.history.append(
        "anchor",
        iteration=course.iteration,
        widths=course.widths,
        resources=resource_block(ground.resources, course.widths, found),
    )
    course.take(record)
    figures = ", ".join(f"{name} {value:g} {'ms' if name == 'latency' else 'mJ'}" for name, value in found.items())
    progress.notice(f"anchored to {ground.brought.path}: the network of iteration {course.iteration} has {figures}")


def _loop(ground: Ground, run: RunDirectory, course: Course, progress: Progress) -> str:
    """Iterate until the budgets hold or nothing more can be done; returns why it ended."""
    log_directory = run.path / "tensorboard" / "adapt" if run.settings.tensorboard else None
    with (
        open_pool(ground) as pool,
        tensorboard_log(log_directory) as log,
        progress.task("adapt", total=100.0) as task,
    ):
        shown = 0.0
        while True:
            done = 100.0 * course.progress_share()
            task.advance(max(0.0, done - shown))
            shown = max(shown, done)
            if log is not None:
                log(course.iteration, {"holdout_accuracy": course.accuracy, **course.achieved})
            if course.reached:
                return "every budget holds"
            if course.iteration >= run.settings.max_iterations:
                return f"the limit of {run.settings.max_iterations} iterations was reached"
            stuck = take_step(ground, run, course, pool, progress)
            if stuck is not None:
                return stuck


def _end(run: RunDirectory, course: Course, reason: str) -> None:
    if not run.history.of("end", iteration=course.iteration, reason=reason, reached=course.reached):
        run.history.append("end", iteration=course.iteration, reason=reason, reached=course.reached)
