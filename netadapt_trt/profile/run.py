"""Measure what a LUT lacks of a network, line by line; stop and start again at will.

Where the runtime tells where a network's time went, whole networks of sampled widths are looked into until the estimate is
good enough, and lone layers only add the ends of the grid; elsewhere every layer is timed alone on the whole grid. Nothing
but the LUT is written, and each measurement is on the disk before the next begins: whatever ends this process, at most the
one under way is lost.
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
from netadapt_trt.lut.schema import Cell, ReferenceLine, trusted
from netadapt_trt.lut.store import LutWriter, stored_identity
from netadapt_trt.profile.drift import Pace, choose_reference
from netadapt_trt.profile.grid import GRANULARITY, PlannedCell, plan_cells, write_cell
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power
from netadapt_trt.profile.looking_into import LookingInto
from netadapt_trt.profile.networks import NetworkProfiler
from netadapt_trt.profile.sampling import Sampling, sampling_for
from netadapt_trt.profile.watch import Watch, device_here, nowhere
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from netadapt_trt.backend import Backend
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.measure.stopwatch import Timing
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.profile.lines import Scalar
    from netadapt_trt.profile.watch import ReadDevice
    from netadapt_trt.progress import Progress, Task
    from netadapt_trt.spec import Precision

__all__ = ["NOISY", "Effort", "ProfileResult", "pending_cells", "profile"]

NOISY = "noisy"
"""Flag of a cell whose spread stayed large when it was measured a second time."""

_MAX_SPREAD = 1.5  # p90 / p10
_ENOUGH_RUNS = 3  # what the stopwatch takes at least, even of a layer slower than its cap
_CALIBRATION = 3
_LONE_LEVEL = 0  # of the grid, beside networks that were looked into: corners
_LONE_SHARE = 0.25  # of a time limit that lone layers may take then
_BATCH_SHARE = 0.2  # of a time limit that networks timed in turn may take before their rounds are cut


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

    ``noisy`` cells scattered twice, under ``disturbed`` ones the device's state moved twice. ``network_ms`` is the
    end-to-end latency of the uncut network, None where it has not been measured. ``networks`` were measured whole; the mean
    relative error of the estimate on them, each left out in turn, is ``held_out_error`` (None where the runtime does not
    tell a network's time by layer).
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
    disturbed: int = 0
    networks: int = 0
    held_out_error: float | None = None

    @property
    def complete(self) -> bool:
        """True when the LUT holds everything this network asks for."""
        return self.missing == 0 and self.network_ms is not None


def pending_cells(lut: Lut, cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Those of ``cells`` that ``lut`` does not hold unflagged and with enough runs, in their order."""
    found = []
    for cell in cells:
        known = lut.timed(cell.layer.key, cell.widths)
        if known is None or known.latency_ms is None or known.latency_ms.n < _ENOUGH_RUNS or not trusted(known):
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
    sampling: Sampling | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = QUIET,
    device: ReadDevice | None = None,
) -> ProfileResult:
    """Append to the LUT at ``lut_path`` what it lacks of ``plan``: whole networks measured end to end, and cells.

    The whole networks are the uncut one, which budgets refer to, and narrower ones that estimates are anchored to; where the
    runtime tells their time by layer, more of them follow, chosen where the estimate is least certain, until ``sampling`` is
    content.

    ``threads``: default what the LUT says, else the backend's own. ``time_limit_s`` and ``max_cells`` end the run early,
    with the coarse grid of all layers first; the first whole networks are measured in any case. KeyboardInterrupt passes
    through; everything measured is in the file by then.

    On a Jetson the device's state is read around each measurement; ``device`` reads it elsewhere. What it moved under is
    measured again once, then flagged (``throttled``, ``clocks_changed``, ``power_mode_changed``) and wanted again.

    Raises:
        SpecError: a precision this backend does not take, or limits that make no sense.
        IdentityError, LockedError, FileFormatError: from the LUT. BackendError: the runtime refuses the first layer.
        OSError: the LUT cannot be written (disk full); what was measured is kept.
    """
    if (time_limit_s is not None and time_limit_s <= 0) or (max_cells is not None and max_cells < 0) or granularity < 1:
        raise SpecError("time limit and granularity must be positive, the number of cells not negative")
    if precision not in backend.precisions():
        backend.identity(precision=precision, batch=1, threads=1)  # says why, where there is a reason
        raise SpecError(f"backend {backend.name} does not take {precision}; it takes {', '.join(backend.precisions())}")
    if threads is None:
        stored = stored_identity(lut_path)
        threads = backend.default_threads() if stored is None else stored.threads
    batch = plan.tensors[plan.inputs[0]].shape[0].const
    identity = backend.identity(precision=precision, batch=batch, threads=threads)
    if precision == "int8" and identity.recipe == "none":
        raise SpecError(f"backend {backend.name} names no quantisation recipe, so its int8 layers cannot be written")
    if effort is None:
        effort = _SIMULATED if getattr(backend, "simulated", backend.name == "fake") else Effort()
    sampling = sampling or sampling_for(backend)
    if max_cells is not None:
        sampling = replace(sampling, most_rounds=sampling.rounds)  # a trial; patience is for tables
    if time_limit_s is not None:
        sampling = replace(sampling, seconds=min(sampling.seconds, time_limit_s * _BATCH_SHARE))
    layers = backend.partition(plan)
    with LutWriter(lut_path, identity, progress=progress) as writer, _settled_heap():
        options = CompileOptions(precision=precision, threads=threads)
        profiler = _Profiler(plan, backend, layers, writer, options, effort, sampling, granularity, clock, progress, device)
        return profiler.run(time_limit_s, max_cells)


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
        sampling: Sampling,
        granularity: int,
        clock: Callable[[], float],
        progress: Progress,
        device: ReadDevice | None,
    ) -> None:
        self._plan, self._backend, self._layers = plan, backend, layers
        self._writer, self._options, self._effort = writer, options, effort
        self._granularity, self._clock, self._progress = granularity, clock, progress
        self._start = clock()
        self._pace = Pace(clock)
        self._device = device
        if device is None:
            # A formula has no clocks, whatever board it is computed on.
            device = nowhere if effort is _SIMULATED else device_here
        self._watch = Watch(writer, self._open_session, progress, read=device)
        self._networks = NetworkProfiler(plan, backend, layers, writer, self._watch, options, progress, sampling)
        self._looking = LookingInto(plan, layers, writer, self._networks, sampling, granularity, clock, progress)
        self._measured = self._failed = self._noisy = self._disturbed = 0

    def run(self, time_limit_s: float | None, max_cells: int | None) -> ProfileResult:
        self._networks.measure(anchor_widths(self._plan, granularity=self._granularity))
        cells = plan_cells(self._plan, self._layers, granularity=self._granularity)
        looked_into = self._looking.tells_by_layer()
        if looked_into:
            cells = [cell for cell in cells if cell.level <= _LONE_LEVEL]
        left = None if time_limit_s is None else time_limit_s - (self._clock() - self._start)
        share = None if time_limit_s is None or not looked_into else time_limit_s * _LONE_SHARE
        stopped, present = self._measure_cells(cells, left if share is None else share, max_cells)
        error = None
        if looked_into and stopped != "cell limit":
            full = [cell for cell in cells if cell.level < 0]
            until = None if time_limit_s is None else self._start + time_limit_s
            error, over = self._looking.go_on(until, between=lambda: self._take_reference(full))
            stopped = over or stopped
        return self._finish(cells, present, stopped, error)

    def _measure_cells(
        self, cells: Sequence[PlannedCell], time_limit_s: float | None, max_cells: int | None
    ) -> tuple[str | None, int]:
        """Time layers alone. What ended it early, and how many of ``cells`` were there before."""
        pending = pending_cells(self._writer.lut, cells)
        queue = _calibrated(pending)[:max_cells]
        present = len(cells) - len(pending)
        again = sum(self._writer.lut.cell(cell.layer.key, cell.widths) is not None for cell in queue)
        once_more = f" ({again} of them once more, they were noisy or disturbed)" if again else ""
        self._progress.notice(f"{len(queue)} cells to measure{once_more}, {present} of {len(cells)} are there already")
        full = [cell for cell in cells if cell.level < 0]
        settled = max((place for place, cell in enumerate(queue) if cell.level < 0), default=-1)
        begun = self._clock()
        with self._progress.task("cells", total=len(queue)) as task:
            for done, cell in enumerate(queue):
                if time_limit_s is not None and self._over(time_limit_s, done, begun):
                    return "time limit", present
                self._measure(cell)
                if done >= settled:
                    self._take_reference(full)
                self._tell(task, done + 1, len(queue), begun)
        return (None if len(queue) == len(pending) else "cell limit"), present

    def _finish(self, cells: Sequence[PlannedCell], present: int, stopped: str | None, error: float | None) -> ProfileResult:
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
            network_ms=self._networks.uncut_ms(),
            seconds=self._clock() - self._start,
            stopped=stopped,
            disturbed=self._disturbed,
            networks=self._networks.added,
            held_out_error=error,
        )

    def _over(self, time_limit_s: float, done: int, begun: float) -> bool:
        """Whether the next cell would end after the limit, judging by the mean so far."""
        passed = self._clock() - begun
        return passed + (passed / done if done else 0.0) > time_limit_s

    def _tell(self, task: Task, done: int, total: int, begun: float) -> None:
        left = (self._clock() - begun) / done * (total - done)
        task.advance()
        task.describe(f"cells, about {_duration(left)} left")
        if done == _CALIBRATION and total > done:
            self._progress.notice(f"{total - done} more cells will take about {_duration(left)}")

    def _open_session(self) -> Session:
        from netadapt_trt.profile.session import new_session

        return new_session(
            self._writer.identity,
            asdict(self._effort),
            watch=self._effort is not _SIMULATED,
            progress=self._progress,
            device=self._device and self._device(),
        )

    def _time(self, cell: PlannedCell) -> tuple[Timing, dict[str, Scalar]]:
        from netadapt_trt.measure.stopwatch import time_executable

        model = write_cell(self._plan, cell, self._backend, self._writer.identity)
        with self._backend.compile(model, self._options) as exe:
            effort = self._effort
            timing = time_executable(
                exe,
                warmup_ms=effort.warmup_ms,
                min_runs=effort.min_runs,
                min_ms=effort.min_ms,
                max_ms=effort.max_ms,
            )
            return timing, details_of(exe)

    def _measure(self, cell: PlannedCell) -> None:
        """Measure one cell, once more where it scatters or the device moved, and append it. A refused one is left out."""
        try:
            taken = self._watch.measure_twice(
                lambda: self._time(cell), spread=lambda found: _spread(found[0]), most=_MAX_SPREAD
            )
        except BackendError as error:
            if not self._measured:
                raise
            self._failed += 1
            self._progress.notice(f"{cell.layer.key} at {list(cell.widths)} cannot be measured: {error}")
            return
        timing, details = taken.found
        noisy = _spread(timing) > _MAX_SPREAD
        self._noisy += noisy
        self._disturbed += bool(taken.flags)
        self._measured += 1
        self._writer.append(
            Cell(
                layer=cell.layer.key,
                widths=cell.widths,
                session=taken.session,
                latency_ms=rounded(timing.stats),
                host_latency_ms=None if timing.host is None else rounded(timing.host),
                energy_mj=rounded_energy(timing.energy),
                power_mw=rounded_power(timing.power_mw),
                details=details,
                flags=(*taken.flags, *((NOISY,) if noisy else ())),
            )
        )
        self._pace.cell_done()

    def _take_reference(self, full: Sequence[PlannedCell]) -> None:
        """Measure the reference layer when it is due."""
        if not self._pace.due():
            return
        cell = choose_reference(self._writer.lut, self._layers, full)
        if cell is None:
            return
        # Whatever moved under it: that is what it is there to show.
        taken = self._watch.measure(lambda: self._time(cell))
        stats = rounded(taken.found[0].stats)
        self._writer.append(ReferenceLine(layer=cell.layer.key, widths=cell.widths, latency_ms=stats, session=taken.session))
        self._pace.taken()


def _calibrated(pending: Sequence[PlannedCell]) -> list[PlannedCell]:
    """``pending`` with a few cells from all over it in front, so that the first estimate of the time left holds."""
    if len(pending) <= 2 * _CALIBRATION:
        return list(pending)
    places = [round(index * (len(pending) - 1) / (_CALIBRATION - 1)) for index in range(_CALIBRATION)]
    return [pending[place] for place in places] + [cell for at, cell in enumerate(pending) if at not in places]


def _spread(timing: Timing) -> float:
    return timing.stats.p90 / max(timing.stats.p10, 1e-9)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
