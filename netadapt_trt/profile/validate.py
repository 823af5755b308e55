"""Test a table: networks it was not fitted to, estimated from it and measured end to end on the device it is of.

A machine that is slower today than on the day of the profile says nothing about the table, so networks that the table was
measured with (the anchors) are timed among the others in every portion: their times now over then are the drift, taken
out and told. And a machine that scatters says nothing about small errors, so rounds go on until odd and even ones agree.
"""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import geometric_mean, median
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import BackendError, IdentityError, SpecError
from netadapt_trt.lut.estimator import NetworkEstimator, networks_of, profile_command
from netadapt_trt.measure.stats import repeatability
from netadapt_trt.profile.grid import GRANULARITY, PlannedCell, write_cell
from netadapt_trt.profile.held_out import choose_anchors, held_out, portions
from netadapt_trt.profile.validation import Anchor, Portion, ValidatedNetwork, Validation, agreement
from netadapt_trt.profile.verdict import verdict
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.progress import Progress, Task

__all__ = ["LEAST_ROUNDS", "Patience", "validate"]

LEAST_ROUNDS = 5
"""Fewer leave one or two rounds on each side of the comparison of odd and even ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long networks are timed: ``rounds``, then up to ``most`` while odd and even ones differ by more than ``wanted``.

    ``time_limit_s``: past its share of it a portion takes no more rounds than it must, past all of it none is begun.
    """

    rounds: int = 8
    most: int = 80
    wanted: float = 0.02
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """Milliseconds of one turn of a network, and of the warm-up before; the same for a layer timed alone."""

    round_ms: float = 80.0
    warmup_ms: float = 40.0
    layer_ms: float = 10.0


_SIMULATED = _Clock(round_ms=0.0, warmup_ms=0.0, layer_ms=0.0)
_LEAST_RUNS = 5
_LAYER_ROUNDS = 20


def validate(
    plan: Plan,
    backend: Backend,
    lut: Lut,
    *,
    networks: int = 25,
    seed: int = 1,
    patience: Patience | None = None,
    isolated: int = 5,
    granularity: int = GRANULARITY,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress = QUIET,
) -> Validation:
    """Estimate and measure ``networks`` random settings of ``plan`` that ``lut`` does not hold.

    ``isolated``: for so many of them their layers are timed alone, too, at exactly their widths: the sum that NetAdapt
    (Yang et al., ECCV 2018) takes for the network. ``clock`` returns seconds. Nothing is written.

    Raises:
        SpecError: no networks, fewer than LEAST_ROUNDS rounds, or more networks than the plan has settings.
        IdentityError: ``lut`` is of another device, runtime, batch or number of threads. CoverageError: it lacks layers.
        BackendError: the runtime is missing or refuses a network.
    """
    patience = Patience() if patience is None else patience
    _require_sense(patience, isolated, granularity)
    _require_here(plan, backend, lut)
    layers = backend.partition(plan)
    estimator = NetworkEstimator(lut, plan, layers)
    estimator.estimate(plan.full_widths())  # what is missing is told before anything is timed
    known = networks_of(lut, plan)
    anchors = choose_anchors(plan, known)
    held = [*anchors, *(widths for widths, _ in known)]
    settings, redrawn = held_out(plan, networks, seed, held, granularity=granularity)
    if redrawn:
        progress.notice(f"{redrawn} random networks stand in the table or came twice; others were drawn for them")
    then = [next((value for widths, value in known if widths == anchor), None) for anchor in anchors]
    bench = _Bench(plan, backend, lut, layers, estimator, patience, _clock_of(backend), clock, progress)
    with _settled_heap():
        return bench.run(settings, _spread_over(len(settings), isolated), anchors, then).told(seed, granularity, redrawn)


def _require_sense(patience: Patience, isolated: int, granularity: int) -> None:
    if patience.rounds < LEAST_ROUNDS or patience.most < patience.rounds:
        raise SpecError(
            f"{patience.rounds} rounds and at most {patience.most} make no sense; at least {LEAST_ROUNDS} rounds are needed "
            "to tell noise from error, and the limit may not be lower"
        )
    limit_s = patience.time_limit_s
    if patience.wanted <= 0 or isolated < 0 or granularity < 1 or (limit_s is not None and limit_s <= 0):
        raise SpecError("repeatability, granularity and time limit must be positive, the isolated networks not negative")


def _require_here(plan: Plan, backend: Backend, lut: Lut) -> None:
    """Raises IdentityError, naming what differs, unless ``lut`` could have been measured here."""
    theirs = lut.identity
    batch = plan.tensors[plan.inputs[0]].shape[0].const
    here = backend.identity(precision=theirs.precision, batch=batch, threads=theirs.threads)
    differences = theirs.differences(here)
    if differences:
        told = "; ".join(f"{key}: the LUT has {old!r}, here it is {new!r}" for key, old, new in differences)
        raise IdentityError(
            f"{lut.path or 'the LUT'} was measured under other conditions ({told}). A table is tested where it was "
            "measured: run this there, with the plan file; or profile a table of this machine and test that one"
        )


