"""Whole children of a search space, timed in turn, and where their time went."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from netadapt_trt.backend import ProfiledExecutable
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.reading import PACE
from netadapt_trt.lut.schema import NetworkLine, trusted
from netadapt_trt.measure.stats import unsettled
from netadapt_trt.profile.attribution import cells_in_network, shares
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power
from netadapt_trt.space.measured import BLOCKS, CHILD, SPACE
from netadapt_trt.space.plan import child_plan, names_of
from netadapt_trt.space.store import space_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netadapt_trt.backend import Attribution, Backend, CompileOptions, Executable
    from netadapt_trt.lut.store import LutWriter
    from netadapt_trt.measure.energy import EnergyReading
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.power.meter import PowerMeter
    from netadapt_trt.profile.lines import Scalar
    from netadapt_trt.profile.sampling import Sampling
    from netadapt_trt.profile.watch import Watch
    from netadapt_trt.progress import Progress, Task
    from netadapt_trt.space.schema import Space

__all__ = ["ChildProfiler"]

_PROFILED_RUNS = 20
_BESIDE = 5
"""Children of the table that are timed with a portion, and tell the machine's pace: their median, since on a shared machine
one of them may be off by itself."""
_ENERGY_TOGETHER = 3
_ENERGY_ROUNDS = 2


@dataclass(frozen=True)
class _Known:
    """A child: its plan, the plan's hash, its blocks, bytes of its weights."""

    plan: Plan
    name: str
    blocks: tuple[str, ...]
    bytes: float


