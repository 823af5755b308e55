"""What TensorRT says while it works. The reasons of its failures come through a logger, never through return values."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Log", "log_of"]

_KEPT_LINES = 200
_LOGS: dict[Any, Log] = {}


class Log:
    """The latest warnings and errors of one TensorRT module. ``logger`` is the object that TensorRT wants."""

    def __init__(self, trt: Any) -> None:
        self._lines: deque[tuple[bool, str]] = deque(maxlen=_KEPT_LINES)
        self.logger = _logger(trt, self._lines)

    def clear(self) -> None:
        """Forget what was said so far, so that what follows can be told apart."""
        self._lines.clear()

    def errors(self) -> list[str]:
        """Condensed, each once, in order."""
        return list(dict.fromkeys(_condensed(text) for serious, text in self._lines if serious))

    def warnings(self) -> list[str]:
        """Condensed, each once, in order."""
        return list(dict.fromkeys(_condensed(text) for serious, text in self._lines if not serious))

    def reason(self) -> str:
        """The errors in one line, for a message."""
        return "; ".join(self.errors()[-4:]) or "TensorRT gave no reason"


def log_of(trt: Any) -> Log:
    """The one log of a module, for as long as the process lives: TensorRT keeps the first logger that it is given."""
    if trt not in _LOGS:
        _LOGS[trt] = Log(trt)
    return _LOGS[trt]


def _logger(trt: Any, lines: deque[tuple[bool, str]]) -> Any:
    severity = trt.ILogger.Severity
    serious, kept = int(severity.ERROR), int(severity.WARNING)

    class Logger(trt.ILogger):  # type: ignore[misc]  # its base exists at run time only
        """Keeps instead of printing: errors travel in exceptions."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            level = int(severity)
            if level <= kept:
                lines.append((level <= serious, msg))

    return Logger()


def _condensed(text: str) -> str:
    """One line, without the source positions of TensorRT's build."""
    return " ".join(" ".join(_parts(text)).split())[:400]


def _parts(text: str) -> Iterator[str]:
    text = re.sub(r"^\[[\w.]+::\w+::\d+\] ", "", text)
    text = re.sub(r"^\w+\.cpp:\d+: ", "", text)
    yield re.sub(r"\bIn \w+ at \S+:\d+ ?", "", text)
