"""The line that says when and under which circumstances the measurements after it were taken."""

from __future__ import annotations

import platform
import secrets
from importlib.metadata import version
from typing import TYPE_CHECKING

from netadapt_trt.lut.schema import Session
from netadapt_trt.measure.device_state import device_state, problems
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice
from netadapt_trt.profile.lines import scalar, scalars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.measure.device_state import DeviceState
    from netadapt_trt.power.source import PowerSource
    from netadapt_trt.profile.lines import Scalar
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Identity

__all__ = ["new_session"]


def new_session(
    identity: Identity,
    settings: Mapping[str, float],
    *,
    watch: bool,
    progress: Progress,
    source: PowerSource | None = None,
    device: DeviceState | None = None,
) -> Session:
    """Date, clocks, load and versions, for whoever wonders later why two sessions differ.

    ``settings`` say how each cell is timed. With ``watch`` the load of other processes is watched first, for 0.2 s, and
    what disturbs a measurement here is told: that load, and on a Jetson whatever :func:`problems` finds, with the command
    that mends it. ``source``: the power source, entered. ``device``: its state, read now by default.
    """
    state = machine_state()
    device = device_state() if device is None else device
    load = other_load() if watch else None
    notice = quiet_notice(load)
    if notice is not None:
        progress.notice(notice)
    if watch:
        for problem in problems(device):
            progress.notice(f"{problem.what}; to mend it: {problem.command}")
    return Session(
        id=secrets.token_hex(6),
        date=state.date,
        clocks={
            "governor": state.governor,
            "frequency_mhz": state.frequency_mhz,
            "max_frequency_mhz": state.max_frequency_mhz,
            **scalars(_device_clocks(device)),
        },
        machine={
            "model": state.model,
            "physical_cores": state.physical_cores,
            "kernel": state.kernel,
            "load_average": state.load_average,
            "other_load": None if load is None else round(load, 2),
            **scalars(_device_values(device)),
        },
        versions={
            "netadapt-trt": version("netadapt-trt"),
            "python": platform.python_version(),
            identity.runtime: identity.runtime_version,
        },
        settings=dict(settings),
        power_mode=_mode(device),
        power_source=None if source is None else source.name,
        rails=() if source is None else source.rails,
        sensor_step_mw=None if source is None else source.step_mw,
        power={} if source is None else _power_values(source),
    )


def _device_clocks(device: DeviceState) -> dict[str, Scalar]:
    """Each clock with its bounds, and whether all are locked; nothing on a machine that is no Jetson."""
    if not device.jetson:
        return {}
    found: dict[str, Scalar] = {"locked": scalar(device.locked)}
    for name, clock in device.clocks.items():
        found |= {f"{name}_mhz": clock.current_mhz, f"{name}_min_mhz": clock.min_mhz, f"{name}_max_mhz": clock.max_mhz}
    return found


def _mode(device: DeviceState) -> str | None:
    if device.power_mode is not None:
        return str(scalar(device.power_mode))
    return None if device.power_mode_id is None else f"mode {device.power_mode_id}"


def _device_values(device: DeviceState) -> dict[str, Scalar]:
    if not device.jetson:
        return {}
    return {
        "board": device.board,
        "l4t": device.l4t,
        "power_mode_id": device.power_mode_id,
        "cpus_online": device.cpus_online,
        "container": scalar(device.container),
        "boot": device.boot,
        **{f"{zone}_c": degrees for zone, degrees in device.temperatures_c.items()},
        **{f"{name}_events": count for name, count in device.throttle_events.items()},
    }


def _power_values(source: PowerSource) -> dict[str, Scalar]:
    """What the source says about itself, in values that a line of a LUT takes."""
    said = {"time_constant_s": source.time_constant_s, "interval_s": source.interval_s, **source.details()}
    return scalars(said)