class ChildProfiler:
    """Appends children to a LUT: timed in turn with some that are there, and told by layer where the runtime can."""

    def __init__(
        self,
        space: Space,
        backend: Backend,
        writer: LutWriter,
        watch: Watch,
        options: CompileOptions,
        sampling: Sampling,
        progress: Progress,
    ) -> None:
        self._space, self._hash = space, space_hash(space)
        self._backend, self._writer, self._watch = backend, writer, watch
        self._options, self._sampling, self._progress = options, sampling, progress
        self._refused = False
        self.added = 0
        """Children appended so far."""

    def portions(self, choices: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
        """Those of ``choices`` that the LUT lacks, in portions: what is timed in turn is held in memory at once."""
        from netadapt_trt.measure.network import portion_bytes

        found: list[list[tuple[int, ...]]] = []
        room, taken = 0.0, set[str]()
        for choice in choices:
            child = self._child(choice)
            if child.name in taken or not self._lacks(child):
                continue
            taken.add(child.name)
            if not found or child.bytes > room or len(found[-1]) >= self._sampling.batch:
                found.append([])
                room = portion_bytes()
            found[-1].append(choice)
            room -= child.bytes
        return found

    def _lacks(self, child: _Known, *, energy: bool = False) -> bool:
        line = self._writer.lut.network(child.name, {}, energy=energy)
        return line is None or not trusted(line)

    def _child(self, choice: tuple[int, ...]) -> _Known:
        from netadapt_trt.plan.sizes import network_params
        from netadapt_trt.plan.store import plan_hash

        blocks = names_of(self._space, choice)
        plan = child_plan(self._space, blocks, batch=self._writer.identity.batch)
        return _Known(plan, plan_hash(plan), blocks, 4.0 * network_params(plan, {}))

    def measure(self, portion: Sequence[tuple[int, ...]]) -> None:
        """Time a portion in turn with children of the table beside it, and append it."""
        new = [self._child(choice) for choice in portion]
        beside = [(self._child(choice), value) for choice, value in self._beside({child.name for child in new})]
        children = [*(child for child, _ in beside), *new]
        with self._progress.task(f"{len(new)} whole networks", total=1) as task:
            taken = self._watch.measure_twice(lambda: self._run(children, len(beside), task), spread=lambda _: 1.0, most=1.0)
        timings, looked = taken.found
        ratios = [now.stats.median / then for now, (_, then) in zip(timings, beside, strict=False)]
        pace: dict[str, Scalar] = {PACE: float(f"{median(ratios):.5g}")} if ratios and min(ratios) > 0 else {}
        for child, found, (details, attribution) in zip(new, timings[len(beside) :], looked, strict=True):
            told = {} if attribution is None else shares(attribution)
            line = NetworkLine(
                plan=child.name,
                widths={},
                latency_ms=rounded(found.stats),
                host_latency_ms=None if found.host is None else rounded(found.host),
                energy_mj=rounded_energy(found.energy),
                power_mw=rounded_power(found.power_mw),
                details={**details, **pace, "rounds": len(found.rounds_ms), **told, **self._marks(child)},
                flags=taken.flags,
                session=taken.session,
            )
            cells = (
                []
                if attribution is None
                else cells_in_network(
                    attribution,
                    child.plan,
                    {},
                    latency_ms=found.stats.median,
                    runs=_PROFILED_RUNS,
                    session=taken.session,
                    details={**pace, CHILD: child.name},
                )
            )
            # In one piece: a child is there with its cells, or not at all.
            self._writer.append(line, *cells)
            self.added += 1

    def _marks(self, child: _Known) -> dict[str, Scalar]:
        return {SPACE: self._hash, BLOCKS: "+".join(child.blocks)}

    def _beside(self, new: set[str]) -> list[tuple[tuple[int, ...], float]]:
        """Children of the table spread over its latencies, and their milliseconds in it, pace taken out."""
        from netadapt_trt.space.measured import children_of

        known = [
            (child.latency_ms, child.choice)
            for child in children_of(self._space, self._writer.lut)
            if child.latency_ms is not None and child.plan not in new
        ]
        known.sort()
        wanted = min(_BESIDE, len(known))
        chosen = [known[(2 * index + 1) * len(known) // (2 * wanted)] for index in range(wanted)]
        return [(choice, value) for value, choice in chosen]

    def _run(
        self, children: Sequence[_Known], beside: int, task: Task
    ) -> tuple[list[RoundTimings], list[tuple[dict[str, Scalar], Attribution | None]]]:
        from netadapt_trt.measure.stopwatch import time_interleaved

        sampling, begun = self._sampling, time.monotonic()

        def go_on(medians: Sequence[Sequence[float]]) -> bool:
            task.describe(f"{len(children)} whole networks in turn, round {len(medians[0])}")
            patient = time.monotonic() - begun <= sampling.seconds
            return patient and unsettled(medians, within=sampling.repeat_within, most=sampling.most_rounds)

        with self._opened(children) as exes:
            timings = time_interleaved(
                exes, rounds=sampling.rounds, warmup_ms=sampling.warmup_ms, round_ms=sampling.round_ms, go_on=go_on
            )
            looked = [
                (details_of(exe), self._attribute(exe, child))
                for exe, child in list(zip(exes, children, strict=True))[beside:]
            ]
        task.advance()
        return timings, looked

    @contextmanager
    def _opened(self, children: Sequence[_Known]) -> Iterator[list[Executable]]:
        """Each child written and made ready to run, all held until the context is left."""
        from netadapt_trt.plan.write import write_network

        opset, ir_version = self._backend.opset()
        identity = self._writer.identity
        with ExitStack() as stack:
            exes = []
            for child in children:
                model = write_network(
                    child.plan,
                    {},
                    opset=opset,
                    ir_version=ir_version,
                    precision=identity.precision,
                    recipe=identity.recipe,
                )
                exes.append(stack.enter_context(self._backend.compile(model, self._options)))
            yield exes

    def _attribute(self, exe: Executable, child: _Known) -> Attribution | None:
        if not isinstance(exe, ProfiledExecutable):
            return None
        try:
            found = exe.attribute(child.plan, self._backend.partition(child.plan), {}, runs=_PROFILED_RUNS)
        except BackendError as error:
            if not self._refused:
                self._progress.notice(f"the network's time is not told by layer: {error}")
            self._refused = True
            return None
        return found if found.total_ms > 0 else None

    def measure_energy(
        self, choices: Sequence[tuple[int, ...]], meter: PowerMeter, *, until: float | None
    ) -> tuple[int, int]:
        """Append the energy of those of ``choices`` that the LUT has none of. How many were measured, how many are left.

        ``meter`` is open; no portion is begun that would end after ``until`` (by ``time.monotonic``).
        """
        from netadapt_trt.measure.energy import measure_energy

        lacking = [child for child in map(self._child, choices) if self._lacks(child, energy=True)]
        done = 0
        with self._progress.task("energy of whole networks", total=len(lacking)) as task:
            while done < len(lacking):
                part = lacking[done : done + _ENERGY_TOGETHER]
                about = meter.seconds_for(_ENERGY_ROUNDS * len(part))
                if until is not None and time.monotonic() + about > until:
                    break

                def measure(part: Sequence[_Known] = part) -> list[EnergyReading]:
                    with self._opened(part) as exes:
                        return measure_energy(meter, exes, rounds=_ENERGY_ROUNDS)

                taken = self._watch.measure_twice(measure, spread=lambda _: 1.0, most=1.0)
                self._writer.append(
                    *(
                        NetworkLine(
                            plan=child.name,
                            widths={},
                            energy_mj=rounded_energy(reading.energy),
                            power_mw=rounded_power(reading.power_mw),
                            details=self._marks(child),
                            flags=(*taken.flags, *reading.flags),
                            session=taken.session,
                        )
                        for child, reading in zip(part, taken.found, strict=True)
                        if reading.energy is not None
                    )
                )
                done += len(part)
                task.advance(len(part))
        return done, len(lacking) - done
