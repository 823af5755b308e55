"""The lines of the doctor about a device and its power, on trees of files."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from netadapt_trt.cli.doctor import Line, _device, _power, examine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

trees: Any = importlib.import_module("jetson_trees")


def by_name(lines: list[Line]) -> dict[str, Line]:
    return {line.what: line for line in lines}


def test_doctor_describes_a_jetson_that_is_ready(tmp_path: Path) -> None:
    lines = _device(trees.orin_nano(tmp_path))
    found = by_name(lines)
    assert "Orin Nano" in found["device"].detail
    assert "L4T 36.4.3" in found["device"].detail
    assert (found["power mode"].state, found["power mode"].detail) == ("ok", "MAXN_SUPER")
    clocks = "cpu0 locked at 1728 MHz, cpu4 locked at 1728 MHz, gpu locked at 1020 MHz, emc unknown"
    assert (found["device clocks"].state, found["device clocks"].detail) == ("ok", clocks)
    assert found["temperature"].detail == "52 degrees C at cpu-thermal, the hottest of 2"
    assert found["over-current"] == Line("over-current", "note", "oc1 0, oc2 0, oc3 17 since boot")
    assert not any(line.action for line in lines)


def test_doctor_says_how_to_lock_clocks(tmp_path: Path) -> None:
    lines = _device(trees.orin_nano(tmp_path, locked=False))
    assert by_name(lines)["device clocks"].state == "note"
    assert [line.action for line in lines if line.action] == [
        "sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"
    ]


def test_doctor_in_a_container_gives_docker_options(tmp_path: Path) -> None:
    root = trees.orin_nano(tmp_path)
    (root / ".dockerenv").touch()
    (root / "dev/nvmap").unlink()
    lines = _device(root)
    assert "in a container" in lines[0].detail
    assert any("docker run --runtime nvidia" in line.action for line in lines)


def test_doctor_says_nothing_of_a_device_elsewhere(tmp_path: Path) -> None:
    assert _device(tmp_path) == []


def test_doctor_lists_power_sources_and_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.import_module("netadapt_trt.power.find")
    monkeypatch.setattr(find, "explain", lambda _: [("ina", False, "no chip"), ("rapl", False, "no counter")])
    lines = _power(tmp_path)
    assert [(line.what, line.state, line.detail) for line in lines] == [
        ("power ina", "missing", "no chip"),
        ("power rapl", "missing", "no counter"),
        ("power", "missing", "no power source works here"),
    ]
    assert "energy budgets" in lines[-1].action
    monkeypatch.setattr(find, "explain", lambda _: [("ina", True, "VDD_IN"), ("rapl", False, "no counter")])
    assert [(line.what, line.state) for line in _power(tmp_path)] == [("power ina", "ok"), ("power rapl", "note")]


def test_doctor_survives_power_sources_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netadapt_trt.power.find", None)
    (line,) = _power(tmp_path)
    assert line.state == "broken"


def test_doctor_examines_this_machine() -> None:
    lines = examine()
    assert {"disk", "processor"} <= set(by_name(lines))
    assert sum(line.what.startswith("power") for line in lines) >= 5
