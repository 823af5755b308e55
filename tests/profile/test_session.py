from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.schema import format_record, parse_record
from netadapt_trt.measure.device_state import DeviceState, device_state
from netadapt_trt.profile.session import new_session
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from pathlib import Path

trees: Any = importlib.import_module("jetson_trees")

IDENTITY = Identity(
    backend="trt", device="d", runtime="TensorRT", runtime_version="10.3.0", provider="gpu", precision="fp32", recipe="none",
    batch=1, threads=1,
)  # fmt: skip


class Notices:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


class Source:
    """What a session asks of a power source."""

    name, rails, step_mw = "ina", ("VDD_IN", "VDD_SOC"), 40.0
    time_constant_s, counts_energy, interval_s = 0.43, False, 0.43

    def details(self) -> dict[str, Any]:
        return {"board": "Orin Nano", "assumed": False, "steps_mw": {"VDD_IN": 40.0}, "chips": [{"address": "1-0040"}]}


def session(device: DeviceState, *, watch: bool = False, source: Any = None) -> tuple[Any, list[str]]:
    progress: Any = Notices()
    made = new_session(IDENTITY, {"min_ms": 150.0}, watch=watch, progress=progress, device=device, source=source)
    return made, progress.texts


def test_session_keeps_the_state_of_a_jetson(tmp_path: Path) -> None:
    made, _ = session(device_state(trees.orin_nano(tmp_path)))
    assert made.power_mode == "MAXN_SUPER"
    assert made.clocks["locked"] == "yes"
    assert [made.clocks[f"gpu{part}_mhz"] for part in ("", "_min", "_max")] == [1020.0, 1020.0, 1020.0]
    expected = {"l4t": "36.4.3", "power_mode_id": 2, "cpus_online": 6, "container": "no", "oc3_events": 17}
    assert {key: made.machine[key] for key in expected} == expected
    assert made.machine["cpu-thermal_c"] == 52.312
    assert made.machine["boot"] == "11111111-2222-3333-4444-555555555555"
    assert parse_record(json.loads(format_record(made))) == made


def test_session_on_another_machine_says_nothing_of_modes() -> None:
    made, texts = session(DeviceState())
    assert made.power_mode is None
    assert set(made.clocks) == {"governor", "frequency_mhz", "max_frequency_mhz"}
    assert "board" not in made.machine
    assert (made.power_source, made.rails, made.sensor_step_mw, made.power) == (None, (), None, {})
    assert texts == []


def test_session_tells_what_to_mend_only_when_it_is_watched(tmp_path: Path) -> None:
    state = device_state(trees.orin_nano(tmp_path, locked=False))
    made, texts = session(state)
    assert (made.clocks["locked"], texts) == ("no", [])
    _, texts = session(state, watch=True)
    assert [text for text in texts if "jetson_clocks" in text] == [
        "clocks are not locked (cpu0 730 to 1728 MHz, cpu4 730 to 1728 MHz, gpu 306 to 1020 MHz); "
        "to mend it: sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"
    ]


def test_session_describes_the_power_source() -> None:
    made, _ = session(DeviceState(), source=Source())
    assert (made.power_source, made.rails, made.sensor_step_mw) == ("ina", ("VDD_IN", "VDD_SOC"), 40.0)
    assert made.power == {
        "time_constant_s": 0.43,
        "interval_s": 0.43,
        "board": "Orin Nano",
        "assumed": "no",
        "steps_mw": '{"VDD_IN": 40.0}',
        "chips": '[{"address": "1-0040"}]',
    }
    assert parse_record(json.loads(format_record(made))) == made


@pytest.mark.parametrize(("name", "number", "mode"), [("15W", 0, "15W"), (None, 3, "mode 3"), (None, None, None)])
def test_session_names_the_power_mode(name: str | None, number: int | None, mode: str | None) -> None:
    made, _ = session(DeviceState(l4t="36.4.3", power_mode=name, power_mode_id=number))
    assert made.power_mode == mode


def test_session_of_damaged_names_can_be_read_back(tmp_path: Path) -> None:
    state = device_state(trees.orin_nano(tmp_path))
    state = replace(state, board="bad\x07board", power_mode="1\t5W", temperatures_c={"zo\nne": 50.0})
    made, _ = session(state)
    assert (made.machine["board"], made.power_mode, made.machine["zo?ne_c"]) == ("bad?board", "1?5W", 50.0)
    assert parse_record(json.loads(format_record(made))) == made
