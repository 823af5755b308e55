"""What a run came to: result.json, built from the history and one last measurement of all networks side by side.

Estimates and measurements never share a field. An estimate of the adapted network is the one that its decision was taken
with, before it was measured itself.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import read_document, write_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from netadapt_trt.adapt.course import Course
    from netadapt_trt.adapt.ground import Ground
    from netadapt_trt.adapt.resources import Widths
    from netadapt_trt.adapt.state import History, Record, RunDirectory
    from netadapt_trt.spec import Budget

__all__ = ["Result", "measure_final", "read_finished", "write_result"]

_FINAL = 3
"""The last measurement takes that many times the rounds of those on the way."""

_FORMAT, _VERSION = "netadapt-result", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run. ``content`` is what result.json holds (design: accuracy 0 to 1 on the test set, ms, mJ, bytes)."""

    path: Path
    reached: bool
    reason: str
    content: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        return dict(self.content)


def measure_final(ground: Ground, run: RunDirectory, networks: Mapping[str, Widths], iteration: int) -> Record | None:
    """Time all ``networks`` (by name) turn by turn and write it down; what the history has already is not measured again.

    None where the device is not at hand.
    """
    known = run.history.of("final", iteration=iteration)
    if known:
        return known[-1]
    if ground.meter is None:
        return None
    started = time.perf_counter_ns()
    timed = ground.meter.time(list(networks.values()), rounds=_FINAL * ground.meter.rounds)
    seconds = round((time.perf_counter_ns() - started) / 1e9, 6)
    measured = {
        name: {
            "latency_ms": timings.stats.to_json(),
            "energy_mj": None if timings.energy is None else timings.energy.to_json(),
            "power_mw": dict(timings.power_mw),
            "odd_even_ratio": timings.odd_even_ratio,
        }
        for name, timings in zip(networks, timed, strict=True)
    }
    return run.history.append("final", iteration=iteration, networks=measured, seconds={"measure": seconds})


def write_result(
    ground: Ground,
    run: RunDirectory,
    course: Course,
    *,
    reason: str,
    trained: Mapping[str, Sequence[Record]],
    networks: Mapping[str, Widths],
    final: Record | None,
) -> Result:
    """Write ``run/result.json``.

    Args:
        ground: the run's models.
        run: its directory.
        course: where it ended.
        reason: why it ended.
        trained: the ``long_term`` lines of ``adapted`` and ``uniform``.
        networks: widths of ``initial``, ``adapted`` and, where there is one, ``uniform``.
        final: the line of :func:`measure_final`.
    """
    identity = None if ground.resources.lut is None else ground.resources.lut.identity
    blocks = {name: _block(ground, run, course, name, networks[name], trained, final) for name in networks}
    content: dict[str, Any] = {
        "model": ground.settings.spec.model,
        "backend": None if identity is None else identity.backend,
        "precision": None if identity is None else identity.precision,
        "device": None if identity is None else identity.device,
        "budgets": [_budget(ground, course, budget, final) for budget in ground.settings.budgets],
        "iterations": course.iteration,
        "seconds": _seconds(run.history, ground.settings.profile_seconds),
        "initial": blocks["initial"],
        "adapted": blocks["adapted"],
        "uniform": blocks.get("uniform"),
        "reached": course.reached,
        "reason": reason,
        "model_spec": ground.settings.spec.to_json(),
        "identity": None if identity is None else identity.to_json(),
        "schedule": {
            "reduction": ground.settings.reduction,
            "decay": {name: schedule.decay for name, schedule in course.schedules.items()},
        },
        "repeatability": _repeatability(final),
        "long_term_seeds": {name: _spread(records) for name, records in trained.items()},
        "history_records": len(run.history.records),
    }
    path = run.path / "result.json"
    write_document(path, format=_FORMAT, version=_VERSION, content=content)
    return Result(path=path, reached=course.reached, reason=reason, content=content)


def read_finished(run: RunDirectory) -> Result | None:
    """The result that is there, where nothing happened in the run after it was written; None where something may be left."""
    path = run.path / "result.json"
    if not path.is_file() or not (run.path / "adapted" / "weights.safetensors").is_file():
        return None
    try:
        content = read_document(path, format=_FORMAT, version=_VERSION)
    except FileFormatError:
        return None  # it is made again from the history
    if content.get("history_records") != len(run.history.records):
        return None
    content = {key: value for key, value in content.items() if key not in ("format", "version")}
    return Result(path=path, reached=bool(content["reached"]), reason=str(content["reason"]), content=content)


def _block(
    ground: Ground,
    run: RunDirectory,
    course: Course,
    name: str,
    widths: Widths,
    trained: Mapping[str, Sequence[Record]],
    final: Record | None,
) -> dict[str, Any]:
    models = ground.resources.models
    directory = run.iteration(0) if name == "initial" else run.path / name
    found = {} if final is None else final["networks"].get(name, {})
    rails = {
        rail: {
            "estimate": _estimate(ground, run.history, course, name, widths, f"energy@{rail}"),
            "measured": _measured(ground, run.history, name, widths, found, f"energy@{rail}"),
        }
        for rail in (budget.rail for budget in ground.settings.budgets)
        if rail is not None
    }
    return {
        "accuracy": _accuracy(run.history, name, trained),
        "latency_ms": {
            "estimate": _estimate(ground, run.history, course, name, widths, "latency"),
            "measured": _measured(ground, run.history, name, widths, found, "latency"),
            **({"p10": found["latency_ms"]["p10"], "p90": found["latency_ms"]["p90"]} if found else {}),
        },
        "energy_mj": {
            "estimate": _estimate(ground, run.history, course, name, widths, "energy"),
            "measured": _measured(ground, run.history, name, widths, found, "energy"),
            **({"rails": rails} if rails else {}),
        },
        "params": int(models["params"].value(widths)),
        "macs": int(models["macs"].value(widths)),
        "memory_bytes": int(models["memory"].value(widths)),
        "size_bytes": (directory / "weights.safetensors").stat().st_size,
        "widths": widths,
        "extrapolated": _extrapolated(ground, run.history, course, name, widths),
    }


