"""Measure what a LUT lacks of a network, line by line; stop and start again at will.

Nothing but the LUT is written, and each cell is on the disk before the next begins: whatever ends this process, at most the
cell under way is lost.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import BackendError, SpecError
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.lut.schema import Cell, NetworkLine, ReferenceLine
from netadapt_trt.lut.store import LutWriter, stored_identity
from netadapt_trt.profile.drift import Pace, choose_reference
from netadapt_trt.profile.grid import GRANULARITY, PlannedCell, plan_cells
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from netadapt_trt.backend import Backend
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.measure.stopwatch import Timing
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.progress import Progress, Task
    from netadapt_trt.spec import Precision

__all__ = ["NOISY", "Effort", "ProfileResult", "pending_cells", "profile"]

NOISY = "noisy"
"""Flag of a cell whose spread stayed large when it was measured a second time."""

_MAX_SPREAD = 1.5  # p90 / p10
_ENOUGH_RUNS = 3  # what the stopwatch takes at least, even of a layer slower than its cap
_CALIBRATION = 3
_NETWORK_SECONDS = 10.0  # kept back from a time limit for the whole networks, which budgets refer to

_PORTION_BYTES = 2.0**29


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long each cell is timed: see :func:`netadapt_trt.measure.stopwatch.time_executable`."""

    warmup_ms: float = 50.0
    min_runs: int = 10
    min_ms: float = 150.0
    max_ms: float = 2000.0


_SIMULATED = Effort(warmup_ms=0.0, min_runs=10, min_ms=0.0, max_ms=2000.0)
"""A device made of a formula repeats itself; timing it for long would only keep this processor busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """What one run did. ``missing`` cells are still to be measured, ``failed`` of them the runtime refused.

    ``network_ms`` is the end-to-end latency of the uncut network, None where it has not been measured.
    """

    lut: Path
    measured: int
    present: int
    missing: int
    failed: int
    noisy: int
    network_ms: float | None
    seconds: float
    stopped: str | None

    @property
    def complete(self) -> bool:
        """True when the LUT holds everything this network asks for."""
        return self.missing == 0 and self.network_ms is not None


def pending_cells(lut: Lut, cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Those of ``cells`` that ``lut`` does not hold unflagged and with enough runs, in their order."""
    found = []
    for cell in cells:
        known = lut.cell(cell.layer.key, cell.widths)
        if known is None or known.latency_ms is None or known.flags or known.latency_ms.n < _ENOUGH_RUNS:
            found.append(cell)
    return found


def profile(
    plan: Plan,
    backend: Backend,
    lut_path: Path | str,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    time_limit_s: float | None = None,
    max_cells: int | None = None,
    granularity: int = GRANULARITY,
    effort: Effort | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = QUIET,
) -> ProfileResult:
    """Append to the LUT at ``lut_path`` every cell of ``plan`` it lacks, then whole networks measured end to end.

    The whole networks are the uncut one, which budgets refer to, and a few narrower ones that estimates are anchored to.

    ``threads``: default what the LUT says, else the backend's own. ``time_limit_s`` and ``max_cells`` end the run early,
    with the coarse grid of all layers first; whole networks are measured in any case. KeyboardInterrupt passes through;
    everything measured is in the file by then.

    Raises:
        SpecError: a precision this backend does not take, or limits that make no sense.
        IdentityError, LockedError, FileFormatError: from the LUT. BackendError: the runtime refuses the first layer.
        OSError: the LUT cannot be written (disk full); what was measured is kept.
    """
    if (time_limit_s is not None and time_limit_s <= 0) or (max_cells is not None and max_cells < 0) or granularity < 1:
        raise SpecError("time limit and granularity must be positive, the number of cells not negative")
    if precision == "int8":
        raise SpecError("int8 comes with the next version; profile in fp32 or, where the backend takes it, fp16")
    if precision not in backend.precisions():
        backend.identity(precision=precision, batch=1, threads=1)  # says why, where there is a reason
        raise SpecError(f"backend {backend.name} does not take {precision}; it takes {', '.join(backend.precisions())}")
    if threads is None:
        stored = stored_identity(lut_path)
        threads = backend.default_threads() if stored is None else stored.threads
    batch = plan.tensors[plan.inputs[0]].shape[0].const
    identity = backend.identity(precision=precision, batch=batch, threads=threads)
    if effort is None:
        effort = _SIMULATED if getattr(backend, "simulated", backend.name == "fake") else Effort()
    layers = backend.partition(plan)
    with LutWriter(lut_path, identity, progress=progress) as writer, _settled_heap():
        options = CompileOptions(precision=precision, threads=threads)
        return _Profiler(plan, backend, layers, writer, options, effort, granularity, clock, progress).run(
            plan_cells(plan, layers, granularity=granularity), time_limit_s, max_cells
        )


