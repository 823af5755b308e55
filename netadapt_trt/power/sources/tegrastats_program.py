"""Power rails from a running ``tegrastats``, for the boards where nothing better is readable.

The program has no count option and prints until it is stopped. Invariant: it is stopped with the source, and a line counts
only once its newline has come.
"""

from __future__ import annotations

import collections
import contextlib
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import match_board, total_step_mw
from netadapt_trt.power.source import INA_TIME_CONSTANT_S
from netadapt_trt.power.tegrastats import parse_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["TegrastatsSource", "find_program"]

_PROGRAM = "usr/bin/tegrastats"
_LONGEST_LINE = 1 << 16
_LINES_WITHOUT_RAILS = 3  # that many complete lines decide that this board has no sensor
_STALE_INTERVALS = 3.0


def find_program(root: Path = Path("/")) -> Path | None:
    """Where tegrastats is: its usual place below ``root``, or anywhere on PATH when ``root`` is the real one."""
    usual = root / _PROGRAM
    if usual.is_file():
        return usual
    found = shutil.which("tegrastats") if root == Path("/") else None
    return Path(found) if found else None


class TegrastatsSource:
    """Runs ``command --interval MS`` and keeps its newest line. ``command`` defaults to the program found below ``root``."""

    name = "tegrastats"
    scope: Scope = "board"
    counts_energy = False
    time_constant_s = INA_TIME_CONSTANT_S

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        command: Sequence[str] | None = None,
        interval_s: float = 0.1,
        start_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._command = list(command) if command is not None else None
        self.interval_s = interval_s
        self._start_s = start_s
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._complaints: collections.deque[str] = collections.deque(maxlen=3)
        self._changed = threading.Condition()
        self._newest: tuple[float, dict[str, float]] | None = None
        self._lines = 0
        self._ended = False
        self._rails: tuple[str, ...] = ()

    @property
    def rails(self) -> tuple[str, ...]:
        """Rails in the order of the first line that had any."""
        return self._rails

    @property
    def step_mw(self) -> float | None:
        """Step of the total by the rail table, mW."""
        return total_step_mw(self._rails)

    def __enter__(self) -> Self:
        """Start the program and wait for rails. Raises PowerError when it is missing, ends or prints none."""
        command = self._command
        if command is None:
            program = find_program(self._root)
            if program is None:
                raise PowerError(
                    f"tegrastats: no {self._root / _PROGRAM}: this is no Jetson, or a container; for one add "
                    "-v /usr/bin/tegrastats:/usr/bin/tegrastats:ro to docker run"
                )
            command = [str(program)]
        try:
            self._process = subprocess.Popen(
                [*command, "--interval", str(max(1, round(self.interval_s * 1000)))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise PowerError(
                f"tegrastats: {command[0]} does not start: {error.strerror or error}; in a container the image needs glibc"
            ) from error
        self._newest, self._lines, self._ended = None, 0, False
        output = self._process.stdout
        if output is None:  # cannot be: it was asked for
            raise PowerError("tegrastats: the program has no output to read; start it by hand and look")
        self._reader = threading.Thread(target=self._follow, args=(output,), name="tegrastats", daemon=True)
        self._reader.start()
        try:
            self._wait_for_rails()
        except BaseException:
            self._stop()
            raise
        return self

    def _wait_for_rails(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._newest is not None or self._ended or self._lines >= _LINES_WITHOUT_RAILS, self._start_s
            )
            if self._newest is not None:
                self._rails = tuple(self._newest[1])
                return
            if self._ended:
                raise self._end_error("before its first power reading")
            if self._lines:
                raise PowerError(
                    "tegrastats: it prints no power rails on this board (some modules and carriers have no sensor); measure "
                    "with an external meter (csv:FILE), or without power"
                )
        raise PowerError(
            f"tegrastats: no line within {self._start_s:g} s; start it by hand (tegrastats --interval 1000) and look"
        )

    def _follow(self, output: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed below us while leaving
            while raw := output.readline(_LONGEST_LINE):
                if raw.endswith(b"\n"):
                    self._take(raw.decode("utf-8", errors="replace"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, text: str) -> None:
        rails = {name: float(reading.current) for name, reading in parse_line(text).rails.items()}
        with self._changed:
            self._lines += 1
            if rails:
                self._newest = (self._clock(), rails)
            elif text.strip():
                self._complaints.append(text.strip()[:200])
            self._changed.notify_all()

    def read(self) -> dict[str, float] | None:
        """Power by rail of the newest line, mW; None when it lacks a rail or is older than three intervals.

        Raises PowerError when the program has ended.
        """
        with self._changed:
            newest, ended = self._newest, self._ended
        if ended or newest is None:
            raise self._end_error("while measuring")
        taken_s, rails = newest
        if self._clock() - taken_s > _STALE_INTERVALS * self.interval_s:
            return None
        return {rail: rails[rail] for rail in self._rails} if all(rail in rails for rail in self._rails) else None

    def _end_error(self, when: str) -> PowerError:
        status = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(timeout=1.0)
        said = f", saying: {self._complaints[-1]}" if self._complaints else ""
        return PowerError(
            f"tegrastats: it ended {when} (status {status}){said}; another tegrastats --stop ends it too, so measure again"
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(timeout=2.0)
        if process.stdout is not None:
            process.stdout.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Stop the program."""
        self._stop()

    def details(self) -> dict[str, Any]:
        """Interval and the board of the rail table."""
        board = match_board(self._rails)
        return {
            "source": self.name,
            "scope": self.scope,
            "interval_s": self.interval_s,
            "board": board.name if board else None,
            "total": list(board.total) if board else None,
            "step_mw": self.step_mw,
            "time_constant_s": self.time_constant_s,
            "time_constant_assumed": True,
        }