def _clock_of(backend: Backend) -> _Clock:
    """A device made of a formula repeats itself; timing it for long would only keep this processor busy."""
    return _SIMULATED if getattr(backend, "simulated", backend.name == "fake") else _Clock()


def _spread_over(count: int, wanted: int) -> frozenset[int]:
    """``wanted`` numbers below ``count``, evenly apart, so that every portion has some."""
    wanted = min(wanted, count)
    return frozenset(index * count // wanted for index in range(wanted))


@contextmanager
def _settled_heap() -> Iterator[None]:
    """Spare the stopwatch's garbage collection everything that is here already: with PyTorch loaded it takes 0.4 s."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Bench:
    """Times portion after portion, and the layers of some of their networks alone."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        lut: Lut,
        layers: Sequence[Layer],
        estimator: NetworkEstimator,
        patience: Patience,
        effort: _Clock,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._plan, self._backend, self._lut, self._layers = plan, backend, lut, layers
        self._estimator, self._patience, self._effort = estimator, patience, effort
        self._clock, self._progress = clock, progress
        self._start = clock()
        self._alone: dict[tuple[str, tuple[int, ...]], float] = {}
        self._portions: list[Portion] = []
        self._networks: list[ValidatedNetwork] = []
        self._rounds: list[tuple[float, ...]] = []
        self._stopped: str | None = None
        self._disturbed: list[str] = []

    def run(
        self,
        settings: Sequence[dict[str, int]],
        alone: frozenset[int],
        anchors: list[dict[str, int]],
        then: list[float | None],
    ) -> _Bench:
        parts = portions(self._plan, settings, anchors)
        if len(parts) > 1:
            self._progress.notice(f"{len(settings)} networks do not fit into memory at once: timed in {len(parts)} portions")
        before = self._look()
        with self._progress.task("rounds", total=self._patience.rounds * len(parts)) as task:
            for number, part in enumerate(parts):
                if number and self._left(1.0) <= 0:
                    self._stopped = "time limit"
                    self._progress.notice(f"stopped at the time limit after {len(self._networks)} networks")
                    break
                first = len(self._networks)
                self._take(part, anchors, then, task, number, len(parts))
                for index in range(first, len(self._networks)):
                    if index in alone:
                        self._networks[index] = self._with_layers(self._networks[index])
        self._look(before)
        return self

    def _look(self, before: object = None) -> object:
        """What disturbs now, kept in words; on a Jetson also what moved since ``before``."""
        from netadapt_trt.measure.device_checks import differences
        from netadapt_trt.measure.device_state import DeviceState
        from netadapt_trt.measure.machine import other_load, quiet_notice
        from netadapt_trt.profile.watch import device_here

        if self._effort is _SIMULATED:
            return None
        state = device_here()
        found = [quiet_notice(other_load())]
        if isinstance(before, DeviceState) and state is not None:
            found += [change.what for change in differences(before, state)]
        for text in found:
            if text is not None and text not in self._disturbed:
                self._disturbed.append(text)
                self._progress.notice(text)
        return state

    def _left(self, share: float) -> float:
        """Seconds left of this share of the time limit; without one, no end of them."""
        limit_s = self._patience.time_limit_s
        return float("inf") if limit_s is None else limit_s * share - (self._clock() - self._start)

    def _take(
        self,
        part: list[dict[str, int]],
        anchors: list[dict[str, int]],
        then: list[float | None],
        task: Task,
        number: int,
        of: int,
    ) -> None:
        """Time one portion and keep what came of it."""
        from netadapt_trt.measure.network import open_networks

        identity = self._lut.identity
        opened = open_networks(
            self._backend, self._plan, [*anchors, *part], precision=identity.precision, threads=identity.threads
        )
        with opened as exes:
            timed = self._time(exes, task, number, of)
        seen = tuple(
            Anchor(widths=widths, then_ms=before, now_ms=timings.stats.median)
            for widths, before, timings in zip(anchors, then, timed, strict=False)
        )
        ratios = [anchor.now_ms / anchor.then_ms for anchor in seen if anchor.then_ms is not None]
        drift = geometric_mean(ratios) if ratios else None
        held = timed[len(anchors) :]
        medians = [timings.medians_ms for timings in held]
        self._portions.append(
            Portion(
                anchors=seen,
                drift=drift,
                networks=len(part),
                rounds=len(medians[0]),
                repeatability=repeatability(medians),
            )
        )
        self._rounds += medians
        for widths, timings in zip(part, held, strict=True):
            self._networks.append(self._network(widths, timings, 1.0 if drift is None else drift, number))

    def _time(self, exes: Sequence[Executable], task: Task, number: int, of: int) -> list[RoundTimings]:
        """Rounds of all ``exes`` in turn until odd and even ones agree well enough, or the patience is over."""
        from netadapt_trt.measure.stopwatch import time_interleaved

        wait = self._patience

        def go_on(medians: Sequence[Sequence[float]]) -> bool:
            done = len(medians[0])
            if done <= wait.rounds:
                task.advance()
            if done < wait.rounds or done % 2:  # as many odd rounds as even ones
                return True
            noise = repeatability(medians)
            task.describe(f"rounds, odd and even ones differ by {noise:.1%} after {done}")
            return noise > wait.wanted and done < wait.most and self._left((number + 1) / of) > 0

        effort = self._effort
        return time_interleaved(
            exes,
            rounds=wait.rounds,
            warmup_ms=effort.warmup_ms,
            round_ms=effort.round_ms,
            min_runs=_LEAST_RUNS,
            go_on=go_on,
        )

    def _network(self, widths: dict[str, int], timings: RoundTimings, drift: float, portion: int) -> ValidatedNetwork:
        estimate = self._estimator.estimate(widths)
        # Not every estimator knows how sure it is.
        sigma = next((value for name in ("sigma", "stderr") if (value := getattr(estimate, name, None)) is not None), None)
        return ValidatedNetwork(
            widths=widths,
            estimate_ms=estimate.value * drift,
            measured_ms=timings.stats.median,
            table_ms=estimate.value,
            sigma_ms=None if sigma is None else float(sigma) * drift,
            isolated_sum_ms=None,
            repeatability=repeatability([timings.medians_ms]),
            extrapolated=tuple(estimate.extrapolated),
            portion=portion,
        )

    def _with_layers(self, network: ValidatedNetwork) -> ValidatedNetwork:
        """``network`` with its layers timed alone; as it is, and said so, where the runtime refuses one."""
        wanted = [(layer, layer.widths(network.widths)) for layer in self._layers]
        try:
            self._time_layers({(layer.key, widths): layer for layer, widths in wanted})
        except BackendError as error:
            self._progress.notice(f"a layer cannot be timed alone, so a network goes without the sum of them: {error}")
            return network
        return replace(network, isolated_sum_ms=sum(self._alone[layer.key, widths] for layer, widths in wanted))

    def _time_layers(self, wanted: Mapping[tuple[str, tuple[int, ...]], Layer]) -> None:
        """Time layers alone, in turn as networks are and behind them, the quiet quarter of the rounds; equal ones once."""
        from netadapt_trt.measure.stopwatch import time_interleaved

        identity, effort = self._lut.identity, self._effort
        options = CompileOptions(precision=identity.precision, threads=identity.threads)
        lacking = {key: layer for key, layer in wanted.items() if key not in self._alone}
        with ExitStack() as stack:
            exes = []
            for (_, widths), layer in lacking.items():
                model = write_cell(self._plan, PlannedCell(layer, widths, 0), self._backend, identity)
                exes.append(stack.enter_context(self._backend.compile(model, options)))
            timed = time_interleaved(
                exes,
                rounds=_LAYER_ROUNDS,
                warmup_ms=effort.warmup_ms,
                round_ms=effort.layer_ms,
                min_runs=_LEAST_RUNS,
            )
        for key, timings in zip(lacking, timed, strict=True):
            self._alone[key] = timings.stats.median

    def told(self, seed: int, granularity: int, redrawn: int) -> Validation:
        """Everything in one."""
        from netadapt_trt.measure.machine import utc_now
        from netadapt_trt.plan.store import plan_hash

        noise = repeatability(self._rounds)
        figures = agreement(self._networks, noise)
        drifts = [portion.drift for portion in self._portions if portion.drift is not None]
        wanted = self._patience.wanted
        return Validation(
            lut=str(self._lut.path or ""),
            model=self._plan.model,
            plan=plan_hash(self._plan),
            date=utc_now(),
            identity=self._lut.identity.to_json(),
            seed=seed,
            granularity=granularity,
            channels=sum(self._plan.full_widths().values()),
            agreement=figures,
            repeatability_mape=noise,
            repeatability_wanted=wanted,
            drift=median(drifts) if drifts else None,
            rounds=min(portion.rounds for portion in self._portions),
            redrawn=redrawn,
            stopped=self._stopped,
            disturbed=tuple(self._disturbed),
            verdict=verdict(
                figures,
                self._networks,
                self._portions,
                repeatability=noise,
                wanted=wanted,
                profile_command=profile_command(self._lut, self._plan),
            ),
            portions=tuple(self._portions),
            networks=tuple(self._networks),
        )
