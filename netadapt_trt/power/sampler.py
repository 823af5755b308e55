"""One thread that reads a power source at a steady rate and stamps what it gets.

Invariant: the thread never holds up anybody else. A source that hangs is reported and left behind, a source that fails
ends the sampling, and in both cases what was sampled so far stays.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import PowerError
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from netadapt_trt.power.source import PowerSource

__all__ = ["Sampler"]

# The sensors of these boards average over some 0.4 s, so 10 to 20 readings a second miss nothing and more say nothing new.
DEFAULT_HZ = 20.0
LEAST_PATIENCE_S = 2.0


class Sampler:
    """Reads ``source`` up to ``hz`` times a second while open; opens and closes the source itself.

    Stamps are seconds of ``clock``, taken when a reading has come, so a late one is late in the trace too. A source that
    counts energy gives means since its last reading; those are stamped in the middle of the time they are about. A source
    that takes longer than ``patience_s`` for one reading counts as hanging (default: five of its intervals, at least 2
    s).
    """

    def __init__(
        self,
        source: PowerSource,
        hz: float = DEFAULT_HZ,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float | None = None,
    ) -> None:
        if not (hz > 0 and math.isfinite(hz)):
            raise ValueError(f"a sampling rate of {hz} Hz")
        self.source = source
        self._hz = hz
        self._clock = clock
        self._asked_patience_s = patience_s
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._rows: list[tuple[float, ...]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: PowerError | None = None
        self._reading_since: float | None = None
        self._open = False

    @property
    def period_s(self) -> float:
        """Seconds between two readings: what was asked for, or the source's interval where that is longer."""
        return max(1.0 / self._hz, self.source.interval_s)

    @property
    def patience_s(self) -> float:
        """How long one reading may take."""
        if self._asked_patience_s is not None:
            return self._asked_patience_s
        return max(LEAST_PATIENCE_S, 5 * self.source.interval_s)

    @property
    def failure(self) -> PowerError | None:
        """Why no more samples come: the source's error, or that it hangs at this moment. None while all is well."""
        since = self._reading_since
        if self._error is None and since is not None and self._clock() - since > self.patience_s:
            return PowerError(
                f"power source {self.source.name} has not answered for over {self.patience_s:g} s. What was sampled before "
                "is kept. Check the device or service behind it and start again."
            )
        return self._error

    def trace(self, t0: float = -math.inf, t1: float = math.inf) -> Trace:
        """What was sampled so far with stamps from ``t0`` to ``t1``; may be empty. Does not wait for the source."""
        with self._lock:
            low, high = bisect.bisect_left(self._times, t0), bisect.bisect_right(self._times, t1)
            times, rows = self._times[low:high], self._rows[low:high]
        rails = tuple(self.source.rails)
        return Trace(
            np.array(times, dtype=np.float64), rails, np.array(rows, dtype=np.float64).reshape(len(times), len(rails))
        )

    def forget(self, before_s: float) -> None:
        """Drop samples older than that, so that a session of days does not fill the memory."""
        with self._lock:
            old = bisect.bisect_left(self._times, before_s)
            del self._times[:old], self._rows[:old]

    def __enter__(self) -> Sampler:
        self.source.__enter__()
        self._open = True
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, name=f"power-{self.source.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self.patience_s)
            # A hanging reading cannot be ended from here, and closing the source under it may hang as well: its own thread
            # closes the source if it ever comes back.
            if not self._thread.is_alive():
                self._close()

    def _close(self) -> None:
        with self._lock:
            mine, self._open = self._open, False
        if mine:
            self.source.__exit__(None, None, None)

    def _sample(self) -> None:
        """Body of the thread."""
        due = last = self._clock()
        try:
            while not self._stop.is_set():
                self._reading_since = self._clock()
                reading = self.source.read()
                came = self._clock()
                self._reading_since = None
                if reading is not None and not self._stop.is_set():
                    self._keep((last + came) / 2 if self.source.counts_energy else came, reading)
                    last = came
                # After a late reading the next comes at the next whole period: catching up would read the same value.
                due += self.period_s * max(1, math.ceil((came - due) / self.period_s))
                self._stop.wait(max(0.0, due - self._clock()))
        except PowerError as error:
            self._error = error
        except Exception as error:  # whatever a driver throws must not end a thread in silence
            self._error = PowerError(
                f"power source {self.source.name} failed while reading ({type(error).__name__}: {error}). What was sampled "
                "before is kept; check the device or service behind it and start again."
            )
            self._error.__cause__ = error
        finally:
            self._reading_since = None
            if self._stop.is_set():
                self._close()

    def _keep(self, stamp: float, reading: dict[str, float]) -> None:
        row = tuple(float(reading.get(rail, math.nan)) for rail in self.source.rails)
        with self._lock:
            if all(map(math.isfinite, row)) and (not self._times or stamp > self._times[-1]):
                self._times.append(stamp)
                self._rows.append(row)
