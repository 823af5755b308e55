"""Times of the nodes of one session, by ONNX Runtime's own profile.

A session of its own, so that the profile touches no timed run. It has the same model, threads and optimisations, and writes
two files: the optimised graph that its nodes are of, and the events of every run. They live in a temporary directory.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from netadapt_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from .executable import OrtExecutable

__all__ = ["NodeTimes", "Written", "profile_nodes", "steady_mean"]

_LEAST_S = 0.25  # more runs than asked for cost little where they are short
_MOST_RUNS = 2000  # the profile's file grows by some 300 bytes a node and run
_KERNEL = "_kernel_time"


@dataclass(frozen=True, slots=True)
class Written:
    """Where a profiled session writes: ``graph`` the optimised model, ``events`` the beginning of the profile's name."""

    graph: Path
    events: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """Milliseconds a run by name of the optimised ``graph``'s nodes, and of a whole run by the wall clock; of how many."""

    graph: onnx.GraphProto
    times_ms: dict[str, float]
    run_ms: float
    runs: int


def profile_nodes(open_profiled: Callable[[Written], OrtExecutable], *, runs: int) -> NodeTimes:
    """Run what ``open_profiled`` makes ``runs`` times, and for a quarter of a second at least.

    Raises:
        BackendError: no temporary directory can be written, or ONNX Runtime writes no profile.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="netadapt-profile-") as folder:
            written = Written(Path(folder) / "graph.onnx", Path(folder) / "events")
            with open_profiled(written) as exe:
                runs_ms = _run(exe, runs)
                events = Path(exe.end_profile())
            return NodeTimes(
                graph=_read_graph(written.graph),
                times_ms={name: steady_mean(samples) / 1e3 for name, samples in _read_events(events).items()},
                run_ms=steady_mean(runs_ms),
                runs=len(runs_ms),
            )
    except OSError as error:
        raise BackendError(
            f"the profile of the network cannot be written ({error}); set TMPDIR to a directory with room for the network"
        ) from error


def steady_mean(samples: Sequence[float]) -> float:
    """Mean of the 10th to the 70th percentile of what follows the first fifth (warm-up).

    Interruptions only ever lengthen, so the long end is cut further; a mean, because a node's times are whole microseconds.
    """
    kept = sorted(samples[len(samples) // 5 :])
    low = len(kept) // 10
    return fmean(kept[low : max(low + 1, len(kept) * 7 // 10)])


def _run(exe: OrtExecutable, runs: int) -> list[float]:
    """Wall time of each run in milliseconds."""
    taken: list[float] = []
    start = before = time.perf_counter()
    while len(taken) < max(1, runs) or (before - start < _LEAST_S and len(taken) < _MOST_RUNS):
        exe.run()
        after = time.perf_counter()
        taken.append((after - before) * 1e3)
        before = after
    return taken


def _read_graph(path: Path) -> onnx.GraphProto:
    import onnx

    try:
        return onnx.load(path, load_external_data=False).graph
    except ValueError as error:  # protobuf's DecodeError is one
        raise BackendError(f"the graph that ONNX Runtime optimised cannot be read: {error}") from error


def _read_events(path: Path) -> dict[str, list[float]]:
    """Microseconds of each run by node, in the order they ran."""
    times: dict[str, list[float]] = {}
    try:
        for event in json.loads(path.read_text(encoding="utf-8")):
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
                times.setdefault(event["name"].removesuffix(_KERNEL), []).append(float(event["dur"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"ONNX Runtime's profile is not understood ({error!r})") from error
    if not times:
        raise BackendError("ONNX Runtime's profile names no node; this build of it may have been made without profiling")
    return times
