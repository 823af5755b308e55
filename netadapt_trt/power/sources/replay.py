"""A recorded trace, written once and played again as if it were measured now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import FileFormatError, PowerError
from netadapt_trt.files import read_document, write_document
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from netadapt_trt.power.source import PowerSource, Scope

__all__ = ["Recording", "ReplaySource", "load_trace", "save_trace"]

_FORMAT, _VERSION = "netadapt-power-trace", 1
_GAP_INTERVALS = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A trace with what its source was: enough to work out energies again. Units as in :class:`PowerSource`."""

    trace: Trace
    source: str
    step_mw: float | None
    time_constant_s: float
    counts_energy: bool
    interval_s: float
    details: dict[str, Any]


def save_trace(path: Path, trace: Trace, source: PowerSource) -> None:
    """Write ``trace`` with what ``source`` says of itself, atomically. Raises OSError."""
    write_document(
        path,
        format=_FORMAT,
        version=_VERSION,
        content={
            "source": source.name,
            "step_mw": source.step_mw,
            "time_constant_s": source.time_constant_s,
            "counts_energy": source.counts_energy,
            "interval_s": source.interval_s,
            "details": source.details(),
            "rails": list(trace.rails),
            "times_s": trace.times_s.tolist(),
            "power_mw": trace.power_mw.tolist(),
        },
    )


def load_trace(path: Path) -> Recording:
    """Read what :func:`save_trace` wrote. Raises FileFormatError."""
    document = read_document(path, format=_FORMAT, version=_VERSION)
    try:
        rails = tuple(str(rail) for rail in document["rails"])
        times = np.array(document["times_s"], dtype=np.float64)
        power = np.array(document["power_mw"], dtype=np.float64).reshape(len(times), len(rails))
        step = document["step_mw"]
        return Recording(
            trace=Trace(times, rails, power),
            source=str(document["source"]),
            step_mw=None if step is None else float(step),
            time_constant_s=float(document["time_constant_s"]),
            counts_energy=bool(document["counts_energy"]),
            interval_s=float(document["interval_s"]),
            details=dict(document["details"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"{path} is a damaged {_FORMAT} file: {what}; record it again") from error


class ReplaySource:
    """Plays a recorded file from its start, at the speed of ``clock`` (seconds)."""

    name = "replay"
    scope: Scope = "recording"

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._recording: Recording | None = None
        self._started_s = 0.0

    def _entered(self) -> Recording:
        if self._recording is None:
            raise PowerError("replay: it was used before it was entered; use it as a context manager")
        return self._recording

    @property
    def rails(self) -> tuple[str, ...]:
        """Rails of the recording."""
        return self._entered().trace.rails

    @property
    def step_mw(self) -> float | None:
        """Step of the recorded source, mW."""
        return self._entered().step_mw

    @property
    def time_constant_s(self) -> float:
        """Time constant of the recorded source, seconds."""
        return self._entered().time_constant_s

    @property
    def counts_energy(self) -> bool:
        """Whether the recorded source counted energy."""
        return self._entered().counts_energy

    @property
    def interval_s(self) -> float:
        """Interval of the recorded source, seconds."""
        return self._entered().interval_s

    def __enter__(self) -> Self:
        """Read the file and start the clock. Raises PowerError for a file that is none of ours, or empty."""
        try:
            recording = load_trace(self._path)
        except FileFormatError as error:
            raise PowerError(f"replay: {error}") from error
        if not len(recording.trace):
            raise PowerError(f"replay: {self._path} holds no samples; record it again")
        self._recording = recording
        self._started_s = self._clock()
        return self

    def read(self) -> dict[str, float] | None:
        """The newest sample recorded by now, mW; None inside a gap of the recording. Raises PowerError after its end."""
        recording = self._entered()
        times = recording.trace.times_s
        now = times[0] + self._clock() - self._started_s
        patience = _GAP_INTERVALS * max(recording.interval_s, float(np.median(np.diff(times))) if len(times) > 1 else 0.0)
        if now > times[-1] + patience:
            raise PowerError(
                f"replay: {self._path} ended after {times[-1] - times[0]:.1f} s; record for longer, or measure for less"
            )
        index = int(np.searchsorted(times, now, side="right")) - 1
        if now - times[index] > patience:
            return None
        return dict(zip(recording.trace.rails, recording.trace.power_mw[index].tolist(), strict=True))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Nothing is held open."""

    def details(self) -> dict[str, Any]:
        """The file, and what its source had said."""
        return {"source": self.name, "scope": self.scope, "file": self._path.name, "recorded": self._entered().details}
