from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from netadapt_trt.cli.output import bytes_text, number, plain, table
from netadapt_trt.cli.progress import BarProgress, LineProgress, _clock, _Line, progress_for


@dataclass(frozen=True)
class Point:
    x: float
    where: Path


def test_plain_makes_json_types_of_everything() -> None:
    value = {"p": Point(1.5, Path("a/b")), 3: (1, None, True), "n": np.float32(0.5), "a": np.arange(2), "bad": float("nan")}
    assert plain(value) == {"p": {"x": 1.5, "where": "a/b"}, "3": [1, None, True], "n": 0.5, "a": [0, 1], "bad": None}


def test_plain_prefers_an_object_s_own_json() -> None:
    class Own:
        def to_json(self) -> dict[str, object]:
            return {"path": Path("x")}

    assert plain([Own()]) == [{"path": "x"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (12.345, "12.3"), (1234.5, "1,234"), (-0.5, "-0.500")],
)
def test_number_shows_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (500, "500 B"), (2048, "2.00 KiB"), (3 * 2**20, "3.00 MiB"), (2**31, "2.00 GiB")]
)
def test_bytes_text_takes_the_fitting_unit(value: float | None, text: str) -> None:
    assert bytes_text(value) == text


def test_table_shows_brackets_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table("t", ["layer", "ms"], [("conv[3x3]", 1)]))
    assert isinstance(console.file, io.StringIO)
    assert "conv[3x3]" in console.file.getvalue()


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_line_progress_tells_notices_and_stays_quiet_about_short_work() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = LineProgress(console)
    with progress.task("cells", 3) as task:
        task.advance()
        progress.notice("a [notice]")
    assert text_of(console) == "a [notice]\n"


def test_line_names_what_is_left() -> None:
    line = _Line(Console(file=io.StringIO()), "cells", 10)
    line.advance(4)
    assert line.line(elapsed_s=60) == "cells: 4/10, 1:30 left"  # 15 s each, 6 to go


def test_line_without_a_total_names_what_is_done() -> None:
    line = _Line(Console(file=io.StringIO()), "reading", None)
    line.advance(7)
    assert line.line(elapsed_s=3.0) == "reading: 7 done in 0:03"


def test_clock_shows_hours_when_there_are_any() -> None:
    assert (_clock(59), _clock(3661)) == ("0:59", "1:01:01")


def test_bars_nest_and_leave_nothing_behind() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    progress = progress_for(console)
    assert isinstance(progress, BarProgress)
    with progress.task("outer", 2) as outer, progress.task("inner", None) as inner:
        outer.advance()
        inner.describe("changed")
        progress.notice("said")
    with progress.task("again", 1):
        pass
    assert "said" in text_of(console)
    assert progress._bars is None


def test_bars_end_when_work_fails() -> None:
    progress = BarProgress(Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(ValueError, match="broken"), progress.task("outer", 2):
        raise ValueError("broken")
    assert progress._bars is None
