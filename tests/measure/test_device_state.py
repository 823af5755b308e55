"""Reading a Jetson's state from trees of files, its judgement, and what moved between two readings."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.measure.device_state import (
    ClockDomain,
    DeviceState,
    device_state,
    is_jetson,
    no_query,
    parse_nvpmodel,
    problems,
    query_nvpmodel,
)

if TYPE_CHECKING:
    from pathlib import Path

trees: Any = importlib.import_module("jetson_trees")

LOCK = "sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    tree: Path = trees.orin_nano(tmp_path)
    return tree


def test_device_state_of_a_locked_orin(orin: Path) -> None:
    state = device_state(orin, query=lambda: "NV Power Mode: MAXN_SUPER\n2\n")
    assert state.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (state.l4t, state.power_mode, state.power_mode_id) == ("36.4.3", "MAXN_SUPER", 2)
    assert list(state.clocks) == ["cpu0", "cpu4", "gpu", "emc"]
    assert state.clocks["cpu0"] == ClockDomain(current_mhz=1728.0, min_mhz=1728.0, max_mhz=1728.0, governor="schedutil")
    gpu = state.clocks["gpu"]
    assert (gpu.current_mhz, gpu.min_mhz, gpu.max_mhz, gpu.locked) == (1020.0, 1020.0, 1020.0, True)
    assert state.clocks["emc"] == ClockDomain(max_mhz=3199.0)
    assert state.temperatures_c == {"cpu-thermal": 52.312, "gpu-thermal": 50.125}  # the third zone is off
    assert state.trips_c["cpu-thermal"] == 99.0
    assert state.throttle_events == {"oc1": 0, "oc2": 0, "oc3": 17}
    assert (state.cpus_online, state.cpus_present, state.container) == (6, 6, False)
    assert state.jetson
    assert state.locked is True
    assert problems(state) == []


def test_device_state_of_unlocked_clocks_names_domains_and_command(tmp_path: Path) -> None:
    state = device_state(trees.orin_nano(tmp_path, locked=False))
    assert state.locked is False
    (found,) = problems(state)
    assert found.what == ("clocks are not locked (cpu0 730 to 1728 MHz, cpu4 730 to 1728 MHz, gpu 306 to 1020 MHz)")
    assert found.command == LOCK


def test_device_state_reads_the_mode_from_files_without_the_program(orin: Path) -> None:
    state = device_state(orin, query=no_query)
    assert (state.power_mode, state.power_mode_id) == ("MAXN_SUPER", 2)
    (orin / "etc/nvpmodel.conf").unlink()
    state = device_state(orin)
    assert (state.power_mode, state.power_mode_id) == (None, 2)
    assert problems(state) == []
    (orin / "var/lib/nvpmodel/status").unlink()
    assert problems(device_state(orin)) == [("the power mode cannot be read", "sudo nvpmodel -q")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NV Power Mode: MAXN\n0\n", ("MAXN", 0)),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n2\n", ("15W", 2)),
        ("NV Power Mode: MODE_10W_DESKTOP\r\n5\r\n", ("MODE_10W_DESKTOP", 5)),
        ("NV Power Mode: MAXN\nsomething else\n0\n", ("MAXN", None)),
        ("NV Power Mode: 30W", ("30W", None)),
        ("NV Power Mode:\n0\n", (None, None)),
        ("NVPM ERROR: Error opening /etc/nvpmodel.conf\n", (None, None)),
        ("", (None, None)),
        ("\x00\xff garbage", (None, None)),
    ],
)
def test_parse_nvpmodel(text: str, expected: tuple[str | None, int | None]) -> None:
    assert parse_nvpmodel(text) == expected


def program(folder: Path, body: str) -> None:
    folder.mkdir()
    (folder / "nvpmodel").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "nvpmodel").chmod(0o755)


def test_query_nvpmodel_runs_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It also asks a question, as some versions do; nobody answers.
    program(tmp_path / "bin", 'test "$1" = -q || exit 3\nread answer\nprintf "NV Power Mode: MAXN\\n0\\n"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert query_nvpmodel() == "NV Power Mode: MAXN\n0\n"


def test_query_nvpmodel_is_none_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query_nvpmodel() is None


def test_query_nvpmodel_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("netadapt_trt.measure.device_state._NVPMODEL_TIMEOUT_S", 0.1)
    assert query_nvpmodel() is None


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("17000000.gpu", None),
        ("17000000.ga10b", None),
        ("17000000.gv11b", None),
        ("57000000.gpu", None),
        ("gpu-gpc-0", None),
        ("devfreq0", "17000000.gpu"),
    ],
)
def test_device_state_finds_the_gpu_clock_of_every_board(tmp_path: Path, device: str, name: str | None) -> None:
    folder = f"sys/class/devfreq/{device}"
    files = {f"{folder}/{part}_freq": f"{mhz}000000\n" for part, mhz in (("cur", 500), ("min", 100), ("max", 900))}
    files |= {"sys/class/devfreq/gpu-nvd-0/cur_freq": "1\n", "sys/class/devfreq/15340000.vic/cur_freq": "2\n"}
    trees.write(tmp_path, files if name is None else {**files, f"{folder}/name": name})
    clock = device_state(tmp_path).clocks["gpu"]
    assert (clock.current_mhz, clock.min_mhz, clock.max_mhz, clock.locked) == (500.0, 100.0, 900.0, False)


def test_device_state_sees_a_locked_memory_clock(orin: Path) -> None:
    emc = "sys/kernel/debug/bpmp/debug/clk/emc"
    trees.write(orin, {f"{emc}/rate": "3199000000", f"{emc}/min_rate": "204000000", f"{emc}/max_rate": "3199000000"})
    state = device_state(orin)
    assert state.clocks["emc"].locked is False
    assert [found.what for found in problems(state)] == ["clocks are not locked (emc 204 to 3199 MHz)"]
    trees.write(orin, {f"{emc}/mrq_rate_locked": "1\n"})
    assert device_state(orin).clocks["emc"] == ClockDomain(current_mhz=3199.0, min_mhz=3199.0, max_mhz=3199.0)


def test_device_state_without_policies_takes_each_core(tmp_path: Path) -> None:
    for cpu in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling"
        trees.write(tmp_path, {f"{folder}_{part}_freq": "1479000\n" for part in ("cur", "min", "max")})
    (tmp_path / "sys/devices/system/cpu/cpu2").mkdir()  # off
    state = device_state(tmp_path)
    assert {name: clock.locked for name, clock in state.clocks.items()} == {"cpu0": True, "cpu1": True}


def test_device_state_of_nothing_is_all_unknown(tmp_path: Path) -> None:
    state = device_state(tmp_path)
    assert state == DeviceState()
    assert (state.jetson, state.locked) == (False, None)
    assert problems(state) == []
    assert not is_jetson(tmp_path)


def test_device_state_of_damaged_files_leaves_them_out(orin: Path) -> None:
    trees.write(
        orin,
        {
            "etc/nv_tegra_release": "nothing known",
            "var/lib/nvpmodel/status": "\x00",
            "sys/devices/system/cpu/online": "0-\n",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "<unsupported>\n",
            "sys/class/devfreq/17000000.gpu/min_freq": "",
            "sys/class/thermal/thermal_zone0/temp": "hot\n",
            "sys/class/hwmon/hwmon3/oc3_event_cnt": "-1\n",
        },
    )
    state = device_state(orin)
    assert (state.l4t, state.power_mode, state.cpus_online) == (None, None, None)
    assert set(state.clocks) == {"cpu4", "gpu", "emc"}
    assert state.clocks["gpu"].locked is None
    assert state.locked is None  # the GPU's may or may not be
    assert set(state.temperatures_c) == {"gpu-thermal"}
    assert set(state.throttle_events) == {"oc1", "oc2"}


def test_device_state_works_on_this_machine() -> None:
    state = device_state()
    assert set(state.to_json()) == set(DeviceState.__dataclass_fields__)


def test_to_json_is_plain(orin: Path) -> None:
    content = device_state(orin).to_json()
    assert content["clocks"]["gpu"] == {
        "current_mhz": 1020.0, "min_mhz": 1020.0, "max_mhz": 1020.0, "governor": "nvhost_podgov",
    }  # fmt: skip
    assert content["throttle_events"] == {"oc1": 0, "oc2": 0, "oc3": 17}