@contextmanager
def _settled_heap() -> Iterator[None]:
    """Spare the stopwatch's garbage collection everything that is here already.

    It collects before each cell; with PyTorch loaded that alone took 0.4 s, as long as the cell.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Profiler:
    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        layers: Sequence[Layer],
        writer: LutWriter,
        options: CompileOptions,
        effort: Effort,
        granularity: int,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._plan, self._backend, self._layers = plan, backend, layers
        self._writer, self._options, self._effort = writer, options, effort
        self._granularity, self._clock, self._progress = granularity, clock, progress
        self._start = clock()
        self._pace = Pace(clock)
        self._session: str | None = None
        self._measured = self._failed = self._noisy = 0

    def run(self, cells: Sequence[PlannedCell], time_limit_s: float | None, max_cells: int | None) -> ProfileResult:
        pending = pending_cells(self._writer.lut, cells)
        queue = _calibrated(pending)[:max_cells]
        present = len(cells) - len(pending)
        again = sum(self._writer.lut.cell(cell.layer.key, cell.widths) is not None for cell in queue)
        once_more = f" ({again} of them once more, they were noisy)" if again else ""
        self._progress.notice(f"{len(queue)} cells to measure{once_more}, {present} of {len(cells)} are there already")
        full = [cell for cell in cells if cell.level < 0]
        settled = max((place for place, cell in enumerate(queue) if cell.level < 0), default=-1)
        stopped = None if len(queue) == len(pending) else "cell limit"
        with self._progress.task("cells", total=len(queue)) as task:
            for done, cell in enumerate(queue):
                if time_limit_s is not None and self._over(time_limit_s, done):
                    stopped = "time limit"
                    break
                self._measure(cell)
                if done >= settled:
                    self._watch(full)
                self._tell(task, done + 1, len(queue))
        return self._finish(cells, present, stopped)

    def _finish(self, cells: Sequence[PlannedCell], present: int, stopped: str | None) -> ProfileResult:
        network_ms = self._network()
        missing = [cell for cell in cells if self._writer.lut.cell(cell.layer.key, cell.widths) is None]
        if missing and stopped is not None:
            keys = len({cell.layer.key for cell in missing})
            self._progress.notice(
                f"stopped at the {stopped}: {len(missing)} cells of {keys} layers are missing; run the same command again"
            )
        return ProfileResult(
            lut=self._writer.path,
            measured=self._measured,
            present=present,
            missing=len(missing),
            failed=self._failed,
            noisy=self._noisy,
            network_ms=network_ms,
            seconds=self._clock() - self._start,
            stopped=stopped,
        )

    def _over(self, time_limit_s: float, done: int) -> bool:
        """Whether the next cell would end after the limit, judging by the mean so far."""
        passed = self._clock() - self._start
        return passed + (passed / done if done else 0.0) > max(time_limit_s - _NETWORK_SECONDS, time_limit_s / 2)

    def _tell(self, task: Task, done: int, total: int) -> None:
        left = (self._clock() - self._start) / done * (total - done)
        task.advance()
        task.describe(f"cells, about {_duration(left)} left")
        if done == _CALIBRATION and total > done:
            self._progress.notice(f"{total - done} more cells will take about {_duration(left)}")

    def _session_id(self) -> str:
        """The session's line is written before its first measurement, so that no run leaves an empty one."""
        if self._session is None:
            from netadapt_trt.profile.session import new_session

            session = new_session(
                self._writer.identity, asdict(self._effort), watch=self._effort is not _SIMULATED, progress=self._progress
            )
            self._writer.append(session)
            self._session = session.id
        return self._session

    def _time(self, cell: PlannedCell) -> Timing:
        from netadapt_trt.measure.stopwatch import time_executable
        from netadapt_trt.plan.write import write_layer

        opset, ir_version = self._backend.opset()
        model = write_layer(self._plan, cell.layer, cell.widths, opset=opset, ir_version=ir_version)
        with self._backend.compile(model, self._options) as exe:
            effort = self._effort
            return time_executable(
                exe,
                warmup_ms=effort.warmup_ms,
                min_runs=effort.min_runs,
                min_ms=effort.min_ms,
                max_ms=effort.max_ms,
            )

    def _measure(self, cell: PlannedCell) -> None:
        """Measure one cell, once more where it scatters, and append it. A refused one is told and left out."""
        session = self._session_id()
        try:
            timing = self._time(cell)
            if _spread(timing) > _MAX_SPREAD:
                # The quieter of the two: noise of other processes only ever adds.
                timing = min(timing, self._time(cell), key=_spread)
        except BackendError as error:
            if not self._measured:
                raise
            self._failed += 1
            self._progress.notice(f"{cell.layer.key} at {list(cell.widths)} cannot be measured: {error}")
            return
        noisy = _spread(timing) > _MAX_SPREAD
        self._noisy += noisy
        self._measured += 1
        self._writer.append(
            Cell(
                layer=cell.layer.key,
                widths=cell.widths,
                session=session,
                latency_ms=_rounded(timing.stats),
                energy_mj=_rounded_energy(timing.energy),
                flags=(NOISY,) if noisy else (),
            )
        )
        self._pace.cell_done()

    def _watch(self, full: Sequence[PlannedCell]) -> None:
        """Measure the reference layer when it is due."""
        if not self._pace.due():
            return
        cell = choose_reference(self._writer.lut, self._layers, full)
        if cell is None:
            return
        session = self._session_id()
        stats = _rounded(self._time(cell).stats)
        self._writer.append(ReferenceLine(layer=cell.layer.key, widths=cell.widths, latency_ms=stats, session=session))
        self._pace.taken()

    def _network(self) -> float | None:
        """End-to-end latency of the uncut network. It and the narrower ones to anchor to are measured where they lack."""
        from netadapt_trt.plan.store import plan_hash

        name, lut = plan_hash(self._plan), self._writer.lut
        settings = anchor_widths(self._plan, granularity=self._granularity)
        lacking = [widths for widths in settings if lut.network(name, widths) is None]
        if lacking:
            with self._progress.task("whole networks", total=len(lacking)) as task:
                for part in self._portions(lacking):
                    self._time_networks(name, part)
                    task.advance(len(part))
        uncut = lut.network(name, settings[0])
        return None if uncut is None or uncut.latency_ms is None else uncut.latency_ms.median

    def _portions(self, settings: Sequence[dict[str, int]]) -> list[list[dict[str, int]]]:
        """``settings`` in portions: what is timed in turn is held in memory at once, weights and all."""
        from netadapt_trt.plan.sizes import network_params

        portions: list[list[dict[str, int]]] = []
        room = 0.0
        for widths in settings:
            size = 4.0 * network_params(self._plan, widths)
            if not portions or size > room:
                portions.append([])
                room = _PORTION_BYTES
            portions[-1].append(widths)
            room -= size
        return portions

    def _time_networks(self, name: str, settings: Sequence[dict[str, int]]) -> None:
        from netadapt_trt.measure.network import time_networks

        session, options = self._session_id(), self._options
        timed = time_networks(self._backend, self._plan, settings, precision=options.precision, threads=options.threads)
        self._writer.append(
            *(
                NetworkLine(
                    plan=name,
                    widths=widths,
                    latency_ms=_rounded(found.stats),
                    energy_mj=_rounded_energy(found.energy),
                    session=session,
                )
                for widths, found in zip(settings, timed, strict=True)
            )
        )


