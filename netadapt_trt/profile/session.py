"""The line that says when and under which circumstances the measurements after it were taken."""

from __future__ import annotations

import platform
import secrets
from importlib.metadata import version
from typing import TYPE_CHECKING

from netadapt_trt.lut.schema import Session
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Identity

__all__ = ["new_session"]


def new_session(identity: Identity, settings: Mapping[str, float], *, watch: bool, progress: Progress) -> Session:
    """Date, clocks, load and versions, for whoever wonders later why two sessions differ.

    ``settings`` say how each cell is timed. With ``watch`` the load of other processes is watched first, for 0.2 s, and
    told when it is high.
    """
    state = machine_state()
    load = other_load() if watch else None
    notice = quiet_notice(load)
    if notice is not None:
        progress.notice(notice)
    return Session(
        id=secrets.token_hex(6),
        date=state.date,
        clocks={
            "governor": state.governor,
            "frequency_mhz": state.frequency_mhz,
            "max_frequency_mhz": state.max_frequency_mhz,
        },
        machine={
            "model": state.model,
            "physical_cores": state.physical_cores,
            "kernel": state.kernel,
            "load_average": state.load_average,
            "other_load": None if load is None else round(load, 2),
        },
        versions={
            "netadapt-trt": version("netadapt-trt"),
            "python": platform.python_version(),
            identity.runtime: identity.runtime_version,
        },
        settings=dict(settings),
    )
