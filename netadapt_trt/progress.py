"""How the library reports progress without printing: the caller passes a :class:`Progress`.

The library never writes to a terminal. A stage takes ``progress: Progress = QUIET`` and says what it is about; the command
line turns that into bars with the time left, tests and scripts ignore it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["QUIET", "Progress", "QuietProgress", "Task"]


class Task(Protocol):
    """One piece of work with a known or unknown length."""

    def advance(self, steps: float = 1) -> None:
        """Say that ``steps`` more of the total are done."""

    def describe(self, text: str) -> None:
        """Replace the text shown beside the bar."""


class Progress(Protocol):
    """Receives what a long-running function has to say."""

    def task(self, text: str, total: float | None) -> AbstractContextManager[Task]:
        """Open a task; leaving the context ends it."""

    def notice(self, text: str) -> None:
        """A line the user should see: a decision, a warning, a result."""


class _QuietTask:
    def advance(self, steps: float = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class QuietProgress:
    """Says nothing."""

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[Task]:
        """Open a task that reports nowhere."""
        yield _QuietTask()

    def notice(self, text: str) -> None:
        """Drop the line."""


QUIET: Progress = QuietProgress()
