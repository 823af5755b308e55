"""Sweeps of searches: what ``search sweep`` wrote to results.json, as points that can be drawn and rows that can be read.

A file may come from anywhere, so every value is checked before a page is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import finite, read_document
from netadapt_trt.report.tables import Tile
from netadapt_trt.report.text import DASH, percent, quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "KNOBS",
    "FoundChild",
    "SweepData",
    "best_of_three",
    "front",
    "is_sweep",
    "read_sweep",
    "sweep_rows",
    "sweep_tiles",
]

KNOBS = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChild:
    """One search's child: latency in ms, energy in mJ, accuracy 0 to 1; None where unknown."""

    number: int
    knobs: Mapping[str, float]
    latency: float | None
    energy: float | None
    accuracy: float | None
    estimates: tuple[float | None, float | None]
    measured: tuple[float | None, float | None]
    dominance: str
    params: float | None
    state: str
    same_as: int | None

    @property
    def per_latency(self) -> float | None:
        """Accuracy in per cent points of each millisecond."""
        return 100 * self.accuracy / self.latency if self.accuracy is not None and self.latency else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepData:
    """One sweep. ``kinds`` says of latency, energy and accuracy what they are in every child: measured, an estimate, ..."""

    path: Path
    name: str
    children: Sequence[FoundChild]
    kinds: Mapping[str, str]
    conditions: Sequence[tuple[str, str]]
    missing: Sequence[str]


def is_sweep(path: Path) -> bool:
    """Whether this is a sweep's directory."""
    return (path / "sweep.json").is_file()


def read_sweep(path: Path) -> SweepData:
    """Read a sweep's directory, finished or not.

    Raises:
        FileFormatError: no results yet, or a damaged file (TooOldError, TooNewError).
    """
    file = path / "results.json"
    if not file.is_file():
        raise FileFormatError(f"{path} has no results.json yet; let the sweep finish a search first")
    document = read_document(file, format="netadapt-sweep-results", version=1)
    runs = document.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise FileFormatError(f"{file} holds no list of searches; it is damaged, run the sweep again to make it anew")
    rows = [run for run in runs if isinstance(run.get("child"), dict)]
    measured = {name: bool(rows) and all(_measured(run, name) is not None for run in rows) for name in ("latency", "energy")}
    trained = any(finite(run.get("accuracy")) is not None for run in rows)
    children = [_child(run, measured, trained, f"{file}: search {count}") for count, run in enumerate(rows, 1)]
    kinds = {name: "measured" if known else "estimate" for name, known in measured.items()}
    return SweepData(
        path=path,
        name=path.resolve().name,
        children=children,
        kinds={**kinds, "accuracy": "test set" if trained else "supernet, held-out part of the training set"},
        conditions=_conditions(document),
        missing=_missing(runs, children),
    )


def _child(run: Mapping[str, Any], measured: Mapping[str, bool], trained: bool, where: str) -> FoundChild:
    knobs = run.get("knobs")
    found = {name: finite(knobs.get(name)) for name in KNOBS} if isinstance(knobs, dict) else {}
    known = {name: value for name, value in found.items() if value is not None}
    estimates = tuple(finite(run["child"].get(key)) for key in ("latency_ms", "energy_mj"))
    timed = (_measured(run, "latency"), _measured(run, "energy"))
    values = [
        real if measured[name] else estimate
        for name, real, estimate in zip(("latency", "energy"), timed, estimates, strict=True)
    ]
    count = finite(run.get("number"))
    if len(known) != len(KNOBS) or count is None or estimates[0] is None:
        raise FileFormatError(f"{where} lacks its number, knobs or estimate; run the sweep again to make the file anew")
    begun = run.get("start")
    ratio = finite(begun.get("energy_dominance")) if isinstance(begun, dict) else None
    twin = finite(run.get("same_child_as"))
    return FoundChild(
        number=int(count),
        knobs=known,
        latency=values[0],
        energy=values[1],
        accuracy=finite(run.get("accuracy" if trained else "val_accuracy")),
        estimates=(estimates[0], estimates[1]),
        measured=timed,
        dominance="latency" if ratio is None or ratio < 1 else "energy",
        params=finite(run.get("params")),
        state=str(run.get("state")),
        same_as=None if twin is None else int(twin),
    )


def _measured(run: Mapping[str, Any], name: str) -> float | None:
    block = run.get("measured")
    values = block.get("latency_ms" if name == "latency" else "energy_mj") if isinstance(block, dict) else None
    return finite(values.get("median" if name == "latency" else "total")) if isinstance(values, dict) else None


