"""``bench``: how long a deployed file takes here, end to end, beside another one and beside what was promised. No torch.

Files are timed turn by turn, so that a slow minute hits all of them; every ratio comes with its spread over the rounds.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import CompileOptions, DetailedExecutable, PatientExecutable, backend_names, load_backend
from netadapt_trt.deploy.artifact import Artifact, find_artifact
from netadapt_trt.deploy.build import open_artifact, require_own_engine
from netadapt_trt.errors import BackendError, SpecError
from netadapt_trt.files import write_document
from netadapt_trt.measure.energy import EnergyReading, measure_energy
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice
from netadapt_trt.measure.stopwatch import time_interleaved
from netadapt_trt.power.energy import LOW_COVERAGE
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.deploy.artifact import Covers
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

__all__ = ["Artifact", "BenchResult", "BenchRow", "Comparison", "bench", "find_artifact"]

_FORMAT, _VERSION = "netadapt-bench", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One file's measurement. ``odd_even_ratio`` is odd rounds over even ones, 1 where the measurement repeats itself.

    ``estimate_ms`` is what the LUT promised, ``estimate_differs`` the conditions in which that promise was another one
    (key, promised for, measured under), ``estimate_covers`` whether it is of the network or of its blocks alone;
    ``measured_over_estimate`` is None where there is no promise of the whole network. ``energy_interval_mj``
    is the half width of the total energy's 95 % interval, ``total_mw`` the mean power it was measured at. ``host`` is wall
    time where the runtime keeps it apart, ``details`` what it knows of the engine: sizes, how it was built and runs.
    """

    artifact: Artifact
    identity: Identity
    latency: LatencyStats
    round_medians_ms: tuple[float, ...]
    odd_even_ratio: float | None
    energy: EnergyStats | None
    power_mw: Mapping[str, float]
    energy_flags: tuple[str, ...]
    estimate_ms: float | None
    estimate_differs: tuple[tuple[str, Any, Any], ...]
    estimate_covers: Covers = "network"
    energy_interval_mj: float | None = None
    total_mw: float | None = None
    host: LatencyStats | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured_over_estimate(self) -> float | None:
        """Median latency divided by the promise. A whole network over some of its layers would tell nothing of the table."""
        return None if not self.estimate_ms or self.estimate_covers != "network" else self.latency.median / self.estimate_ms

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. ``plan_hash`` and ``widths`` name the network for ``adapt --measured``."""
        artifact = self.artifact
        return {
            "path": str(artifact.path),
            "sha256": artifact.sha256,
            "size_bytes": len(artifact.content),
            "model": artifact.model,
            "plan_hash": artifact.plan_hash,
            "widths": None if artifact.widths is None else dict(artifact.widths),
            "precision": artifact.precision,
            "identity": self.identity.to_json(),
            "latency_ms": self.latency.to_json(),
            "host_latency_ms": None if self.host is None else self.host.to_json(),
            "round_medians_ms": list(self.round_medians_ms),
            "odd_even_ratio": self.odd_even_ratio,
            "energy_mj": None if self.energy is None else self.energy.to_json(),
            "energy_interval_mj": self.energy_interval_mj,
            "total_mw": self.total_mw,
            "power_mw": dict(self.power_mw),
            "energy_flags": list(self.energy_flags),
            "estimate_ms": self.estimate_ms,
            "estimate_differs": [list(difference) for difference in self.estimate_differs],
            "estimate_covers": self.estimate_covers,
            "measured_over_estimate": self.measured_over_estimate,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Latency of the first file over that of another, taken round by round: median, 10th and 90th percentile.

    ``energy_ratio`` and ``power_ratio`` are those of the totals, the latter of mean powers as they were measured: energy
    over latency would count the host's time between two runs as power. ``energy_ratio_interval`` is the half width of the
    former's 95 % interval, as if the two files' errors were independent, None where one of them is not known.
    """

    first: Path
    other: Path
    ratio: float
    p10: float
    p90: float
    rounds: int
    energy_ratio: float | None = None
    energy_ratio_interval: float | None = None
    power_ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "first": str(self.first),
            "other": str(self.other),
            "ratio": self.ratio,
            "p10": self.p10,
            "p90": self.p90,
            "rounds": self.rounds,
            "energy_ratio": self.energy_ratio,
            "energy_ratio_interval": self.energy_ratio_interval,
            "power_ratio": self.power_ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """All rows in the order given, the first one's comparison with each other one, and the state of the machine."""

    rows: tuple[BenchRow, ...]
    comparisons: tuple[Comparison, ...]
    session: Mapping[str, Any]
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Content of bench.json; ``identity``, ``plan_hash``, ``widths`` and ``latency_ms`` on top are the first file's."""
        first = self.rows[0].to_json()
        return {
            **{key: first[key] for key in ("identity", "plan_hash", "widths", "latency_ms")},
            "session": dict(self.session),
            "artifacts": [row.to_json() for row in self.rows],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "notices": list(self.notices),
        }


