"""Whole networks of a profile: what budgets refer to and estimates are anchored to, end to end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import geometric_mean
from typing import TYPE_CHECKING

from netadapt_trt.backend import ProfiledExecutable
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.reading import PACE, networks_of
from netadapt_trt.lut.schema import NetworkLine, trusted
from netadapt_trt.measure.stats import unsettled
from netadapt_trt.profile.attribution import cells_in_network, shares
from netadapt_trt.profile.held_out import choose_anchors
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.backend import Attribution, Backend, CompileOptions, Executable
    from netadapt_trt.lut.schema import Cell
    from netadapt_trt.lut.store import LutWriter
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.profile.lines import Scalar
    from netadapt_trt.profile.sampling import Sampling
    from netadapt_trt.profile.watch import Watch
    from netadapt_trt.progress import Progress, Task

__all__ = ["NetworkProfiler"]

_PROFILED_RUNS = 20
_BESIDE = 3
"""Networks of the table that are timed with a portion."""


@dataclass(slots=True)
class _Looked:
    """What the executables said after they were timed; where their time went, if the runtime can tell."""

    details: dict[int, dict[str, Scalar]] = field(default_factory=dict)
    attributions: dict[int, Attribution] = field(default_factory=dict)


class NetworkProfiler:
    """Appends whole networks to a LUT: timed in turn with the uncut one, and told by layer where the runtime can."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        layers: Sequence[Layer],
        writer: LutWriter,
        watch: Watch,
        options: CompileOptions,
        progress: Progress,
        sampling: Sampling,
    ) -> None:
        from netadapt_trt.plan.store import plan_hash

        self._plan, self._backend, self._layers = plan, backend, layers
        self._writer, self._watch, self._options, self._progress = writer, watch, options, progress
        self._sampling = sampling
        self._name, self._full = plan_hash(plan), plan.full_widths()
        self._refused = False
        self.added = 0
        """Networks appended so far."""

    def measure(self, settings: Sequence[dict[str, int]]) -> None:
        """Append those of ``settings`` that the LUT lacks. One under which the device moved lacks, too."""
        known = [self._writer.lut.network(self._name, widths) for widths in settings]
        lacking = [widths for widths, line in zip(settings, known, strict=True) if line is None or not trusted(line)]
        for part in self._portions(lacking):
            self._time(part)

    def uncut_ms(self) -> float | None:
        """End-to-end latency of the uncut network, None where it has not been measured."""
        uncut = self._writer.lut.network(self._name, self._full)
        return None if uncut is None or uncut.latency_ms is None else uncut.latency_ms.median

    def _portions(self, settings: Sequence[dict[str, int]]) -> list[list[dict[str, int]]]:
        """``settings`` in portions: what is timed in turn is held in memory at once, weights and all."""
        from netadapt_trt.measure.network import portion_bytes
        from netadapt_trt.plan.sizes import network_params

        portions: list[list[dict[str, int]]] = []
        room, uncut = 0.0, 4.0 * network_params(self._plan, {})
        for widths in settings:
            size = 4.0 * network_params(self._plan, widths)
            if not portions or size > room or len(portions[-1]) >= self._sampling.batch:
                portions.append([])
                room = portion_bytes() - uncut
            portions[-1].append(widths)
            room -= size
        return portions

    def _time(self, portion: Sequence[dict[str, int]]) -> None:
        """Time a portion with networks of the table beside it, which tell the machine's pace against the table's."""
        # What is measured anew is nothing to compare with.
        before = [(widths, value) for widths, value in self._beside() if widths not in portion]
        beside = [widths for widths, _ in before]
        settings = [*beside, *(widths for widths in portion if widths not in beside)]
        with self._progress.task(f"{len(portion)} whole networks", total=1) as task:
            taken = self._watch.measure_twice(lambda: self._run(settings, portion, task), spread=lambda _: 1.0, most=1.0)
        timings, looked = taken.found
        then = [value for _, value in before]
        pace = geometric_mean([now.stats.median / value for now, value in zip(timings, then, strict=False)]) if then else 1.0
        for number, (widths, found) in enumerate(zip(settings, timings, strict=True)):
            if widths not in portion:
                continue
            attributed = looked.attributions.get(number)
            about: dict[str, Scalar] = {PACE: float(f"{pace:.5g}")} if then else {}
            line = NetworkLine(
                plan=self._name,
                widths=widths,
                latency_ms=rounded(found.stats),
                host_latency_ms=None if found.host is None else rounded(found.host),
                energy_mj=rounded_energy(found.energy),
                power_mw=rounded_power(found.power_mw),
                details={
                    **looked.details[number],
                    **about,
                    "rounds": len(found.rounds_ms),
                    "odd_even": float(f"{_odd_even(found):.5g}"),
                    **({} if attributed is None else shares(attributed)),
                },
                flags=taken.flags,
                session=taken.session,
            )
            cells = [] if attributed is None else self._cells(attributed, widths, found, taken.session, about)
            self._writer.append(line, *cells)
            self.added += 1

    def _beside(self) -> list[tuple[dict[str, int], float]]:
        """Networks of the table that tell the pace, and their milliseconds in it; none for the first portion."""
        known = networks_of(self._writer.lut, self._plan)
        values = {tuple(widths.values()): value for widths, value in known}
        anchors = choose_anchors(self._plan, known, _BESIDE)
        return [(widths, values[key]) for widths in anchors if (key := tuple(widths.values())) in values]

    def _run(
        self, settings: Sequence[dict[str, int]], portion: Sequence[dict[str, int]], task: Task
    ) -> tuple[list[RoundTimings], _Looked]:
        from netadapt_trt.measure.network import time_networks

        looked, sampling = _Looked(), self._sampling

        def look(number: int, exe: Executable) -> None:
            looked.details[number] = details_of(exe)
            attribution = self._attribute(exe, settings[number]) if settings[number] in portion else None
            if attribution is not None:
                looked.attributions[number] = attribution

        begun = time.monotonic()

        def go_on(medians: Sequence[Sequence[float]]) -> bool:
            task.describe(f"{len(settings)} whole networks in turn, round {len(medians[0])}")
            patient = time.monotonic() - begun <= sampling.seconds
            return patient and unsettled(medians, within=sampling.repeat_within, most=sampling.most_rounds)

        options = self._options
        timings = time_networks(
            self._backend,
            self._plan,
            settings,
            precision=options.precision,
            threads=options.threads,
            rounds=sampling.rounds,
            warmup_ms=sampling.warmup_ms,
            round_ms=sampling.round_ms,
            go_on=go_on,
            look=look,
        )
        task.advance()
        return timings, looked

    def _attribute(self, exe: Executable, widths: dict[str, int]) -> Attribution | None:
        if not isinstance(exe, ProfiledExecutable):
            return None
        try:
            found = exe.attribute(self._plan, self._layers, widths, runs=_PROFILED_RUNS)
        except BackendError as error:
            if not self._refused:
                self._progress.notice(f"the network's time is not told by layer: {error}")
            self._refused = True
            return None
        return found if found.total_ms > 0 else None

    def _cells(
        self, attributed: Attribution, widths: dict[str, int], found: RoundTimings, session: str, about: dict[str, Scalar]
    ) -> list[Cell]:
        if widths == self._full:
            copies = sum(edge.latency_ms for edge in attributed.edges) / attributed.total_ms
            went = f", {copies:.0%} went into copies between formats" if copies else ""
            self._progress.notice(
                f"of the uncut network's time {attributed.mapped_share - copies:.0%} is told by layer{went}"
            )
        return cells_in_network(
            attributed,
            self._plan,
            widths,
            latency_ms=found.stats.median,
            runs=_PROFILED_RUNS,
            session=session,
            details=about,
        )


def _odd_even(found: RoundTimings) -> float:
    return found.odd_even_ratio if len(found.rounds_ms) > 1 and min(found.medians_ms) > 0 else 1.0