def _conditions(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    measurement = document.get("measurement")
    measurement = measurement if isinstance(measurement, dict) else {}
    identity = measurement.get("identity")
    rows = [("space", "space"), ("data", "data"), ("table", "table"), ("epochs", "epochs"), ("child_epochs", "child epochs")]
    found = [(label, str(document[key])) for key, label in rows if document.get(key) is not None]
    if isinstance(identity, dict):
        device = " ".join(str(identity.get(key, "")) for key in ("device", "backend", "runtime_version", "precision"))
        found.append(("measured on", f"{device}, {identity.get('threads', DASH)} threads"))
        if isinstance(networks := measurement.get("networks"), str):
            found.append(("measured networks", f"{networks}; trained weights take the same time"))
    return found


def _missing(runs: Sequence[Mapping[str, Any]], children: Sequence[FoundChild]) -> list[str]:
    failed = [str(run.get("number")) for run in runs if run.get("state") == "failed"]
    waiting = len(runs) - len(children) - sum(1 for run in runs if run.get("state") == "failed" and not run.get("child"))
    found = []
    if waiting > 0:
        found.append(f"{waiting} of {len(runs)} searches {'is' if waiting == 1 else 'are'} not finished.")
    if failed:
        found.append(f"Failed: {', '.join(failed)}; results.json says why.")
    untrained = sum(1 for child in children if child.accuracy is None)
    if untrained:
        found.append(f"{untrained} children are not trained yet and drawn in the smallest size.")
    if children and all(child.energy is None for child in children):
        found.append("Nothing is known of energy.")
    return found


def front(children: Sequence[FoundChild], cost: Callable[[FoundChild], float | None]) -> list[FoundChild]:
    """Those that no other beats in latency and in ``cost`` (less is better), by latency."""
    known = [child for child in children if child.latency is not None and cost(child) is not None]
    found: list[FoundChild] = []
    best = float("inf")
    for child in sorted(known, key=lambda each: (each.latency or 0.0, cost(each) or 0.0)):
        value = cost(child)
        if value is not None and value < best:
            found.append(child)
            best = value
    return found


def best_of_three(children: Sequence[FoundChild]) -> set[int]:
    """Numbers of those that no other equals or beats in latency, energy and accuracy at once, being better in one."""

    def losses(child: FoundChild) -> tuple[float, ...]:
        return (child.latency or 0.0, child.energy or 0.0, -(child.accuracy or 0.0))

    def beats(one: FoundChild, other: FoundChild) -> bool:
        pairs = list(zip(losses(one), losses(other), strict=True))
        return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)

    return {child.number for child in children if not any(beats(other, child) for other in children)}


def sweep_tiles(data: SweepData) -> list[Tile]:
    """The best child in each respect."""
    found = []
    for label, key in (("Most accurate", "accuracy"), ("Fastest", "latency"), ("Least energy", "energy")):
        known = [(value, child) for child in data.children if (value := finite(getattr(child, key))) is not None]
        if known:
            pick = max if key == "accuracy" else min
            value, best = pick(known, key=lambda pair: pair[0])
            text = percent(value) if key == "accuracy" else quantity(key, value)
            found.append(Tile(label, text, f"search {best.number}: {_told(best)}"))
    return found


def _told(child: FoundChild) -> str:
    parts = [quantity("latency", child.latency)]
    parts += [quantity("energy", child.energy)] if child.energy is not None else []
    parts += [percent(child.accuracy)] if child.accuracy is not None else []
    return ", ".join(parts)


def sweep_rows(data: SweepData) -> list[tuple[str, ...]]:
    """For each child: number, knobs, dominance, estimates, measured values, accuracy, parameters."""
    chosen = best_of_three(data.children)
    rows = []
    for child in data.children:
        same = "" if child.same_as is None else f" (as {child.same_as})"
        rows.append(
            (
                f"{child.number}{same}",
                *(f"{child.knobs[name]:g}" for name in KNOBS),
                child.dominance,
                quantity("latency", child.estimates[0]),
                quantity("latency", child.measured[0]),
                quantity("energy", child.estimates[1]),
                quantity("energy", child.measured[1]),
                percent(child.accuracy),
                DASH if child.params is None else quantity("params", child.params),
                "yes" if child.number in chosen else "",
            )
        )
    return rows
