"""Progress on stderr: bars with the time left on a terminal, occasional plain lines elsewhere (logs, CI)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from netadapt_trt.progress import Progress

__all__ = ["BarProgress", "LineProgress", "progress_for"]

_SECONDS_BETWEEN_LINES = 10.0


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, steps: float = 1) -> None:
        self._bars.advance(self._task, steps)

    def describe(self, text: str) -> None:
        self._bars.update(self._task, description=text)


class BarProgress:
    """One live display; tasks opened inside a task stand below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[_Bar]:
        """Show a bar until the context is left. The display lives as long as its outermost task."""
        if self._bars is not None:
            yield from self._add(self._bars, text, total)
            return
        with _bars(self._console) as bars:
            self._bars = bars
            try:
                yield from self._add(bars, text, total)
            finally:
                self._bars = None

    def _add(self, bars: Bars, text: str, total: float | None) -> Iterator[_Bar]:
        task = bars.add_task(text, total=total)
        try:
            yield _Bar(bars, task)
        finally:
            bars.remove_task(task)

    def notice(self, text: str) -> None:
        """Print above the bars."""
        self._console.print(text, markup=False, highlight=False)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
    )


class _Line:
    """Says where it is at most every few seconds, and never when the work is over before that."""

    def __init__(self, console: Console, text: str, total: float | None) -> None:
        self._console = console
        self._text = text
        self._total = total
        self._done = 0.0
        self._started = self._said = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._console.print(self.line(now - self._started), markup=False, highlight=False, soft_wrap=True)

    def line(self, elapsed_s: float) -> str:
        """``text: done/total, time left``; without a total only what is known."""
        if not self._total:
            return f"{self._text}: {self._done:.0f} done in {_clock(elapsed_s)}"
        left = elapsed_s * max(self._total - self._done, 0) / self._done if self._done else None
        ending = f", {_clock(left)} left" if left is not None else ""
        return f"{self._text}: {self._done:.0f}/{self._total:.0f}{ending}"

    def describe(self, text: str) -> None:
        self._text = text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LineProgress:
    """Plain lines, for output that is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[_Line]:
        """A line now and then while the task lasts."""
        yield _Line(self._console, text, total)

    def notice(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def progress_for(console: Console) -> Progress:
    """Bars where the console is a terminal, lines where it is not."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)
