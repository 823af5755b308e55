"""Energy of cells: measured on a few, modelled over latency and widths for the rest.

A window that a power rail's sensor can resolve takes seconds, a latency takes milliseconds; so only a coarse set of cells is
measured and the mean power of the others is modelled. Lines that a model made are flagged :data:`MODELLED`, carry the
model's error as their standard error, and say in their details how that error is by rail.

Each line is on the disk as soon as its window is over, then without dynamic energy: idle power may still drift. Once it has
been measured again, minutes later, a second line completes the first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.lut.schema import MODELLED, Cell, NetworkLine, trusted
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.profile.energy_cells import CellLoads, coarse_order
from netadapt_trt.profile.energy_model import FEWEST, EnergyModel, Point
from netadapt_trt.profile.grid import GRANULARITY, plan_cells, write_cell
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power, scalars
from netadapt_trt.profile.watch import DEVICE_FLAGS, Watch, device_here
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import EnergyStats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.measure.energy import EnergyReading
    from netadapt_trt.measure.stopwatch import Timing
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.profile.grid import PlannedCell
    from netadapt_trt.profile.watch import ReadDevice, Watched
    from netadapt_trt.progress import Progress

__all__ = ["EnergyProfile", "profile_energy"]

_NETWORKS = 3  # whole networks whose energy is measured: the uncut one and two narrower ones
_ROUNDS = 2  # windows of each: budgets refer to them


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyProfile:
    """What one run did. ``model_error``: mean relative error of the model on cells of widths it did not see; None without a
    model. ``missing`` cells and networks are still to be measured where ``stopped`` names a limit."""

    measured: int
    modelled: int
    unresolved: int
    networks: int
    model_error: float | None
    missing: int = 0
    seconds: float = 0.0
    stopped: str | None = None


def profile_energy(
    plan: Plan,
    backend: Backend,
    lut_path: Path,
    meter: PowerMeter,
    *,
    cells: int = 40,
    time_limit_s: float | None = None,
    granularity: int = GRANULARITY,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = QUIET,
    device: ReadDevice | None = None,
) -> EnergyProfile:
    """Append energy to the cells of ``plan`` that the LUT holds latencies of: ``cells`` measured, the others modelled.

    ``meter`` is not open yet. First comes the uncut network, which budgets refer to, then cells of all kinds and widths,
    then two narrower networks. Stop and restart at will: what was measured is kept, and measured cells count.
    ``time_limit_s`` ends the run before whatever would end after it; what is there by then is modelled from. ``device``
    reads the device's state, as for ``profile``: what it moved under is measured again once, then flagged and wanted again.

    Raises:
        CoverageError: the LUT holds no latency of this plan's layers.
        PowerError: the source vanished; BackendError, IdentityError, LockedError, OSError as for ``profile``.
    """
    from netadapt_trt.profile.session import new_session

    stored = read_lut(lut_path).identity
    identity = backend.identity(precision=stored.precision, batch=stored.batch, threads=stored.threads)
    layers = backend.partition(plan)
    planned = plan_cells(plan, layers, granularity=granularity)
    with LutWriter(lut_path, identity, progress=progress) as writer, meter:
        timed = [cell for cell in planned if _latency(writer.lut, cell) is not None]
        if not timed:
            raise CoverageError(f"{lut_path} holds no latency of {plan.model}'s layers; run profile for it first")
        settings = {"window_s": meter.window_s, "settle_s": meter.settle_s, "pause_s": meter.pause_s}

        def open_session() -> Session:
            state = device and device()
            return new_session(identity, settings, watch=True, progress=progress, source=meter.source, device=state)

        watch = Watch(writer, open_session, progress, read=device or device_here)
        options = CompileOptions(precision=identity.precision, threads=identity.threads)
        job = _Job(plan, backend, writer, meter, watch, options, _Budget(meter, time_limit_s, clock), progress)
        return job.run(timed, CellLoads(plan, planned), cells, granularity)


class _Budget:
    """How long the run takes, and whether there is time for another measurement."""

    def __init__(self, meter: PowerMeter, limit_s: float | None, clock: Callable[[], float]) -> None:
        self._meter, self._limit_s, self._clock = meter, limit_s, clock
        self._start = clock()
        self._windows = 0

    @property
    def passed_s(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._start

    def left_s(self, windows: int) -> float:
        """About how long so many windows take: as the meter plans them, or as long as they have taken so far."""
        planned = self._meter.seconds_for(windows)
        return max(planned, self.passed_s / self._windows * windows) if self._windows else planned

    def allows(self, windows: int) -> bool:
        """Whether so many more windows, and idling after them, end before the limit."""
        return self._limit_s is None or self.passed_s + self.left_s(windows) <= self._limit_s

    def spent(self, windows: int) -> None:
        """So many windows are measured."""
        self._windows += windows


class _Job:
    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        writer: LutWriter,
        meter: PowerMeter,
        watch: Watch,
        options: CompileOptions,
        budget: _Budget,
        progress: Progress,
    ) -> None:
        self._plan, self._backend, self._writer, self._meter = plan, backend, writer, meter
        self._watch, self._options, self._budget, self._progress = watch, options, budget, progress
        self._open: list[tuple[Cell | NetworkLine, EnergyReading]] = []  # idle power after them is not known yet
        self._stopped = False

    def run(self, timed: Sequence[PlannedCell], loads: CellLoads, count: int, granularity: int) -> EnergyProfile:
        known = sum(_measured(self._writer.lut, cell) for cell in timed)
        order = [cell for cell in coarse_order(timed, loads) if not _measured(self._writer.lut, cell)]
        queue, networks = order[: max(0, count - known)], self._lacking_networks(granularity)
        self._announce(len(queue), len(networks), len(timed) - known - len(queue))
        uncut = [widths for widths in networks if widths == self._plan.full_widths()]
        done = self._measure_networks(uncut)
        measured = self._measure_cells(queue)
        done += self._measure_networks([widths for widths in networks if widths not in uncut])
        if self._open:
            self._meter.idle()
        self._complete()
        points = self._points(timed, loads)
        model = EnergyModel(points) if len(points) >= FEWEST else None
        missing = len(queue) + len(networks) - measured - done
        if self._stopped:
            self._progress.notice(
                f"stopped at the time limit: energy of {missing} is not measured; run the same command again"
            )
        return EnergyProfile(
            measured=measured,
            modelled=0 if model is None else self._model_cells(timed, loads, model, len(points)),
            unresolved=sum(not self._resolved(cell) for cell in queue[:measured]),
            networks=done,
            model_error=None if model is None else model.error,
            missing=missing,
            seconds=self._budget.passed_s,
            stopped="time limit" if self._stopped else None,
        )

    def _announce(self, cells: int, networks: int, rest: int) -> None:
        windows = cells + _ROUNDS * networks
        if windows:
            about = _duration(self._meter.seconds_for(windows))
            self._progress.notice(
                f"energy of {cells} cells and {networks} whole networks to measure, which takes about {about} besides "
                f"building them; {rest} cells are left to the model"
            )

    def _measure_cells(self, queue: Sequence[PlannedCell]) -> int:
        """How many of ``queue`` were measured."""
        with self._progress.task("energy of cells", total=len(queue)) as task:
            for done, cell in enumerate(queue):
                if not self._has_time(1):
                    return done
                model = write_cell(self._plan, cell, self._backend, self._writer.identity)
                # Latency and energy of one engine: another build of the same layer may have chosen other kernels.
                with self._backend.compile(model, self._options) as exe:
                    taken = self._taken(exe, rounds=1)
                    details = details_of(exe)
                timing, reading = taken.found
                line = Cell(
                    layer=cell.layer.key,
                    widths=cell.widths,
                    session=taken.session,
                    latency_ms=rounded(timing.stats),
                    host_latency_ms=None if timing.host is None else rounded(timing.host),
                    details=details,
                    flags=taken.flags,
                )
                self._keep(line, reading)
                task.advance()
                task.describe(f"energy of cells, about {_duration(self._budget.left_s(len(queue) - done - 1))} left")
        return len(queue)

    def _lacking_networks(self, granularity: int) -> list[Mapping[str, int]]:
        """Widths of whole networks, which energy budgets refer to; those that the LUT has energy of are left out."""
        from netadapt_trt.plan.store import plan_hash

        settings = anchor_widths(self._plan, granularity=granularity)
        chosen = [settings[0], *settings[1 :: max(1, len(settings) // (_NETWORKS - 1))]][:_NETWORKS]
        known = [self._writer.lut.network(plan_hash(self._plan), widths, energy=True) for widths in chosen]
        return [widths for widths, line in zip(chosen, known, strict=True) if line is None or not trusted(line)]

    def _measure_networks(self, settings: Sequence[Mapping[str, int]]) -> int:
        """How many of ``settings`` were measured."""
        from netadapt_trt.plan.store import plan_hash
        from netadapt_trt.plan.write import write_network

        opset, ir_version = self._backend.opset()
        with self._progress.task("energy of whole networks", total=len(settings)) as task:
            for done, widths in enumerate(settings):
                if not self._has_time(_ROUNDS):
                    return done
                model = write_network(
                    self._plan,
                    widths,
                    opset=opset,
                    ir_version=ir_version,
                    precision=self._options.precision,
                    recipe=self._writer.identity.recipe,
                )
                with self._backend.compile(model, self._options) as exe:
                    taken = self._taken(exe, rounds=_ROUNDS)
                    details = details_of(exe)
                timing, reading = taken.found
                line = NetworkLine(
                    plan=plan_hash(self._plan),
                    widths=widths,
                    session=taken.session,
                    latency_ms=rounded(timing.stats),
                    host_latency_ms=None if timing.host is None else rounded(timing.host),
                    details=details,
                    flags=taken.flags,
                )
                self._keep(line, reading)
                task.advance()
        return len(settings)

    def _has_time(self, windows: int) -> bool:
        self._stopped = self._stopped or not self._budget.allows(windows)
        return not self._stopped

    def _taken(self, exe: Executable, *, rounds: int) -> Watched[tuple[Timing, EnergyReading]]:
        """Time, then energy, of one engine; both once more where the device moved under either."""
        from netadapt_trt.measure.energy import measure_energy
        from netadapt_trt.measure.stopwatch import time_executable

        def measure() -> tuple[Timing, EnergyReading]:
            timing = time_executable(exe)
            reading = measure_energy(self._meter, [exe], rounds=rounds, closing_idle=False)[0]
            self._budget.spent(rounds)
            return timing, reading

        return self._watch.measure_twice(measure, spread=lambda _: 1.0, most=1.0)

    def _keep(self, line: Cell | NetworkLine, reading: EnergyReading) -> None:
        """Write the line now, and complete earlier ones where idle power has been measured meanwhile."""
        from netadapt_trt.measure.energy import settled

        self._complete()
        final = settled(self._meter, reading)
        self._write(line, reading, dynamic=final)
        if not final:
            self._open.append((line, reading))

    def _complete(self) -> None:
        """Write again, now with dynamic energy, what idle power is known around."""
        from netadapt_trt.measure.energy import revised, settled

        waiting = []
        for line, reading in self._open:
            if not settled(self._meter, reading):
                waiting.append((line, reading))
                continue
            found = revised(self._meter, reading)
            if found.energy is not None:
                # A cell's energy is found without its latency; a network's line is read as a whole.
                self._write(
                    replace(line, latency_ms=None, details={}) if isinstance(line, Cell) else line, found, dynamic=True
                )
        self._open = waiting

    def _write(self, line: Cell | NetworkLine, reading: EnergyReading, *, dynamic: bool) -> None:
        if reading.energy is None and isinstance(line, NetworkLine):
            return
        energy = reading.energy if dynamic or reading.energy is None else replace(reading.energy, dynamic=None)
        power, flags = rounded_power(reading.power_mw), (*line.flags, *reading.flags)
        self._writer.append(replace(line, energy_mj=rounded_energy(energy), power_mw=power, flags=flags))

    def _resolved(self, cell: PlannedCell) -> bool:
        line = self._writer.lut.cell(cell.layer.key, cell.widths)
        return line is not None and line.energy_mj is not None and not line.flags

    def _points(self, timed: Sequence[PlannedCell], loads: CellLoads) -> list[Point]:
        """Every cell of these layers with measured, usable energy."""
        found = []
        for cell in timed:
            line = self._writer.lut.cell(cell.layer.key, cell.widths)
            if line is None or line.latency_ms is None or line.energy_mj is None or not _measured(self._writer.lut, cell):
                continue
            if line.energy_mj.total > 0:
                latency_ms = line.latency_ms.median
                power = line.energy_mj.total / latency_ms * 1000
                found.append(Point(load=loads.load(cell, latency_ms), total_mw=power, power_mw=line.power_mw))
        return found

    def _model_cells(self, timed: Sequence[PlannedCell], loads: CellLoads, model: EnergyModel, points: int) -> int:
        """Write what the model says of every cell without measured energy. What the LUT has from the same model is left."""
        lines, modelled = [], 0
        for cell in timed:
            latency_ms = _latency(self._writer.lut, cell)
            if latency_ms is None or _measured(self._writer.lut, cell):
                continue
            modelled += 1
            said = model.predict(loads.load(cell, latency_ms))
            energy = rounded_energy(EnergyStats(total=said.energy_mj, stderr=said.energy_mj * said.error))
            power = rounded_power(said.power_mw)
            line = self._writer.lut.cell(cell.layer.key, cell.widths)
            if line is not None and (line.energy_mj, dict(line.power_mw)) == (energy, power):
                continue
            errors = {"model_error": said.error, **{f"model_error@{rail}": err for rail, err in said.rail_errors.items()}}
            lines.append(
                Cell(
                    layer=cell.layer.key,
                    widths=cell.widths,
                    session=self._watch.session(),
                    energy_mj=energy,
                    power_mw=power,
                    details=scalars({"model_points": points, **{name: round(value, 4) for name, value in errors.items()}}),
                    flags=(MODELLED,),
                )
            )
        self._writer.append(*lines)
        return modelled


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _latency(lut: Lut, cell: PlannedCell) -> float | None:
    line = lut.cell(cell.layer.key, cell.widths)
    return None if line is None or line.latency_ms is None else line.latency_ms.median


def _measured(lut: Lut, cell: PlannedCell) -> bool:
    """Whether the energy of ``cell`` needs no measuring: a device that moved under it twice may be steadier today."""
    line = lut.cell(cell.layer.key, cell.widths)
    return line is not None and line.energy_mj is not None and not {MODELLED, *DEVICE_FLAGS} & set(line.flags)