def _final(found: Mapping[str, Any], resource: str) -> float | None:
    """A value of the last measurement; a rail's millijoules are its mean power in the time of one inference."""
    if resource == "latency":
        return float(found["latency_ms"]["median"])
    if resource == "energy":
        return float(found["energy_mj"]["total"]) if found["energy_mj"] else None
    power = found.get("power_mw", {}).get(resource.removeprefix("energy@"))
    return None if power is None else float(power * found["latency_ms"]["median"] / 1000)


def _accuracy(history: History, name: str, trained: Mapping[str, Sequence[Record]]) -> float:
    """On the test set; the mean where the long-term phase was repeated."""
    if name == "initial":
        return float(history.of("initial")[-1]["accuracy_test"])
    return statistics.fmean(record["accuracy_test"] for record in trained[name])


def _estimate(ground: Ground, history: History, course: Course, name: str, widths: Widths, resource: str) -> float | None:
    model = ground.resources.models.get(resource)
    if model is None:
        return None
    if name == "uniform":
        return model.value(widths)
    records = history.of("decision", iteration=course.iteration) if name == "adapted" else []
    record = (records or history.of("initial"))[-1]
    return float(record["resources"][resource]["estimate"]) if resource in record["resources"] else None


def _extrapolated(ground: Ground, history: History, course: Course, name: str, widths: Widths) -> list[str]:
    """Layers whose cells the estimate had to go beyond; of the adapted network as it was decided."""
    decided = history.of("decision", iteration=course.iteration) if name == "adapted" else []
    if decided and "extrapolated" in decided[-1]:
        return [str(layer) for layer in decided[-1]["extrapolated"]]
    return list(ground.resources.extrapolates(widths))


def _measured(
    ground: Ground, history: History, name: str, widths: Widths, found: Mapping[str, Any], resource: str
) -> float | None:
    """The last measurement's, else what a bench.json brought now or earlier, else what the decision was taken with."""
    value = _final(found, resource) if found else None
    if value is None:
        value = ground.brought_values(widths).get(resource)
    if value is not None:
        return value
    model = ground.resources.models.get(resource)
    if name == "initial":
        return None if model is None else model.initial  # the LUT's own end-to-end measurement
    for record in reversed(history.records):
        if record["type"] in ("anchor", "brought", "decision") and record["widths"] == widths:
            measured = record["resources"].get(resource, {}).get("measured")
            if measured is not None:
                return float(measured)
    return None


def _budget(ground: Ground, course: Course, budget: Budget, final: Record | None) -> dict[str, Any]:
    """A budget in the loop that decided by it, and under ``final`` in the last measurement."""
    achieved, limit = course.achieved[budget.name], course.limits[budget.name]
    return {
        **asdict(budget),
        "budget": str(budget),
        "limit": limit,
        "initial": ground.resources.models[budget.name].initial,
        "achieved": achieved,
        "met": achieved <= limit,
        "final": _final_budget(budget, final),
    }


def _final_budget(budget: Budget, final: Record | None) -> dict[str, Any] | None:
    """The adapted network against the budget, both in the last measurement's own figures; None where it has none.

    A ratio is one of the initial network's figure in that same measurement: what the machine is like that day cancels out.
    """
    if final is None:
        return None
    adapted, initial = (_final_value(final, name, budget.name) for name in ("adapted", "initial"))
    if adapted is None or initial is None:
        return None
    limit = budget.absolute(initial)
    return {"value": adapted, "limit": limit, "met": adapted <= limit}


def _final_value(final: Record, name: str, resource: str) -> float | None:
    found = final["networks"].get(name)
    return _final(found, resource) if found and resource.partition("@")[0] in ("latency", "energy") else None


def _seconds(history: History, profile: float | None) -> dict[str, float | None]:
    """Seconds of work by stage, summed over workers; ``total`` is wall time over all processes that worked on the run."""

    def spent(stage: str, *kinds: str) -> float:
        lines = (record for kind in kinds for record in history.of(kind))
        return round(float(sum(line.get("seconds", {}).get(stage, 0.0) for line in lines)), 3)

    long_term = spent("fine_tune", "long_term") + spent("evaluate", "long_term")
    return {
        "profile": profile,
        "search": spent("search", "decision"),
        "fine_tune": spent("fine_tune", "proposal", "uniform_start"),
        "evaluate": spent("evaluate", "proposal", "initial"),
        "long_term": round(long_term, 3),
        "total": round(history.seconds() + (profile or 0.0), 3),
        "measure": spent("measure", "decision", "uniform", "final"),
    }


def _repeatability(final: Record | None) -> dict[str, float] | None:
    """Odd rounds over even ones of the last measurement, by network; 1 repeats perfectly."""
    if final is None:
        return None
    return {name: network["odd_even_ratio"] for name, network in final["networks"].items()}


def _spread(records: Sequence[Record]) -> dict[str, Any]:
    accuracies = [float(record["accuracy_test"]) for record in records]
    return {
        "accuracy": accuracies,
        "mean": statistics.fmean(accuracies),
        "stdev": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
    }
