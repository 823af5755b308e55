"""What a verb says: one result on stdout, for people or as one JSON document; everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.cli.progress import progress_for

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from netadapt_trt.progress import Progress

__all__ = ["Output", "bytes_text", "number", "plain", "table"]

_PIPE_WIDTH = 132


class Output:
    """The two streams of one verb; inside its context Python's stdout is stderr, so that a stray print spoils no result."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console

        self.as_json = as_json
        self._stdout = sys.stdout
        self.stderr: Console = Console(stderr=True)
        self.progress: Progress = progress_for(self.stderr)

    def __enter__(self) -> Output:
        self._redirect = contextlib.redirect_stdout(sys.stderr)
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._redirect.__exit__(*error)

    def result(self, document: Any, show: Callable[[Console], None]) -> None:
        """Write the verb's one result: ``document`` as JSON, or what ``show`` prints."""
        if self.as_json:
            self._stdout.write(json.dumps(plain(document), indent=1, allow_nan=False) + "\n")
            self._stdout.flush()
        else:
            from rich.console import Console

            # a file or a pipe has no width: lines stay whole, tables are not squeezed into the 80 columns assumed otherwise
            terminal = self._stdout.isatty()
            show(
                Console(file=self._stdout, highlight=False, soft_wrap=not terminal, width=None if terminal else _PIPE_WIDTH)
            )


def plain(value: Any) -> Any:
    """``value`` in JSON's own types; numbers that JSON cannot hold become null."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool | None):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    return str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = True) -> Table:
    """A table whose first column is text; the others are aligned right where they are ``numbers``."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; "-" for one that is not known."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{decimals}f}"


def bytes_text(value: float | None) -> str:
    """Bytes in the unit that keeps the number readable."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number(value)} {unit}"
        value /= 1024
    return f"{number(value)} GiB"
