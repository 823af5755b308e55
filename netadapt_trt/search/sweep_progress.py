"""One bar over all parts of a sweep, whatever the parts themselves say of their progress."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netadapt_trt.progress import Progress, Task

__all__ = ["Whole"]


class Whole:
    """Moves ``task`` by one for each part, evenly as far as the part's first task says how much it is."""

    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress = progress
        self._task = task

    @contextmanager
    def part(self, text: str, number: int | None) -> Iterator[Part]:
        """A part's own progress while the context lasts; ``number`` stands before what it says."""
        self._task.describe(text)
        part = Part(self._progress, self._task, text, "" if number is None else f"{number:03d}: ")
        yield part
        part.move(1.0)


class Part:
    """What a part of a sweep is given as its :class:`~netadapt_trt.progress.Progress`."""

    def __init__(self, progress: Progress, task: Task, text: str, mark: str) -> None:
        self._progress, self._task, self._text, self._mark = progress, task, text, mark
        self._moved = 0.0
        self._first = True

    def move(self, share: float) -> None:
        """The part is done to this share."""
        if share > self._moved:
            self._task.advance(share - self._moved)
            self._moved = share

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[Task]:
        """The first one moves the bar; those after it (evaluations) are short. One of unknown length does not move it."""
        del text
        counts = self._first and bool(total)
        self._first = self._first and not counts
        yield _Share(self, self._task, self._text, total if counts else None)

    def notice(self, text: str) -> None:
        """A line with the search's number before it."""
        self._progress.notice(f"{self._mark}{text}")


class _Share:
    def __init__(self, part: Part, task: Task, text: str, total: float | None) -> None:
        self._part, self._task, self._text, self._total = part, task, text, total
        self._done = 0.0

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        if self._total:
            self._part.move(min(self._done / self._total, 1.0))

    def describe(self, text: str) -> None:
        if self._total:
            self._task.describe(f"{self._text}, {text}")
