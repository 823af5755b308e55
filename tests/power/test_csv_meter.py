"""An external meter's file: finished, growing, on another clock, damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.sources.csv_meter import CsvMeter, read_meter

if TYPE_CHECKING:
    from pathlib import Path

THREE = "time_s,power_w\n0.0,5.0\n0.1,5.5\n0.2,-0.25\n"


class Meter:
    """A file and a clock that a test moves."""

    def __init__(self, folder: Path, content: str) -> None:
        self.path = folder / "meter.csv"
        self.path.write_text(content)
        self.now = 1000.0

    def writes(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def source(self, offset_s: float | None = None) -> CsvMeter:
        return CsvMeter(self.path, offset_s=offset_s, clock=lambda: self.now)


def _file(folder: Path, content: str | bytes) -> Path:
    path = folder / "meter.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_read_meter_gives_milliwatts_on_our_clock(tmp_path: Path) -> None:
    trace = read_meter(_file(tmp_path, THREE), offset_s=500.0)
    assert trace.rails == ("external",)
    assert trace.times_s.tolist() == [500.0, 500.1, 500.2]
    assert trace.power_mw[:, 0].tolist() == [5000.0, 5500.0, -250.0]
    total = trace.total_mw()
    assert total is not None
    assert total.tolist() == [5000.0, 5500.0, -250.0]


@pytest.mark.parametrize(
    "content",
    [
        "time_s,power_mw\n1,5000\n2,6000\n",
        "power_w,volts,time_s\n5,19,1\n6,19,2\n",
        "time_s;power_w\n1,0;5,0\n2,0;6,0\n",  # semicolon, decimal commas
        "time_s\tpower_w\r\n1\t5\r\n2\t6\r\n",
        '# meter 7\n\n"time_s","power_w"\n1,"5"\n# pause\n2,6\n',
        "\ufefftime_s, Power_W \n1, 5\n2, 6\n",
        "time_s,power_w\n1,5\n2,6\n3,7.",  # torn tail
    ],
)
def test_read_meter_takes_the_usual_shapes(tmp_path: Path, content: str) -> None:
    trace = read_meter(_file(tmp_path, content))
    assert trace.times_s.tolist() == [1.0, 2.0]
    assert trace.power_mw.tolist() == [[5000.0], [6000.0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no rows"),
        ("time_s,power_w\n", "has no rows"),
        ("seconds,watts\n1,5\n", r"line 1 must name the columns time_s .*found seconds, watts"),
        ("time_s,power_w,power_mw\n1,5,5000\n", "one of power_w and power_mw"),
        ("1,5\n2,6\n", "line 1 must name"),
        ("time_s,power_w\n1,5\n2,overload\n", r"line 3 is not a row of numbers: '2,overload'"),
        ("time_s,power_w\n1,nan\n", "line 2 is not a row"),
        ("time_s,power_w\n1\n", "line 2 is not a row"),
        ("time_s,power_w\n1,5\n1,6\n", "line 3: time_s goes from 1 to 1"),
        (b"\xff\x00\xfe\n1,5\n", "line 1 must name"),
    ],
)
def test_read_meter_names_the_line_that_is_wrong(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(PowerError, match=f"^csv: .*{words}"):
        read_meter(_file(tmp_path, content))


def test_read_meter_of_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match="No such file"):
        read_meter(tmp_path / "missing.csv")


def test_csv_follows_a_growing_file(tmp_path: Path) -> None:
    meter = Meter(tmp_path, THREE)
    with meter.source() as source:
        assert source.interval_s == pytest.approx(0.1)
        meter.writes("0.3,7.0\n0.4,8")
        assert source.read() == {"external": 7000.0}
        meter.writes(".5\n")
        assert source.read() == {"external": 8500.0}


def test_csv_a_late_meter_is_a_missing_sample_and_a_silent_one_an_error(tmp_path: Path) -> None:
    meter = Meter(tmp_path, THREE)
    with meter.source() as source:
        meter.now += 0.29
        assert source.read() == {"external": -250.0}
        meter.now += 0.02  # over three intervals
        assert source.read() is None
        meter.now += 5.0
        with pytest.raises(PowerError, match=r"no new row for 5\.3 s; check the meter"):
            source.read()


def test_csv_waits_for_the_first_row(tmp_path: Path) -> None:
    meter = Meter(tmp_path, "time_s,power_w\n")
    with meter.source() as source:
        assert source.read() is None
        meter.writes("0.0,5.0\n")
        assert source.read() == {"external": 5000.0}


def test_csv_with_an_offset_gives_the_row_of_this_moment(tmp_path: Path) -> None:
    # the meter's 0 is our 1000.5
    meter = Meter(tmp_path, THREE)
    with meter.source(offset_s=1000.5) as source:
        assert source.read() is None  # before the first row
        meter.now = 1000.65
        assert source.read() == {"external": 5500.0}
        meter.now = 1000.75
        assert source.read() == {"external": -250.0}
        meter.now = 1001.5
        assert source.read() is None
        meter.now = 1006.0
        with pytest.raises(PowerError, match="no new row"):
            source.read()
        assert source.details()["offset_s"] == 1000.5


def test_csv_a_file_cut_short_while_measuring_is_an_error(tmp_path: Path) -> None:
    meter = Meter(tmp_path, THREE)
    with meter.source() as source:
        meter.path.write_text("time_s,power_w\n")
        with pytest.raises(PowerError, match="became shorter"):
            source.read()


def test_csv_a_file_that_vanishes_is_an_error(tmp_path: Path) -> None:
    meter = Meter(tmp_path, THREE)
    with meter.source() as source:
        meter.path.unlink()
        with pytest.raises(PowerError, match="is gone"):
            source.read()


def test_csv_without_a_file_or_header_says_to_start_the_meter(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match=r"cannot be opened: No such file.*start the meter"):
        CsvMeter(tmp_path / "missing.csv").__enter__()
    with pytest.raises(PowerError, match="no header line yet"):
        CsvMeter(_file(tmp_path, "time_s,po")).__enter__()


def test_csv_read_before_entering_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match="context manager"):
        CsvMeter(tmp_path / "x.csv").read()