def bench(
    artifact: Path,
    vs: Sequence[Path] = (),
    *,
    backend: str | None = None,
    threads: int | None = None,
    rounds: int = 7,
    round_ms: float = 200.0,
    meter: Callable[[Backend], PowerMeter | None] | None = None,
    output: Path | None = None,
    progress: Progress = QUIET,
) -> BenchResult:
    """Time ``artifact`` and every file of ``vs`` in interleaved rounds; write bench.json to ``output`` when given.

    With ``meter`` energy is measured after that, in two long windows for each file: it makes the power meter (not yet open)
    for the backend that runs, or None. A runtime that knows its energy itself is believed.

    Backend and threads default to those the promise was made for (deploy.json, its LUT) where that backend is known here,
    then to what the file was exported for, else ``ort``, and the physical cores. Precision is the file's.

    Raises:
        SpecError: no such file, an unknown backend, fewer than two rounds.
        FileFormatError: a file that is not ONNX. CheckError: a deploy.json of another file.
        BackendError: the runtime is missing or refuses a file. PowerError: the power source vanished.
        IdentityError: an engine that was built on another device.
    """
    if rounds < 2:
        raise SpecError(f"bench needs at least two rounds to tell how well it repeats itself, not {rounds}")
    artifacts = [find_artifact(path) for path in (artifact, *vs)]
    recorded = _recorded(artifacts[0])
    runtime = load_backend(backend or recorded.get("backend") or "ort")
    for each in artifacts:
        require_own_engine(each, runtime)
    count = threads or recorded.get("threads") or runtime.default_threads()
    load = other_load()
    notices = [text for text in (quiet_notice(load),) if text]
    power = None if meter is None else meter(runtime)
    session = {**machine_state().to_json(), "other_load": load, "rounds": rounds, "round_ms": round_ms}
    with ExitStack() as stack:
        executables = [
            stack.enter_context(open_artifact(each, runtime, CompileOptions(precision=each.precision, threads=count)))
            for each in artifacts
        ]
        with progress.task(f"timing {len(artifacts)} file(s), {rounds} rounds", None):
            timings = time_interleaved(executables, rounds=rounds, round_ms=round_ms)
        energies = _energies(executables, timings, power, session, progress)
        known = [exe.details() if isinstance(exe, DetailedExecutable) else {} for exe in executables]
    rows = tuple(
        replace(_row(runtime, each, timing, energy, count), details=details)
        for each, timing, energy, details in zip(artifacts, timings, energies, known, strict=True)
    )
    notices += _promise_notices([row for row in rows if row.estimate_ms is not None])
    for text in notices:
        progress.notice(text)
    comparisons = tuple(_compare(rows[0], row) for row in rows[1:])
    result = BenchResult(rows=rows, comparisons=comparisons, session=session, notices=tuple(notices))
    if output is not None:
        write_document(output, format=_FORMAT, version=_VERSION, content=result.to_json())
    return result


def _recorded(artifact: Artifact) -> Mapping[str, Any]:
    """Backend and threads of the engine or the promise, where that backend is one of ours; else those of the export."""
    conditions = artifact.promised()[1]
    if artifact.engine is not None:
        return {**conditions, "backend": artifact.engine["backend"]}
    known = backend_names()
    if conditions.get("backend") in known:
        return conditions
    exported_for = artifact.record.get("backend")
    return {"backend": exported_for} if exported_for in known else {}


def _energies(
    executables: Sequence[Executable],
    timings: Sequence[RoundTimings],
    meter: PowerMeter | None,
    session: dict[str, Any],
    progress: Progress,
) -> list[EnergyReading]:
    """What the runtime knows itself, else what ``meter`` measures; ``session`` is told where it came from."""
    session["power_source"] = None
    if meter is None or all(timing.energy is not None for timing in timings):
        return [_own_reading(timing) for timing in timings]
    with progress.task("measuring energy", None), meter:
        readings = measure_energy(meter, executables)
        patient = all(isinstance(exe, PatientExecutable) for exe in executables)
        waits = "asleep" if patient else "as when timed"
        session["power_source"], session["power"] = meter.source.name, {**meter.source.details(), "waits": waits}
    return readings


