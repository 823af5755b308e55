"""Whole networks of a plan, measured end to end and interleaved: what estimates are anchored to and judged by."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from netadapt_trt.backend import CompileOptions
from netadapt_trt.measure.stopwatch import RoundTimings, time_interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.plan.schema import Plan, Widths
    from netadapt_trt.spec import LatencyStats, Precision

__all__ = ["measure_networks", "open_networks", "portion_bytes", "time_networks"]

_LEAST_BYTES, _MEMORY_SHARE = 2.0**29, 8


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


def portion_bytes() -> float:
    """Weights of networks that may be timed in turn, so held in memory at once; a runtime keeps them two or three times."""
    try:
        free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return _LEAST_BYTES
    return max(_LEAST_BYTES, free / _MEMORY_SHARE)


def time_networks(
    backend: Backend,
    plan: Plan,
    widths_list: Sequence[Widths],
    *,
    precision: Precision = "fp32",
    threads: int,
    rounds: int = 7,
    warmup_ms: float = 40.0,
    round_ms: float = 100.0,
    go_on: Callable[[Sequence[Sequence[float]]], bool] | None = None,
    look: Callable[[int, Executable], None] | None = None,
) -> list[RoundTimings]:
    """Time the network at all of the widths turn by turn; see :func:`open_networks`.

    ``go_on`` as in :func:`~netadapt_trt.measure.stopwatch.time_interleaved`. ``look`` gets the number and the executable of
    each after all have been timed.

    Raises BackendError when the runtime refuses a network.
    """
    with open_networks(backend, plan, widths_list, precision=precision, threads=threads) as exes:
        timings = time_interleaved(exes, rounds=rounds, warmup_ms=warmup_ms, round_ms=round_ms, go_on=go_on)
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
