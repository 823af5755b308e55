"""Look into whole networks until the table estimates those left out of it well enough, or more would cost too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netadapt_trt.profile.grid import full_grid
from netadapt_trt.profile.sampling import next_widths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.lut.estimator import NetworkEstimator
    from netadapt_trt.lut.store import LutWriter
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.profile.networks import NetworkProfiler
    from netadapt_trt.profile.sampling import Sampling
    from netadapt_trt.progress import Progress

__all__ = ["LookingInto"]


class LookingInto:
    """Chooses networks by what the LUT of ``writer`` says so far, and has ``networks`` measure them, a batch at a time."""

    def __init__(
        self,
        plan: Plan,
        layers: Sequence[Layer],
        writer: LutWriter,
        networks: NetworkProfiler,
        sampling: Sampling,
        granularity: int,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._plan, self._layers, self._writer, self._networks = plan, layers, writer, networks
        self._sampling, self._granularity, self._clock, self._progress = sampling, granularity, clock, progress

    def tells_by_layer(self) -> bool:
        """Whether the networks measured so far were told by layer."""
        return bool(self._estimator().in_context)

    def go_on(self, until: float | None, *, between: Callable[[], None]) -> tuple[float | None, str | None]:
        """Until the held-out error is small enough. That error, and what ended it early.

        ``until``: no batch that would end after it, by the clock, is begun. ``between`` is called before each.
        """
        from netadapt_trt.lut.held_out import held_out
        from netadapt_trt.lut.reading import networks_of

        sampling, taken = self._sampling, 0.0
        grid = full_grid(self._plan, self._layers, granularity=self._granularity)
        with self._progress.task("networks looked into", total=sampling.most) as task:
            told = 0
            while True:
                estimator = self._estimator()
                found, held = held_out(estimator), [widths for widths, _ in networks_of(self._writer.lut, self._plan)]
                known = len(held)
                error = found.error if found else None
                if found is not None:
                    task.describe(f"networks looked into, held-out error {found.error:.1%} (worst {found.worst:.1%})")
                task.advance(min(known, sampling.most) - told)
                told = min(known, sampling.most)
                if error is not None and error <= sampling.target_error and known >= sampling.least:
                    return error, None
                room = sampling.room(known, self._cells(), grid)
                if not room:
                    self._tell_why_enough(error, known)
                    return error, None
                begun = self._clock()
                if until is not None and begun + taken > until:
                    return error, "time limit"
                chosen = next_widths(
                    self._plan,
                    None if estimator.missing() else estimator,
                    min(sampling.batch, room),
                    granularity=self._granularity,
                    seed=known,
                    known=held,
                )
                if not chosen:
                    return error, None  # a network so small that every setting is there already
                between()
                self._networks.measure(chosen)
                taken = self._clock() - begun

    def _estimator(self) -> NetworkEstimator:
        from netadapt_trt.lut.estimator import NetworkEstimator

        return NetworkEstimator(self._writer.lut, self._plan, self._layers)

    def _cells(self) -> int:
        """Cells of this network's layers that the LUT holds."""
        keys = {layer.key for layer in self._layers}
        return len({(cell.layer, cell.widths) for cell in self._writer.lut.cells if cell.layer in keys})

    def _tell_why_enough(self, error: float | None, known: int) -> None:
        """Say that it ended above the error that was asked for, why, and what would go on."""
        sampling = self._sampling
        if error is None or error <= sampling.target_error:
            return
        why = "as many as wanted" if known >= sampling.most else f"{sampling.grid_share:.1%} of a full grid's cells"
        self._progress.notice(
            f"the held-out error is {error:.1%} after {known} networks, {why}; {sampling.target_error:.1%} was asked for. "
            f"The noise of single networks is in it: see lut validate for the table's own. More networks: --networks "
            f"{2 * max(known, sampling.most)}"
        )
