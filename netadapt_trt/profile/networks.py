"""Whole networks of a profile: what budgets refer to and estimates are anchored to, end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netadapt_trt.backend import ProfiledExecutable
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.lut.schema import NetworkLine, trusted
from netadapt_trt.profile.attribution import cells_in_network, shares
from netadapt_trt.profile.lines import details_of, rounded, rounded_energy, rounded_power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.backend import Attribution, Backend, CompileOptions, Executable
    from netadapt_trt.lut.store import LutWriter
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.profile.lines import Scalar
    from netadapt_trt.profile.watch import Watch
    from netadapt_trt.progress import Progress

__all__ = ["NetworkProfiler"]

_PORTION_BYTES = 2.0**29
_PROFILED_RUNS = 20


@dataclass(slots=True)
class _Looked:
    """What the executables said after they were timed; attribution of the uncut network where its runtime can tell."""

    details: dict[int, dict[str, Scalar]] = field(default_factory=dict)
    attribution: Attribution | None = None


class NetworkProfiler:
    """Appends the whole networks that a LUT lacks: the uncut one and a few narrower ones."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        layers: Sequence[Layer],
        writer: LutWriter,
        watch: Watch,
        options: CompileOptions,
        progress: Progress,
    ) -> None:
        self._plan, self._backend, self._layers = plan, backend, layers
        self._writer, self._watch, self._options, self._progress = writer, watch, options, progress

    def measure(self, granularity: int) -> float | None:
        """End-to-end latency of the uncut network. It and the narrower ones are measured where they lack.

        One under which the device moved lacks, too.
        """
        from netadapt_trt.plan.store import plan_hash

        name, lut = plan_hash(self._plan), self._writer.lut
        settings = anchor_widths(self._plan, granularity=granularity)
        known = [lut.network(name, widths) for widths in settings]
        lacking = [widths for widths, line in zip(settings, known, strict=True) if line is None or not trusted(line)]
        if lacking:
            with self._progress.task("whole networks", total=len(lacking)) as task:
                for part in self._portions(lacking):
                    self._time(name, part)
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

    def _time(self, name: str, settings: Sequence[dict[str, int]]) -> None:
        taken = self._watch.measure_twice(lambda: self._run(settings), spread=lambda _: 1.0, most=1.0)
        timings, looked = taken.found
        for number, (widths, found) in enumerate(zip(settings, timings, strict=True)):
            details = looked.details[number]
            attributed = looked.attribution if widths == self._plan.full_widths() else None
            line = NetworkLine(
                plan=name,
                widths=widths,
                latency_ms=rounded(found.stats),
                host_latency_ms=None if found.host is None else rounded(found.host),
                energy_mj=rounded_energy(found.energy),
                power_mw=rounded_power(found.power_mw),
                details=details if attributed is None else {**details, **shares(attributed)},
                flags=taken.flags,
                session=taken.session,
            )
            self._writer.append(line)
            if attributed is not None:
                self._keep(attributed, widths, found, taken.session)

    def _run(self, settings: Sequence[dict[str, int]]) -> tuple[list[RoundTimings], _Looked]:
        from netadapt_trt.measure.network import time_networks

        looked = _Looked()

        def look(number: int, exe: Executable) -> None:
            looked.details[number] = details_of(exe)
            if settings[number] == self._plan.full_widths():
                looked.attribution = self._attribute(exe)

        options = self._options
        timings = time_networks(
            self._backend, self._plan, settings, precision=options.precision, threads=options.threads, look=look
        )
        return timings, looked

    def _attribute(self, exe: Executable) -> Attribution | None:
        if not isinstance(exe, ProfiledExecutable):
            return None
        try:
            found = exe.attribute(self._plan, self._layers, self._plan.full_widths(), runs=_PROFILED_RUNS)
        except BackendError as error:
            self._progress.notice(f"the network's time is not told by layer: {error}")
            return None
        return found if found.total_ms > 0 else None

    def _keep(self, attributed: Attribution, widths: dict[str, int], found: RoundTimings, session: str) -> None:
        copies = sum(edge.latency_ms for edge in attributed.edges) / attributed.total_ms
        self._progress.notice(
            f"of the uncut network's time {attributed.mapped_share - copies:.0%} is told by layer, {copies:.0%} went into "
            "copies between formats"
        )
        self._writer.append(
            *cells_in_network(
                attributed,
                self._plan,
                widths,
                latency_ms=found.stats.median,
                runs=_PROFILED_RUNS,
                session=session,
            )
        )
