"""Whole networks of a plan, measured end to end and interleaved: what estimates are anchored to and judged by."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.measure.stopwatch import RoundTimings, time_interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.plan.schema import Plan, Widths
    from netadapt_trt.spec import LatencyStats, Precision

__all__ = ["measure_networks", "open_networks", "time_networks"]


@contextmanager
def open_networks(
    backend: Backend, plan: Plan, widths_list: Sequence[Widths], *, precision: Precision = "fp32", threads: int
) -> Iterator[list[Executable]]:
    """The network written at each of the widths (groups left out keep their size) and made ready to run.

    Weights are random: no kernel here is faster for trained ones. All executables are held until the context is left.

    Raises BackendError when the runtime refuses a network.
    """
    from netadapt_trt.plan.write import write_network

    opset, ir_version = backend.opset()
    options = CompileOptions(precision=precision, threads=threads)
    recipe = "none" if precision != "int8" else backend.identity(precision=precision, batch=1, threads=threads).recipe
    with ExitStack() as stack:
        exes = []
        for widths in widths_list:
            full = {**plan.full_widths(), **widths}
            model = write_network(plan, full, opset=opset, ir_version=ir_version, precision=precision, recipe=recipe)
            exes.append(stack.enter_context(backend.compile(model, options)))
        yield exes


def time_networks(
    backend: Backend,
    plan: Plan,
    widths_list: Sequence[Widths],
    *,
    precision: Precision = "fp32",
    threads: int,
    rounds: int = 7,
    round_ms: float = 100.0,
    look: Callable[[int, Executable], None] | None = None,
) -> list[RoundTimings]:
    """Time the network at all of the widths turn by turn; see :func:`open_networks`.

    ``look`` gets the number and the executable of each after all have been timed.

    Raises BackendError when the runtime refuses a network.
    """
    with open_networks(backend, plan, widths_list, precision=precision, threads=threads) as exes:
        timings = time_interleaved(exes, rounds=rounds, round_ms=round_ms)
        if look is not None:
            for number, exe in enumerate(exes):
                look(number, exe)
        return timings


def measure_networks(
    backend: Backend,
    plan: Plan,
    widths_list: Sequence[Widths],
    *,
    precision: Precision = "fp32",
    threads: int,
    rounds: int = 7,
) -> list[LatencyStats]:
    """The statistics of :func:`time_networks`, in the order of ``widths_list``."""
    timed = time_networks(backend, plan, widths_list, precision=precision, threads=threads, rounds=rounds)
    return [timings.stats for timings in timed]
