"""One iteration of the loop: propose, train, decide, measure, write down.

Timing never runs while workers train: a measurement is taken only after the last proposal of the iteration has come back.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.anchor import measured_ratios
from netadapt_trt.adapt.candidates import Proposed, propose
from netadapt_trt.adapt.course import resource_block
from netadapt_trt.adapt.figures import figure
from netadapt_trt.adapt.outlook import STUCK
from netadapt_trt.adapt.proposal import ProposalJob, derive_seed
from netadapt_trt.adapt.schedule import MAX_HALVINGS
from netadapt_trt.adapt.winner import Scored, choose_winner
from netadapt_trt.adapt.workers import Failure
from netadapt_trt.errors import CheckError, WorkerError
from netadapt_trt.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.adapt.course import Course
    from netadapt_trt.adapt.ground import Ground
    from netadapt_trt.adapt.proposal import ProposalResult
    from netadapt_trt.adapt.resources import Widths
    from netadapt_trt.adapt.state import Record, RunDirectory
    from netadapt_trt.adapt.workers import WorkerPool
    from netadapt_trt.progress import Progress

__all__ = ["measure_network", "take_step"]

_NAMED = 2
"""So many extrapolated layers are named in a notice, each by the beginning of its key; the history names all."""

_PARTS = ("half", "a quarter", "an eighth", "a sixteenth")
"""What is left of a step after 1 to MAX_HALVINGS halvings, in words."""

_CONFIRM = 3
"""A measurement that would end the run is repeated with that many times the rounds: one lucky round must not end it."""


def take_step(
    ground: Ground, run: RunDirectory, course: Course, pool: WorkerPool[ProposalJob, ProposalResult], progress: Progress
) -> str | None:
    """Decide the next iteration and write it down; returns why not, when no group can meet any step.

    Proposals that an interrupted process finished are taken from the history; the others are made.

    Raises:
        WorkerError: every proposal failed.
    """
    started = time.perf_counter_ns()
    course.plan_step(progress)
    targets, proposed = _reachable_step(ground, course, progress)
    search_s = (time.perf_counter_ns() - started) / 1e9
    if not proposed:
        return STUCK
    iteration = course.iteration + 1
    finished = _finished(run, iteration, proposed)
    missing = [p for p in proposed if p.group not in finished]
    _train(ground, run, course, missing, finished, pool, progress)
    scored = [
        Scored(group=p.group, width=p.width, accuracy=finished[p.group]["accuracy"], resources=p.resources)
        for p in proposed
        if p.group in finished
    ]
    winner = choose_winner(
        scored,
        rule=ground.settings.winner,
        accuracy_before=course.accuracy,
        achieved=course.achieved,
        budgets=course.limits,
        targets=targets,
    )
    if winner is None:
        raise WorkerError(f"all {len(proposed)} proposals of iteration {iteration} failed; see the notices, then --resume")
    widths = next(p.widths for p in proposed if p.group == winner.group)
    _adopt(run.proposals(iteration) / winner.group, run.iteration(iteration))
    record = _decide(
        ground, run, course, widths=widths, targets=targets, winner=winner, search_s=search_s, finished=finished
    )
    _tell_extrapolated(record, progress)
    shutil.rmtree(run.proposals(iteration), ignore_errors=True)
    return None


def _reachable_step(ground: Ground, course: Course, progress: Progress) -> tuple[dict[str, float], list[Proposed]]:
    """This step's targets and the proposals that meet them; a step that none meets is halved."""
    targets: dict[str, float] = {}
    for halvings in range(MAX_HALVINGS + 1):
        targets = course.targets(halvings)
        found = propose(ground.resources.models, targets, course.widths, ground.steps, ground.settings.width_search)
        if found:
            if halvings:
                left = {name: course.achieved[name] - target for name, target in targets.items()}
                step = ", ".join(figure(name, amount, 3) for name, amount in left.items() if amount > 0)
                part = _PARTS[halvings - 1]
                progress.notice(
                    f"iteration {course.iteration + 1}: no proposal meets this step; trying {part} of it: {step}"
                )
            return targets, found
    return targets, []


def _finished(run: RunDirectory, iteration: int, proposed: list[Proposed]) -> dict[str, Record]:
    """Proposals in the history that are the ones wanted now, whose scores are finite and whose weights are still there."""
    wanted = {p.group: p.width for p in proposed}
    return {
        record["group"]: record
        for record in run.history.of("proposal", iteration=iteration)
        if wanted.get(record["group"]) == record["width"]
        and record["loss"] is not None
        and (run.proposals(iteration) / record["group"] / "network.json").is_file()
    }