def _calibrated(pending: Sequence[PlannedCell]) -> list[PlannedCell]:
    """``pending`` with a few cells from all over it in front, so that the first estimate of the time left holds."""
    if len(pending) <= 2 * _CALIBRATION:
        return list(pending)
    places = [round(index * (len(pending) - 1) / (_CALIBRATION - 1)) for index in range(_CALIBRATION)]
    return [pending[place] for place in places] + [cell for at, cell in enumerate(pending) if at not in places]


def _spread(timing: Timing) -> float:
    return timing.stats.p90 / max(timing.stats.p10, 1e-9)


def _short(value: float) -> float:
    """Six significant digits: more is noise, and the file is read by people too."""
    return float(f"{value:.6g}")


def _rounded(stats: LatencyStats) -> LatencyStats:
    # A clock may be too coarse for a tiny layer; a time of zero is never true.
    return LatencyStats(
        median=max(_short(stats.median), 1e-6),
        p10=max(_short(stats.p10), 1e-6),
        p90=max(_short(stats.p90), 1e-6),
        n=stats.n,
    )


def _rounded_energy(energy: EnergyStats | None) -> EnergyStats | None:
    if energy is None:
        return None
    dynamic = None if energy.dynamic is None else _short(energy.dynamic)
    stderr = None if energy.stderr is None else _short(energy.stderr)
    return replace(energy, total=_short(energy.total), dynamic=dynamic, stderr=stderr)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