def _own_reading(timing: RoundTimings) -> EnergyReading:
    """Of a runtime that knows the energy of a run: the run's own, so its power is that over the run's time."""
    took, energy = timing.stats.median, timing.energy
    power = None if energy is None or took <= 0 else energy.total / took * 1000
    return EnergyReading(energy=energy, power_mw=timing.power_mw, total_mw=power)


def _row(backend: Backend, artifact: Artifact, timing: RoundTimings, reading: EnergyReading, threads: int) -> BenchRow:
    identity = backend.identity(precision=artifact.precision, batch=artifact.batch, threads=threads)
    here = identity.to_json()
    estimate, conditions = artifact.promised()
    differs = tuple((key, value, here[key]) for key, value in conditions.items() if key in here and here[key] != value)
    medians = timing.medians_ms
    return BenchRow(
        artifact=artifact,
        identity=identity,
        latency=timing.stats,
        round_medians_ms=medians,
        odd_even_ratio=timing.odd_even_ratio if min(medians) > 0 else None,
        energy=reading.energy,
        power_mw=reading.power_mw,
        energy_flags=reading.flags,
        estimate_ms=estimate,
        estimate_differs=differs,
        estimate_covers=artifact.covers(),
        energy_interval_mj=_interval(reading),
        total_mw=reading.total_mw,
        host=timing.host,
    )


def _interval(reading: EnergyReading) -> float | None:
    """Of a runtime that knows its energy: from its standard error."""
    if reading.interval_mj is not None or reading.energy is None or reading.energy.stderr is None:
        return reading.interval_mj
    return 1.96 * reading.energy.stderr


def _promise_notices(promised: Sequence[BenchRow]) -> list[str]:
    blocks = [_blocks_notice(row) for row in promised if row.estimate_covers == "blocks"]
    return blocks + [_differs_notice(row) for row in promised if row.estimate_differs]


def _blocks_notice(row: BenchRow) -> str:
    return (
        f"the estimate of {row.artifact.path} is a sum of its blocks, {row.estimate_ms:.4g} ms without stem and head, which "
        f"its table does not hold. What is measured is the whole network, on this device, so the two are not compared"
    )


def _differs_notice(row: BenchRow) -> str:
    parts = "; ".join(f"{key}: {promised} there, {here} here" for key, promised, here in row.estimate_differs)
    return f"the estimate of {row.artifact.path} was made for other conditions ({parts}); measured / estimate says little"


def _compare(first: BenchRow, other: BenchRow) -> Comparison:
    pairs = zip(first.round_medians_ms, other.round_medians_ms, strict=True)
    ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
    if not ratios:
        raise BackendError(f"{other.artifact.path} takes 0 ms by the runtime's clock; there is no ratio to it")
    p10, median, p90 = np.percentile(ratios, (10, 50, 90))
    energy_ratio, interval = _energy_ratio(first, other)
    return Comparison(
        first=first.artifact.path,
        other=other.artifact.path,
        ratio=float(median),
        p10=float(p10),
        p90=float(p90),
        rounds=len(ratios),
        energy_ratio=energy_ratio,
        energy_ratio_interval=interval,
        power_ratio=_power_ratio(first, other),
    )


def _power_ratio(first: BenchRow, other: BenchRow) -> float | None:
    if first.total_mw is None or not other.total_mw or LOW_COVERAGE in (*first.energy_flags, *other.energy_flags):
        return None
    return first.total_mw / other.total_mw


def _energy_ratio(first: BenchRow, other: BenchRow) -> tuple[float | None, float | None]:
    """Total energy of one over the other's, and the half width of its 95 % interval; None where readings were missing."""
    if LOW_COVERAGE in (*first.energy_flags, *other.energy_flags):
        return None, None
    if first.energy is None or other.energy is None or min(first.energy.total, other.energy.total) <= 0:
        return None, None
    ratio = first.energy.total / other.energy.total
    if first.energy_interval_mj is None or other.energy_interval_mj is None:
        return ratio, None
    relative = math.hypot(first.energy_interval_mj / first.energy.total, other.energy_interval_mj / other.energy.total)
    return ratio, ratio * relative