def _train(
    ground: Ground,
    run: RunDirectory,
    course: Course,
    missing: list[Proposed],
    finished: dict[str, Record],
    pool: WorkerPool[ProposalJob, ProposalResult],
    progress: Progress,
) -> None:
    """Make the missing proposals, each written down as it finishes, and add them to ``finished``."""
    iteration = course.iteration + 1
    jobs = {p.group: _job(ground, run, iteration, p) for p in missing}
    by_group = {p.group: p for p in missing}
    failures: list[Failure] = []
    with progress.task(course.label(), total=len(missing) + len(finished)) as task:
        task.advance(len(finished))
        for group, result in pool.results(jobs):
            task.advance()
            if isinstance(result, Failure):
                failures.append(result)
                progress.notice(
                    f"iteration {iteration}: the proposal for {group} is left out after {result.attempts} attempts: "
                    f"{result.reason}"
                )
                run.history.append("failure", iteration=iteration, group=group, reason=result.reason)
                continue
            p = by_group[group]
            finished[group] = run.history.append(
                "proposal",
                iteration=iteration,
                group=group,
                width=p.width,
                widths=p.widths,
                resources=dict(p.resources),
                accuracy=result.accuracy,
                loss=result.loss,
                seconds={"fine_tune": round(result.fine_tune_s, 3), "evaluate": round(result.evaluate_s, 3)},
                worker=result.worker,
            )
    if failures and not finished:
        again = f"nothing is lost: mend that and continue with --resume {run.path}"
        if all(isinstance(failure.error, CheckError) for failure in failures):
            again = "they would fail again: start a new run, with a lower --short-learning-rate for example"
        raise WorkerError(
            f"every proposal of iteration {iteration} failed, the last one because {failures[-1].reason}; {again}"
        ) from failures[-1].error


def _job(ground: Ground, run: RunDirectory, iteration: int, proposed: Proposed) -> ProposalJob:
    return ProposalJob(
        network=str(run.iteration(iteration - 1)),
        output=str(run.proposals(iteration) / proposed.group),
        group=proposed.group,
        width=proposed.width,
        importance=ground.settings.importance,
        data=ground.data,
        fine_tune=ground.settings.short_term(seed=derive_seed(ground.settings.seed, iteration, proposed.group)),
    )


def _adopt(proposal: Path, iteration: Path) -> None:
    """Make the winner's network the iteration's; may be repeated after a kill."""
    for source in sorted(proposal.iterdir()):
        write_atomic(iteration / source.name, source.read_bytes())


def _decide(
    ground: Ground,
    run: RunDirectory,
    course: Course,
    *,
    widths: Widths,
    targets: Mapping[str, float],
    winner: Scored,
    search_s: float,
    finished: Mapping[str, Record],
) -> Record:
    """Measure the winner where that is possible and write the decision down."""
    started = time.perf_counter_ns()
    measured = measure_network(ground, course, widths)
    measure_s = (time.perf_counter_ns() - started) / 1e9
    seconds = {"search": search_s, "measure": measure_s, **_spent(finished)}
    record = run.history.append(
        "decision",
        iteration=course.iteration + 1,
        group=winner.group,
        widths=widths,
        targets=dict(targets),
        resources=resource_block(ground.resources, widths, measured),
        accuracy=winner.accuracy,
        extrapolated=list(ground.resources.extrapolates(widths)),
        seconds={name: round(value, 6) for name, value in seconds.items()},
    )
    course.take(record)
    return record


def _tell_extrapolated(decision: Record, progress: Progress) -> None:
    layers = decision["extrapolated"]
    if not layers:
        return
    named = ", ".join(key if len(key) <= 48 else f"{key[:45]}..." for key in layers[:_NAMED])
    progress.notice(
        f"iteration {decision['iteration']}: {len(layers)} layers are estimated beyond what the LUT measured "
        f"({named}{', ...' if len(layers) > _NAMED else ''}); profiling more cells would tell"
    )


def _spent(finished: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of work in an iteration's proposals, summed over the workers."""
    return {name: float(sum(record["seconds"][name] for record in finished.values())) for name in ("fine_tune", "evaluate")}


def measure_network(ground: Ground, course: Course, widths: Widths) -> dict[str, float]:
    """Measured latency (and energy where known) in the LUT's terms; empty where the device is not at hand.

    A measurement under which every budget holds would end the run: it is repeated, longer.
    """
    brought = ground.brought_values(widths)
    if ground.meter is None or brought:
        return brought
    models = ground.resources.models
    found = measured_ratios(ground.meter, models, widths)
    if all(found.get(name, models[name].value(widths)) <= limit for name, limit in course.limits.items()):
        found = measured_ratios(ground.meter, models, widths, rounds=_CONFIRM * ground.meter.rounds)
    return found
