"""Energy of cells: measured on a few, modelled over latency for the rest.

A window that a power rail's sensor can resolve takes seconds, a latency takes milliseconds; so only a coarse set of cells is
measured and the mean power of a layer is modelled from its kind and its time. Lines that a model made are flagged
:data:`MODELLED` and carry the model's error as their standard error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.lut.schema import MODELLED, Cell, NetworkLine, trusted
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.profile.grid import GRANULARITY, plan_cells
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power
from netadapt_trt.profile.watch import DEVICE_FLAGS, Watch, device_here
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import EnergyStats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.measure.energy import EnergyReading
    from netadapt_trt.measure.stopwatch import Timing
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.profile.grid import PlannedCell
    from netadapt_trt.profile.watch import ReadDevice, Watched
    from netadapt_trt.progress import Progress

__all__ = ["EnergyProfile", "profile_energy"]

_NETWORKS = 3  # whole networks whose energy is measured: the uncut one and two narrower ones
_OPERATOR = re.compile(r"\b([A-Z]\w*)\(")
_FEWEST = 3  # points that a kind of layer needs for a line of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyProfile:
    """What one run did. ``model_error``: mean relative error of the model on cells it did not see; None without a model."""

    measured: int
    modelled: int
    unresolved: int
    networks: int
    model_error: float | None


def profile_energy(
    plan: Plan,
    backend: Backend,
    lut_path: Path,
    meter: PowerMeter,
    *,
    cells: int = 40,
    granularity: int = GRANULARITY,
    progress: Progress = QUIET,
    device: ReadDevice | None = None,
) -> EnergyProfile:
    """Append energy to the cells of ``plan`` that the LUT holds latencies of: ``cells`` measured, the others modelled.

    ``meter`` is not open yet. Stop and restart at will: what was measured is kept, and measured cells count. ``device``
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
        job = _Job(plan, backend, writer, meter, watch, options)
        measured, unresolved = job.measure_cells(timed, cells, progress)
        networks = job.measure_networks(granularity, progress)
        model = _Model.fit(_points(writer.lut, planned))
        modelled = job.model_cells(timed, model)
    return EnergyProfile(
        measured=measured,
        modelled=modelled,
        unresolved=unresolved,
        networks=networks,
        model_error=None if model is None else model.error,
    )


