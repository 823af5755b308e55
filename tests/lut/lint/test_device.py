from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.lint.device import FLAG_ACTIONS, device_findings
from netadapt_trt.lut.schema import Cell, Session
from netadapt_trt.lut.store import Lut
from netadapt_trt.measure import device_checks
from netadapt_trt.spec import EnergyStats, Identity

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK = "sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"


@pytest.fixture
def make(identity: Identity) -> Callable[..., Lut]:
    """A table of sessions, one a day."""

    def table(*sessions: dict[str, Any]) -> Lut:
        lut = Lut(identity)
        for day, values in enumerate(sessions, 1):
            lut.add(Session(id=f"s{day}", date=f"2026-01-{day:02}T00:00:00+00:00", **values))
        return lut

    return table


def clocks(gpu_low: float, gpu_high: float, **more: Any) -> dict[str, Any]:
    locked = "yes" if gpu_low == gpu_high else "no"
    values = {"locked": locked, "governor": "schedutil", "gpu_mhz": gpu_low, "gpu_min_mhz": gpu_low, "gpu_max_mhz": gpu_high}
    return {"clocks": values | {"cpu0_min_mhz": 1728.0, "cpu0_max_mhz": 1728.0}, **more}


def test_device_findings_of_sound_sessions_are_none(make: Callable[..., Lut]) -> None:
    sound = clocks(1020.0, 1020.0, power_mode="MAXN")
    assert device_findings(make(sound, sound)) == []
    assert device_findings(make({}, {"clocks": {"governor": "powersave"}})) == []
    # With locked clocks the governor does not matter.
    assert not any("governor" in finding.text for finding in check(make(sound)))


def test_device_findings_name_unlocked_clocks(make: Callable[..., Lut]) -> None:
    (found,) = device_findings(make(clocks(1020.0, 1020.0), clocks(306.0, 1020.0)))
    assert found.severity == "warning"
    assert found.text == "1 of 2 sessions were measured with unlocked clocks (gpu 306 to 1020 MHz)"
    assert found.action == f"on the device: {LOCK}; then measure into a new LUT"


def test_device_findings_name_mixed_power_modes(make: Callable[..., Lut]) -> None:
    (found,) = device_findings(
        make(
            {"power_mode": "15W", "machine": {"power_mode_id": 0}},
            {"power_mode": "MAXN", "machine": {"power_mode_id": 2}},
            {"power_mode": "MAXN", "machine": {"power_mode_id": 2}},
            {},
        )
    )
    assert found.text == "sessions were measured in different power modes (MAXN 2 times, 15W 1 times)"
    assert found.action == f"keep one LUT per mode; for MAXN, on the device: sudo nvpmodel -m 2 && {LOCK}"


def test_device_findings_name_locks_at_different_clocks(make: Callable[..., Lut]) -> None:
    first, second = clocks(1020.0, 1020.0, power_mode="MAXN"), clocks(612.0, 612.0, power_mode="MAXN")
    (found,) = device_findings(make(first, second))
    assert found.text == "gpu was locked at 612 and 1020 MHz in power mode MAXN"
    assert LOCK in found.action


def test_device_findings_count_throttling_between_sessions_of_one_boot(make: Callable[..., Lut]) -> None:
    def counted(boot: str, oc1: int, oc3: int) -> dict[str, Any]:
        return {"machine": {"boot": boot, "oc1_events": oc1, "oc3_events": oc3}}

    assert device_findings(make(counted("a", 0, 17), counted("a", 0, 17), counted("b", 0, 90))) == []
    (found,) = device_findings(make(counted("a", 0, 17), counted("a", 1, 20), counted("b", 5, 0), counted("b", 5, 4)))
    assert found.text == "over-current or under-voltage cut the clocks between sessions (oc1 1 times, oc3 7 times)"
    assert "sudo jetson_clocks --fan" in found.action


def test_flags_of_a_moving_device_have_their_commands(make: Callable[..., Lut]) -> None:
    flags = (device_checks.THROTTLED, device_checks.CLOCKS_CHANGED, device_checks.MODE_CHANGED)
    assert set(FLAG_ACTIONS) == set(flags)
    assert device_checks.LOCK_CLOCKS == LOCK
    lut = make({})
    for width, flag in enumerate(flags, 1):
        energy = EnergyStats(total=1.0)
        lut.add(Cell(layer="conv", widths=(width,), session="s1", energy_mj=energy, flags=(flag,)))
    actions = {finding.text: finding.action for finding in check(lut)}
    assert "jetson_clocks --fan" in actions["1 cell is flagged throttled"]
    assert LOCK in actions["1 cell is flagged clocks_changed"]
    assert "nvpmodel" in actions["1 cell is flagged power_mode_changed"]


def test_check_is_in_the_order_of_severity(make: Callable[..., Lut]) -> None:
    severities = [finding.severity for finding in check(make(clocks(306.0, 1020.0)))]
    assert severities == ["error", "warning"]  # no cell, unlocked clocks
