"""The device under a measurement: its state before and after, and what is done when it moved.

A Jetson that cut its clocks, or whose clocks or power mode somebody set, gives figures of another device. Such a measurement
is flagged and taken again once; under new clocks or another mode a new session begins, so that every line's session says
under which state it was taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from netadapt_trt.lut.lint.device import FLAG_ACTIONS
from netadapt_trt.measure.device_checks import CLOCKS_CHANGED, MODE_CHANGED, THROTTLED, below_lock, differences
from netadapt_trt.measure.device_state import DeviceState, device_state, is_jetson, no_query

if TYPE_CHECKING:
    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import LutWriter
    from netadapt_trt.measure.device_checks import Change
    from netadapt_trt.progress import Progress

__all__ = ["DEVICE_FLAGS", "ReadDevice", "Watch", "Watched", "device_here", "nowhere"]

DEVICE_FLAGS = (MODE_CHANGED, CLOCKS_CHANGED, THROTTLED)
"""Flags of lines whose device moved under them."""

_LOOKS = 3  # a clock that is being set, or wakes up, is below its lock for a moment; one that is cut stays there
_LOOK_AGAIN_S = 0.01

T = TypeVar("T")
ReadDevice = Callable[[], DeviceState | None]
"""Says the state of the device now; None where there is none to watch."""


def device_here() -> DeviceState | None:
    """The state of this machine, by files alone; None where it is no Jetson: nothing is known to compare there."""
    return device_state(query=no_query) if is_jetson() else None


def nowhere() -> DeviceState | None:
    """No device to watch."""
    return None


@dataclass(frozen=True)  # no slots: Python 3.10 cannot make a frozen generic one by its full name
class Watched(Generic[T]):
    """What was measured, the id of the session it belongs to, and the flags of what moved under it."""

    found: T
    session: str
    flags: tuple[str, ...]


class Watch:
    """Measures under a watch and keeps the session. ``open_session`` makes one; ``read`` says the device's state now.

    The session's line is written before its first measurement, so that no run leaves an empty one.
    """

    def __init__(
        self,
        writer: LutWriter,
        open_session: Callable[[], Session],
        progress: Progress,
        *,
        read: ReadDevice = device_here,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._writer, self._open_session, self._progress = writer, open_session, progress
        self._read, self._sleep = read, sleep
        self._last = read()
        self._session: str | None = None
        self._told: set[str] = set()

    def session(self) -> str:
        """The id of the session that measurements belong to now."""
        if self._session is None:
            session = self._open_session()
            self._writer.append(session)
            self._session = session.id
        return self._session

    def measure(self, measure: Callable[[], T]) -> Watched[T]:
        """What ``measure`` returns, flagged where the device moved meanwhile. Whatever it raises passes through."""
        self._take([change for change in self._moved() if change.flag != THROTTLED])
        session = self.session()
        found = measure()
        changes = self._moved()
        self._take(changes)
        return Watched(found, session, tuple(dict.fromkeys(change.flag for change in changes)))

    def measure_twice(self, measure: Callable[[], T], *, spread: Callable[[T], float], most: float) -> Watched[T]:
        """:meth:`measure`, and once more where the device moved or ``spread`` of the result is above ``most``.

        The better of the two is kept: one under which nothing moved, then the quieter, because noise of other processes
        only ever adds.
        """
        first = self.measure(measure)
        if not first.flags and spread(first.found) <= most:
            return first
        return min(first, self.measure(measure), key=lambda taken: (bool(taken.flags), spread(taken.found)))

    def _moved(self) -> list[Change]:
        before, after = self._last, self._read()
        for _ in range(_LOOKS - 1):
            if after is None or not below_lock(after):
                break
            self._sleep(_LOOK_AGAIN_S)
            after = self._read()
        self._last = after
        return [] if before is None or after is None else differences(before, after)

    def _take(self, changes: list[Change]) -> None:
        """Say what moved, the first time with what mends it; under other clocks or another mode begin a new session."""
        for change in changes:
            if change.flag not in self._told:
                self._told.add(change.flag)
                action = FLAG_ACTIONS[change.flag]
                self._progress.notice(f"{change.what}: what was measured meanwhile is measured again once; {action}")
            if change.flag != THROTTLED:
                self._session = None
