"""Measure what a LUT lacks of a search space: whole children, looked into by layer where the runtime can tell.

A block in a network is not a block alone, so children are measured (:mod:`netadapt_trt.space.children` says which) and
their time is divided among their layers. Where a runtime does not tell, layers are timed alone, and the children still say
what the sum of them is worth. Nothing but the LUT is written; whatever ends this process, only the children that are being
timed are lost.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import SpecError
from netadapt_trt.lut.store import LutWriter, read_lut, stored_identity
from netadapt_trt.profile.children import ChildProfiler
from netadapt_trt.profile.run import profile
from netadapt_trt.profile.sampling import sampling_for
from netadapt_trt.profile.session import new_session
from netadapt_trt.profile.watch import Watch, device_here, nowhere
from netadapt_trt.progress import QUIET
from netadapt_trt.space.children import arrangement, space_layers
from netadapt_trt.space.measured import children_of, held_out, lacking
from netadapt_trt.space.plan import child_plan, names_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.backend import Backend
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.power.source import PowerSource
    from netadapt_trt.profile.sampling import Sampling
    from netadapt_trt.profile.watch import ReadDevice
    from netadapt_trt.progress import Progress
    from netadapt_trt.space.schema import Space
    from netadapt_trt.spec import Identity, Precision

__all__ = ["SpaceProfile", "profile_space"]

Choice = tuple[int, ...]

_PORTION_SHARE = 0.5  # of a time limit that one portion may take before its rounds are cut
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceProfile:
    """What one run did. ``measured`` children were timed, ``present`` were there, ``missing`` are still to be measured.

    ``cells`` layers were timed alone. ``lacking`` layers of the space the LUT still says nothing of. ``held_out_error`` and
    ``worst_error``: estimates of children's latencies from all others, relative, mean and largest; None with too few; then
    the same of energies. ``energies`` children were measured for energy, ``with_energy`` have one in all. ``stopped`` names
    the limit that ended it early.
    """

    lut: Path
    space: str
    measured: int
    present: int
    missing: int
    cells: int
    lacking: int
    energies: int
    with_energy: int
    held_out_error: float | None
    worst_error: float | None
    held_out_children: int
    energy_held_out_error: float | None
    energy_worst_error: float | None
    energy_held_out_children: int
    seconds: float
    stopped: str | None

    @property
    def complete(self) -> bool:
        """Whether nothing that was asked for is missing."""
        return not (self.missing or self.lacking)


def profile_space(
    space: Space,
    backend: Backend,
    lut_path: Path | str,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    rounds: int = 3,
    seed: int = 0,
    time_limit_s: float | None = None,
    sampling: Sampling | None = None,
    meter: PowerMeter | None = None,
    progress: Progress = QUIET,
    device: ReadDevice | None = None,
) -> SpaceProfile:
    """Append to the LUT at ``lut_path`` what it lacks of ``space``.

    ``rounds`` arrangements of children are measured, each showing every block once at every place; the same ``seed`` gives
    the same children, so a stopped run goes on where it was. ``threads``: default what the LUT says, else the backend's own.
    ``meter`` (not open yet) measures the energy of the first arrangement's children; a backend that knows its energy needs
    none. ``time_limit_s`` ends the run early; the first children are measured in any case.

    Raises:
        SpecError: a precision that the backend does not take, or limits that make no sense.
        IdentityError, LockedError, FileFormatError: from the LUT. BackendError: the runtime refuses a child.
        PowerError: the source vanished. OSError: the LUT cannot be written; what was measured is kept.
    """
    if not 1 <= rounds <= _MOST_ROUNDS or (time_limit_s is not None and time_limit_s <= 0):
        raise SpecError(f"rounds must be from 1 to {_MOST_ROUNDS} and a time limit positive")
    if precision not in backend.precisions():
        backend.identity(precision=precision, batch=1, threads=1)  # says why, where there is a reason
        raise SpecError(f"backend {backend.name} does not take {precision}; it takes {', '.join(backend.precisions())}")
    lut_path = Path(lut_path)
    if threads is None:
        stored = stored_identity(lut_path)
        threads = backend.default_threads() if stored is None else stored.threads
    identity = backend.identity(precision=precision, batch=1, threads=threads)
    sampling = sampling or _sampling(backend, time_limit_s)
    job = _Job(space, backend, lut_path, identity, sampling, time_limit_s, progress, device)
    children = list(dict.fromkeys(child for number in range(rounds) for child in arrangement(space, number, seed=seed)))
    job.measure_children(children)
    cells = job.measure_alone()
    energies = 0 if meter is None else job.measure_energy(arrangement(space, 0, seed=seed), meter)
    return job.result(children, cells, energies)


def _sampling(backend: Backend, time_limit_s: float | None) -> Sampling:
    """Children are many and short: all that fit are timed in turn, in short rounds, so that they share every quiet one."""
    if getattr(backend, "simulated", backend.name == "fake"):
        return sampling_for(backend)
    seconds = 100.0 if time_limit_s is None else min(100.0, _PORTION_SHARE * time_limit_s)
    return sampling_for(backend, batch=30, most_rounds=80, round_ms=40.0, warmup_ms=15.0, seconds=seconds)


class _Job:
    def __init__(
        self,
        space: Space,
        backend: Backend,
        lut_path: Path,
        identity: Identity,
        sampling: Sampling,
        time_limit_s: float | None,
        progress: Progress,
        device: ReadDevice | None,
    ) -> None:
        self._space, self._backend, self._path, self._identity = space, backend, lut_path, identity
        self._sampling, self._progress = sampling, progress
        self._simulated = bool(getattr(backend, "simulated", backend.name == "fake"))
        self._device = device or (nowhere if self._simulated else device_here)
        self._begun, self._limit_s = time.monotonic(), time_limit_s
        self._stopped: str | None = None
        self._added = self._present = 0
        self._layers = space_layers(space, backend.partition, batch=identity.batch)

    def _left_s(self) -> float | None:
        return None if self._limit_s is None else self._limit_s - (time.monotonic() - self._begun)

    def _profiler(self, writer: LutWriter, source: PowerSource | None = None) -> ChildProfiler:
        def open_session() -> Session:
            return new_session(
                self._identity,
                {name: value for name, value in asdict(self._sampling).items() if isinstance(value, int | float)},
                watch=not self._simulated,
                progress=self._progress,
                source=source,
                device=self._device(),
            )

        watch = Watch(writer, open_session, self._progress, read=self._device)
        options = CompileOptions(precision=self._identity.precision, threads=self._identity.threads)
        return ChildProfiler(self._space, self._backend, writer, watch, options, self._sampling, self._progress)

    def measure_children(self, choices: Sequence[Choice]) -> None:
        """Time those of ``choices`` that the LUT lacks, portion by portion."""
        with LutWriter(self._path, self._identity, progress=self._progress) as writer:
            profiler = self._profiler(writer)
            portions = profiler.portions(choices)
            lacking_children = sum(map(len, portions))
            self._present, longest = len(choices) - lacking_children, 0.0
            self._progress.notice(
                f"{lacking_children} children of space {self._space.name} to measure, {self._present} of {len(choices)} are "
                f"there already"
            )
            with self._progress.task("children", total=lacking_children) as task:
                for number, portion in enumerate(portions):
                    left = self._left_s()
                    if number and left is not None and longest > left:
                        self._stopped = "time limit"
                        break
                    begun = time.monotonic()
                    profiler.measure(portion)
                    longest = max(longest, time.monotonic() - begun)
                    task.advance(len(portion))
                    task.describe(f"children, about {longest * (len(portions) - number - 1):.0f} s left")
            self._added = profiler.added

    def measure_alone(self) -> int:
        """Time alone what no network told, layer by layer; how many layers."""
        measured = 0
        for choice in arrangement(self._space, 0):
            lut = read_lut(self._path)
            if not lacking(lut, self._layers):
                break
            left = self._left_s()
            if left is not None and left <= 0:
                self._stopped = "time limit"
                break
            plan = child_plan(self._space, names_of(self._space, choice), batch=self._identity.batch)
            found = profile(
                plan,
                self._backend,
                self._path,
                precision=self._identity.precision,
                threads=self._identity.threads,
                time_limit_s=left,
                progress=self._progress,
                device=self._device,
            )
            measured += found.measured
            self._stopped = found.stopped or self._stopped
        return measured

    def measure_energy(self, choices: Sequence[Choice], meter: PowerMeter) -> int:
        """Measure the energy of those of ``choices`` that the LUT has none of; of how many."""
        left = self._left_s()
        if self._stopped or (left is not None and left <= 0):
            self._stopped = self._stopped or "time limit"
            return 0
        with LutWriter(self._path, self._identity, progress=self._progress) as writer, meter:
            until = None if left is None else time.monotonic() + left
            profiler = self._profiler(writer, meter.source)
            done, rest = profiler.measure_energy(choices, meter, until=until)
        if rest:
            self._stopped = "time limit"
        return done

    def result(self, choices: Sequence[Choice], cells: int, energies: int) -> SpaceProfile:
        """What came of it."""
        lut = read_lut(self._path)
        held, known = held_out(self._space, lut, self._layers), children_of(self._space, lut)
        energy = held_out(self._space, lut, self._layers, "energy")
        still = lacking(lut, self._layers)
        if self._stopped:
            self._progress.notice(f"stopped at the {self._stopped}: run the same command again to go on")
        return SpaceProfile(
            lut=self._path,
            space=self._space.name,
            measured=self._added,
            present=self._present,
            missing=len(choices) - self._present - self._added,
            cells=cells,
            lacking=len(still),
            energies=energies,
            with_energy=sum(child.energy_mj is not None for child in known),
            held_out_error=held.error if held else None,
            worst_error=held.worst if held else None,
            held_out_children=held.children if held else 0,
            energy_held_out_error=energy.error if energy else None,
            energy_worst_error=energy.worst if energy else None,
            energy_held_out_children=energy.children if energy else 0,
            seconds=time.monotonic() - self._begun,
            stopped=self._stopped,
        )