class _Job:
    def __init__(
        self, plan: Plan, backend: Backend, writer: LutWriter, meter: PowerMeter, watch: Watch, options: CompileOptions
    ) -> None:
        self._plan, self._backend, self._writer, self._meter = plan, backend, writer, meter
        self._watch, self._options = watch, options

    def measure_cells(self, timed: Sequence[PlannedCell], count: int, progress: Progress) -> tuple[int, int]:
        """(measured, of these without usable energy). What is measured already counts towards ``count``."""
        from netadapt_trt.plan.write import write_layer

        opset, ir_version = self._backend.opset()
        known = sum(_measured(self._writer.lut, cell) for cell in timed)
        queue = [cell for cell in timed if not _measured(self._writer.lut, cell)][: max(0, count - known)]
        unresolved = 0
        with progress.task("energy of cells", total=len(queue)) as task:
            for cell in queue:
                model = write_layer(
                    self._plan,
                    cell.layer,
                    cell.widths,
                    opset=opset,
                    ir_version=ir_version,
                    precision=self._options.precision,
                    recipe=self._writer.identity.recipe,
                )
                with self._backend.compile(model, self._options) as exe:
                    line = self._line(exe, cell)
                unresolved += line.energy_mj is None or bool(line.flags)
                self._writer.append(line)
                task.advance()
        return len(queue), unresolved

    def _line(self, exe: Executable, cell: PlannedCell) -> Cell:
        """Latency and energy of one engine: another build of the same layer may have chosen other kernels."""
        taken = self._taken(exe, rounds=1)
        timing, reading = taken.found
        return Cell(
            layer=cell.layer.key,
            widths=cell.widths,
            session=taken.session,
            latency_ms=rounded(timing.stats),
            host_latency_ms=None if timing.host is None else rounded(timing.host),
            energy_mj=rounded_energy(reading.energy),
            power_mw=rounded_power(reading.power_mw),
            details=details_of(exe),
            flags=(*taken.flags, *reading.flags),
        )

    def _taken(self, exe: Executable, *, rounds: int) -> Watched[tuple[Timing, EnergyReading]]:
        """Time, then energy, of one engine; both once more where the device moved under either."""
        from netadapt_trt.measure.energy import measure_energy
        from netadapt_trt.measure.stopwatch import time_executable

        def measure() -> tuple[Timing, EnergyReading]:
            return time_executable(exe), measure_energy(self._meter, [exe], rounds=rounds)[0]

        return self._watch.measure_twice(measure, spread=lambda _: 1.0, most=1.0)

    def measure_networks(self, granularity: int, progress: Progress) -> int:
        """Whole networks, which energy budgets refer to; those that the LUT has energy of are left."""
        from netadapt_trt.plan.store import plan_hash
        from netadapt_trt.plan.write import write_network

        name, opset = plan_hash(self._plan), self._backend.opset()
        settings = anchor_widths(self._plan, granularity=granularity)
        chosen = [settings[0], *settings[1 :: max(1, len(settings) // (_NETWORKS - 1))]][:_NETWORKS]
        known = [self._writer.lut.network(name, widths, energy=True) for widths in chosen]
        lacking = [widths for widths, line in zip(chosen, known, strict=True) if line is None or not trusted(line)]
        with progress.task("energy of whole networks", total=len(lacking)) as task:
            for widths in lacking:
                model = write_network(
                    self._plan,
                    widths,
                    opset=opset[0],
                    ir_version=opset[1],
                    precision=self._options.precision,
                    recipe=self._writer.identity.recipe,
                )
                with self._backend.compile(model, self._options) as exe:
                    taken = self._taken(exe, rounds=2)
                    details = details_of(exe)
                timing, reading = taken.found
                if reading.energy is not None:
                    self._writer.append(
                        NetworkLine(
                            plan=name,
                            widths=widths,
                            session=taken.session,
                            latency_ms=rounded(timing.stats),
                            host_latency_ms=None if timing.host is None else rounded(timing.host),
                            energy_mj=rounded_energy(reading.energy),
                            power_mw=rounded_power(reading.power_mw),
                            details=details,
                            flags=(*taken.flags, *reading.flags),
                        )
                    )
                task.advance()
        return len(lacking)

    def model_cells(self, timed: Sequence[PlannedCell], model: _Model | None) -> int:
        """Write what the model says of every cell without measured energy."""
        if model is None:
            return 0
        lines = []
        for cell in timed:
            latency = _latency(self._writer.lut, cell)
            if latency is None or _measured(self._writer.lut, cell):
                continue
            total = model.energy_mj(_kind(cell.layer), latency)
            lines.append(
                Cell(
                    layer=cell.layer.key,
                    widths=cell.widths,
                    session=self._watch.session(),
                    energy_mj=EnergyStats(total=total, stderr=total * model.error),
                    power_mw={rail: share * total / latency * 1000 for rail, share in model.rails.items()},
                    flags=(MODELLED,),
                )
            )
        self._writer.append(*lines)
        return len(lines)


@dataclass(frozen=True, slots=True)
class _Point:
    kind: str
    latency_ms: float
    energy_mj: float
    rails_mj: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Model:
    """Energy of a kind of layer as a + b * latency; ``rails``: share of the total by rail."""

    lines: dict[str, tuple[float, float]]
    rails: dict[str, float]
    error: float

    def energy_mj(self, kind: str, latency_ms: float) -> float:
        a, b = self.lines.get(kind, self.lines[""])
        return max(a + b * latency_ms, 1e-9)

    @staticmethod
    def fit(points: Sequence[_Point]) -> _Model | None:
        """None below three points. The error is that on points which the fit did not see (each left out once)."""
        if len(points) < _FEWEST:
            return None
        lines = _lines(points)
        errors = []
        for index, point in enumerate(points):
            rest = [*points[:index], *points[index + 1 :]]
            a, b = _lines(rest).get(point.kind, _line(rest))
            errors.append(abs(a + b * point.latency_ms - point.energy_mj) / point.energy_mj)
        total = sum(point.energy_mj for point in points)
        names = {rail for point in points for rail in point.rails_mj}
        rails = {rail: sum(point.rails_mj.get(rail, 0.0) for point in points) / total for rail in sorted(names)}
        return _Model(lines, rails, float(np.mean(errors)))


def _lines(points: Sequence[_Point]) -> dict[str, tuple[float, float]]:
    """A line for each kind of layer that has enough points, and one for all under the empty name."""
    kinds: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        kinds[point.kind].append(point)
    return {"": _line(points), **{kind: _line(own) for kind, own in kinds.items() if len(own) >= _FEWEST}}


def _line(points: Sequence[_Point]) -> tuple[float, float]:
    """Least squares of the relative error; through the origin where the times do not tell a line from a point."""
    times = np.array([point.latency_ms for point in points])
    energies = np.array([point.energy_mj for point in points])
    if len(points) < _FEWEST or np.ptp(times) < 0.05 * times.mean():
        return 0.0, float(np.mean(energies / times))
    columns = np.stack([1 / energies, times / energies], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones(len(points)), rcond=None)
    # A kind whose energy falls with time has been measured badly: its mean power is all that can be used.
    return (float(a), float(b)) if b > 0 and (a + b * times > 0).all() else (0.0, float(np.mean(energies / times)))


def _points(lut: Lut, planned: Sequence[PlannedCell]) -> list[_Point]:
    """Every cell of these layers with measured, usable energy."""
    found = []
    for cell in planned:
        line = lut.cell(cell.layer.key, cell.widths)
        if line is None or line.latency_ms is None or line.energy_mj is None or not _measured(lut, cell):
            continue
        if line.energy_mj.total > 0:
            time = line.latency_ms.median
            rails = {rail: power * time / 1000 for rail, power in line.power_mw.items()}
            found.append(_Point(_kind(cell.layer), time, line.energy_mj.total, rails))
    return found


def _kind(layer: Layer) -> str:
    """The first operator, depthwise convolutions apart: what decides how a kernel spends its time."""
    found = _OPERATOR.search(layer.key)
    operator = found[1] if found else "?"
    return f"{operator} depthwise" if operator == "Conv" and "group=a" in layer.key else operator


def _latency(lut: Lut, cell: PlannedCell) -> float | None:
    line = lut.cell(cell.layer.key, cell.widths)
    return None if line is None or line.latency_ms is None else line.latency_ms.median


def _measured(lut: Lut, cell: PlannedCell) -> bool:
    """Whether the energy of ``cell`` needs no measuring: a device that moved under it twice may be steadier today."""
    line = lut.cell(cell.layer.key, cell.widths)
    return line is not None and line.energy_mj is not None and not {MODELLED, *DEVICE_FLAGS} & set(line.flags)
