from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.measure.device_checks import CLOCKS_CHANGED, MODE_CHANGED, THROTTLED, below_lock, differences, problems
from netadapt_trt.measure.device_state import ClockDomain, DeviceState, device_state

if TYPE_CHECKING:
    from pathlib import Path

trees: Any = importlib.import_module("jetson_trees")


@pytest.fixture
def locked(tmp_path: Path) -> DeviceState:
    return device_state(trees.orin_nano(tmp_path))


def with_clock(state: DeviceState, name: str, current: float, low: float, high: float) -> DeviceState:
    clock = ClockDomain(current_mhz=current, min_mhz=low, max_mhz=high)
    return replace(state, clocks={**state.clocks, name: clock})


def test_problems_in_a_container_are_for_the_host(tmp_path: Path) -> None:
    root = trees.orin_nano(tmp_path, locked=False)
    (root / ".dockerenv").touch()
    (root / "proc/device-tree/model").unlink()
    (root / "var/lib/nvpmodel/status").unlink()
    found = problems(device_state(root))
    assert [command for _, command in found] == [
        "docker run ... -e NETADAPT_TRT_BOARD=\"$(tr -d '\\0' < /proc/device-tree/model)\"",
        "docker run ... -v /var/lib/nvpmodel:/var/lib/nvpmodel:ro -v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro",
        "on the host: sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks",
    ]
    (root / "dev/nvmap").unlink()
    assert problems(device_state(root))[0] == (
        "the container was started without the GPU",
        "docker run --runtime nvidia ... (JetPack 4 to 6), docker run --gpus all ... (JetPack 7)",
    )
    (root / "etc/nv_tegra_release").unlink()
    # Nothing is left that says Jetson: an ordinary container.
    assert problems(device_state(root)) == []


def test_problems_when_a_container_hides_the_release(tmp_path: Path) -> None:
    root = trees.orin_nano(tmp_path)
    (root / "run").mkdir()
    (root / "run/.containerenv").touch()
    (root / "etc/nv_tegra_release").unlink()
    ((_, command),) = problems(device_state(root))
    assert command == "docker run ... -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"


def test_problems_when_clocks_cannot_be_read(locked: DeviceState) -> None:
    ((what, command),) = problems(replace(locked, clocks={}))
    assert "cannot be read" in what
    assert command == "sudo jetson_clocks --show"
    ((_, command),) = problems(replace(locked, clocks={}, container=True))
    assert command == "docker run ... -v /sys:/sys:ro"


def test_problems_tell_of_a_locked_clock_that_runs_slower(locked: DeviceState) -> None:
    ((what, command),) = problems(with_clock(locked, "gpu", 510.0, 1020.0, 1020.0))
    assert what == "gpu runs at 510 MHz although locked at 1020 MHz: throttled"
    assert command == "sudo jetson_clocks --fan"
    assert problems(with_clock(locked, "gpu", 1019.0, 1020.0, 1020.0)) == []


def test_problems_tell_of_heat_near_the_trip_point(locked: DeviceState) -> None:
    assert problems(replace(locked, temperatures_c={"cpu-thermal": 94.0})) == []
    ((what, command),) = problems(replace(locked, temperatures_c={"cpu-thermal": 94.5, "unknown": 120.0}))
    assert what == "cpu-thermal has 94 degrees C, clocks are cut at 99"
    assert command == "sudo jetson_clocks --fan"


def test_differences_of_a_quiet_measurement_are_none(locked: DeviceState) -> None:
    assert differences(locked, locked) == []
    warmer = replace(locked, temperatures_c={"cpu-thermal": 80.0})
    assert differences(locked, warmer) == []


def test_differences_name_what_moved(locked: DeviceState) -> None:
    after = with_clock(locked, "gpu", 306.0, 306.0, 1020.0)
    after = replace(after, power_mode="15W", power_mode_id=0, cpus_online=4)
    assert differences(locked, after) == [
        (MODE_CHANGED, "the power mode went from MAXN_SUPER to 15W"),
        (MODE_CHANGED, "the number of the power mode went from 2 to 0"),
        (MODE_CHANGED, "the number of running cores went from 6 to 4"),
        (CLOCKS_CHANGED, "the bounds of the gpu clock went from 1020 to 1020 MHz to 306 to 1020 MHz"),
    ]


def test_differences_tell_throttling_by_counters_and_by_clocks(locked: DeviceState) -> None:
    after = with_clock(locked, "cpu4", 864.0, 1728.0, 1728.0)
    after = replace(after, throttle_events={"oc1": 0, "oc2": 2, "oc3": 29})
    assert differences(locked, after) == [
        (THROTTLED, "cpu4 fell to 864 MHz although locked at 1728 MHz"),
        (THROTTLED, "2 times average over-current (oc2) cut the clocks"),
        (THROTTLED, "12 times instantaneous over-current (oc3) cut the clocks"),
    ]


def test_differences_tell_a_clock_that_was_below_its_lock_all_the_time(locked: DeviceState) -> None:
    slow = with_clock(locked, "gpu", 510.0, 1020.0, 1020.0)
    for before, after in ((slow, slow), (slow, locked), (locked, slow)):
        assert differences(before, after) == [(THROTTLED, "gpu fell to 510 MHz although locked at 1020 MHz")]
    assert below_lock(locked) == []


def test_differences_ignore_counters_of_another_boot(locked: DeviceState) -> None:
    after = replace(locked, boot="another", throttle_events={"oc1": 5, "oc2": 5, "oc3": 40})
    assert differences(locked, after) == []
    assert differences(locked, replace(locked, throttle_events={"oc3": 3})) == []  # went down: counted anew


def test_differences_leave_free_clocks_and_unknown_values_alone(locked: DeviceState) -> None:
    free = with_clock(locked, "gpu", 306.0, 306.0, 1020.0)
    assert differences(free, with_clock(locked, "gpu", 1020.0, 306.0, 1020.0)) == []
    assert differences(locked, DeviceState()) == []
    assert differences(DeviceState(), locked) == []
    unknown = replace(locked, clocks={**locked.clocks, "gpu": ClockDomain(current_mhz=306.0)})
    assert differences(locked, unknown) == []
