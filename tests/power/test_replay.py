"""A recording is read back as it was and plays at its own pace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.errors import FileFormatError, PowerError, TooNewError
from netadapt_trt.power.sources.csv_meter import CsvMeter
from netadapt_trt.power.sources.replay import ReplaySource, load_trace, save_trace
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.power.source import PowerSource, Scope

RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
POWER = [[2390.0, 796.0, 3522.0], [2788.0, -398.0, 3522.5], [2390.0, 796.0, 3600.0], [1.0, 2.0, 3.0]]


class Source:
    """Says of itself what an INA source would."""

    name = "ina"
    scope: Scope = "board"
    rails = RAILS
    step_mw = 574.5
    time_constant_s = 0.43
    counts_energy = False
    interval_s = 0.05

    def details(self) -> dict[str, Any]:
        return {"source": "ina", "chips": [{"address": "1-0040"}]}

    def read(self) -> dict[str, float] | None:
        return None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Samples at 7.0, 7.1, 7.2 and, after a gap, 8.0 seconds."""
    path = tmp_path / "trace.json"
    source: PowerSource = Source()
    save_trace(path, Trace(np.array([7.0, 7.1, 7.2, 8.0]), RAILS, np.array(POWER)), source)
    return path


def test_load_trace_gives_back_what_was_saved(recorded: Path) -> None:
    recording = load_trace(recorded)
    assert recording.trace.times_s.tolist() == [7.0, 7.1, 7.2, 8.0]
    assert recording.trace.rails == RAILS
    assert recording.trace.power_mw.tolist() == POWER
    assert (recording.source, recording.step_mw, recording.time_constant_s) == ("ina", 574.5, 0.43)
    assert (recording.counts_energy, recording.interval_s) == (False, 0.05)
    assert recording.details == {"source": "ina", "chips": [{"address": "1-0040"}]}


def test_save_trace_keeps_an_unknown_step_unknown(tmp_path: Path) -> None:
    meter = tmp_path / "meter.csv"
    meter.write_text("time_s,power_w\n0,1\n")
    with CsvMeter(meter) as source:
        save_trace(tmp_path / "t.json", Trace(np.array([0.0]), ("external",), np.array([[1000.0]])), source)
    assert load_trace(tmp_path / "t.json").step_mw is None


def test_replay_plays_at_its_own_pace_and_says_when_it_is_over(recorded: Path) -> None:
    now = [300.0]
    with ReplaySource(recorded, clock=lambda: now[0]) as source:
        played = []
        for moment in (300.0, 300.09, 300.11, 300.21, 300.44, 300.46, 301.01, 301.2):
            now[0] = moment
            reading = source.read()
            played.append(None if reading is None else reading["VDD_CPU_CV"])
        # 2.5 of the 0.1 s between samples after 7.2 nothing is known until 8.0
        assert played == [796.0, 796.0, -398.0, 796.0, 796.0, None, 2.0, 2.0]
        now[0] = 301.3
        with pytest.raises(PowerError, match=r"replay: .*ended after 1\.0 s"):
            source.read()


def test_replay_speaks_for_the_recorded_source(recorded: Path) -> None:
    with ReplaySource(recorded) as source:
        assert source.rails == RAILS
        assert (source.step_mw, source.time_constant_s, source.counts_energy) == (574.5, 0.43, False)
        assert source.interval_s == 0.05
        assert source.details()["recorded"]["chips"] == [{"address": "1-0040"}]


def test_replay_used_before_entering_is_an_error(recorded: Path) -> None:
    with pytest.raises(PowerError, match="context manager"):
        ReplaySource(recorded).read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rails": None}, "damaged"),
        ({"times_s": [0.0]}, "damaged"),
        ({"times_s": [3.0, 2.0, 1.0, 0.0]}, "rise"),
        ({"power_mw": [["x"] * 3] * 4}, "damaged"),
        ({"format": "netadapt-lut"}, "not a netadapt-power-trace"),
    ],
)
def test_replay_a_damaged_file_is_named(recorded: Path, change: dict[str, Any], words: str) -> None:
    recorded.write_text(json.dumps(json.loads(recorded.read_text()) | change))
    with pytest.raises(FileFormatError, match=words):
        load_trace(recorded)
    with pytest.raises(PowerError, match=f"^replay: .*{words}"):
        ReplaySource(recorded).__enter__()


def test_load_trace_a_missing_key_and_a_newer_version_are_named(recorded: Path) -> None:
    document = json.loads(recorded.read_text())
    recorded.write_text(json.dumps({key: value for key, value in document.items() if key != "details"}))
    with pytest.raises(FileFormatError, match="'details' is missing"):
        load_trace(recorded)
    recorded.write_text(json.dumps(document | {"version": 2}))
    with pytest.raises(TooNewError, match="upgrade"):
        load_trace(recorded)


def test_replay_of_nothing_is_an_error(tmp_path: Path) -> None:
    save_trace(tmp_path / "t.json", Trace(np.empty(0), RAILS, np.empty((0, 3))), Source())
    with pytest.raises(PowerError, match="no samples"):
        ReplaySource(tmp_path / "t.json").__enter__()
    with pytest.raises(PowerError, match="does not exist"):
        ReplaySource(tmp_path / "missing.json").__enter__()
