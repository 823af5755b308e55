"""What is wrong with a device's state, with the exact command that mends it, and what changed under a measurement.

Commands are for a person to run, on the host where this runs in a container; nothing here changes a clock. The order is
that of NVIDIA's tools: power mode first, ``jetson_clocks`` after it, because setting the mode undoes the clocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netadapt_trt.measure.machine import BOARD_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.measure.device_state import ClockDomain, DeviceState

__all__ = [
    "CLOCKS_CHANGED",
    "LOCK_CLOCKS",
    "MODE_CHANGED",
    "THROTTLED",
    "Change",
    "Problem",
    "below_lock",
    "differences",
    "problems",
]

CLOCKS_CHANGED, MODE_CHANGED, THROTTLED = "clocks_changed", "power_mode_changed", "throttled"
LOCK_CLOCKS = "sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"
"""Afterwards ``sudo jetson_clocks --restore ~/clocks.before`` gives the old state back."""

_COOL = "sudo jetson_clocks --fan"
_NEAR_TRIP_C = 5.0
_BELOW_LOCK = 0.98  # a clock is read while it is being set, and in other steps than it was asked for


class Problem(NamedTuple):
    """Something that makes figures worse than they could be, and the command (or option) that mends it."""

    what: str
    command: str


class Change(NamedTuple):
    """Something that moved under a measurement: the flag that its cells get, and the words."""

    flag: str
    what: str


def problems(state: DeviceState) -> list[Problem]:
    """Everything to mend before measuring on this Jetson, in the order to do it; [] for any other machine."""
    if not state.jetson:
        return []
    found = [*_identity(state), *_mode(state), *_clocks(state), *_heat(state)]
    where = "on the host: " if state.container else ""
    return [Problem(what, command if command.startswith("docker run") else where + command) for what, command in found]


def _identity(state: DeviceState) -> list[Problem]:
    if not state.container:
        return []
    found = []
    if not state.gpu_visible:
        command = "docker run --runtime nvidia ... (JetPack 4 to 6), docker run --gpus all ... (JetPack 7)"
        found.append(Problem("the container was started without the GPU", command))
    if state.l4t is None:
        command = "docker run ... -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
        found.append(Problem("the container does not show the L4T release", command))
    if state.board is None:
        command = f"docker run ... -e {BOARD_VARIABLE}=\"$(tr -d '\\0' < /proc/device-tree/model)\""
        found.append(Problem("the container hides the name of the board", command))
    return found


def _mode(state: DeviceState) -> list[Problem]:
    if state.power_mode is not None or state.power_mode_id is not None:
        return []
    if state.container:
        files = ("/var/lib/nvpmodel", "/etc/nvpmodel.conf")
        command = "docker run ... " + " ".join(f"-v {file}:{file}:ro" for file in files)
        return [Problem("the power mode cannot be read in the container", command)]
    return [Problem("the power mode cannot be read", "sudo nvpmodel -q")]


def _clocks(state: DeviceState) -> list[Problem]:
    free = {name: clock for name, clock in state.clocks.items() if clock.locked is False}
    found = []
    if free:
        words = ", ".join(f"{name} {_range(clock)}" for name, clock in free.items())
        found.append(Problem(f"clocks are not locked ({words})", LOCK_CLOCKS))
    if not any(name != "emc" and clock.locked is not None for name, clock in state.clocks.items()):
        command = "docker run ... -v /sys:/sys:ro" if state.container else "sudo jetson_clocks --show"
        found.append(Problem("clocks cannot be read, so nobody knows whether they are locked", command))
    for name, clock in state.clocks.items():
        if _is_below(clock):
            what = f"{name} runs at {clock.current_mhz:.0f} MHz although locked at {clock.min_mhz:.0f} MHz: throttled"
            found.append(Problem(what, _COOL))
    return found


def _heat(state: DeviceState) -> list[Problem]:
    return [
        Problem(
            f"{zone} has {degrees:.0f} degrees C, clocks are cut at {state.trips_c[zone]:.0f}",
            _COOL,
        )
        for zone, degrees in state.temperatures_c.items()
        if zone in state.trips_c and degrees > state.trips_c[zone] - _NEAR_TRIP_C
    ]


def _range(clock: ClockDomain) -> str:
    return f"{clock.min_mhz:.0f} to {clock.max_mhz:.0f} MHz"


def _is_below(clock: ClockDomain) -> bool:
    if not clock.locked or clock.current_mhz is None or clock.min_mhz is None:
        return False
    return clock.current_mhz < _BELOW_LOCK * clock.min_mhz


def below_lock(state: DeviceState) -> list[Change]:
    """Clocks that are slower now than they are locked at."""
    return [
        Change(THROTTLED, f"{name} fell to {clock.current_mhz:.0f} MHz although locked at {clock.min_mhz:.0f} MHz")
        for name, clock in state.clocks.items()
        if _is_below(clock)
    ]


def differences(before: DeviceState, after: DeviceState) -> list[Change]:
    """What moved between two readings around a measurement; [] when it may be trusted.

    A clock that its governor moves within unchanged bounds is no change: unlocked clocks do that all the time, and
    :func:`problems` tells. One below its lock in either reading is, also where it was in both. Values that one of the two
    readings lacks are not compared.
    """
    found = []
    for name, mine, theirs in (
        ("power mode", before.power_mode, after.power_mode),
        ("number of the power mode", before.power_mode_id, after.power_mode_id),
        ("number of running cores", before.cpus_online, after.cpus_online),
    ):
        if None not in (mine, theirs) and mine != theirs:
            found.append(Change(MODE_CHANGED, f"the {name} went from {mine} to {theirs}"))
    for name in _common(before.clocks, after.clocks):
        found += _clock_changes(name, before.clocks[name], after.clocks[name])
    return [*found, *(below_lock(after) or below_lock(before)), *_throttling(before, after)]


def _common(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [name for name in before if name in after]


def _clock_changes(name: str, before: ClockDomain, after: ClockDomain) -> list[Change]:
    if before.locked is None or after.locked is None:
        return []
    if (before.min_mhz, before.max_mhz) != (after.min_mhz, after.max_mhz):
        return [Change(CLOCKS_CHANGED, f"the bounds of the {name} clock went from {_range(before)} to {_range(after)}")]
    return []


def _throttling(before: DeviceState, after: DeviceState) -> list[Change]:
    """Counters go up while the board runs; one that is lower than before started anew."""
    if before.boot != after.boot:
        return []
    words = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
    found = []
    for name in _common(before.throttle_events, after.throttle_events):
        events = after.throttle_events[name] - before.throttle_events[name]
        if events > 0:
            found.append(Change(THROTTLED, f"{events} times {words.get(name, name)} ({name}) cut the clocks"))
    return found
