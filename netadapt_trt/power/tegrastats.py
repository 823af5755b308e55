"""One line of NVIDIA's ``tegrastats``, from JetPack 4 to 7.

Invariant: no text whatever raises. What is not understood is skipped; a line without rails has ``rails == {}``, which means
"no power data" and never "0 W". Formats were learned from lines of 25 devices and releases, which are the test fixtures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from netadapt_trt.power.rails import NOT_CONNECTED

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Clock", "RailReading", "TegrastatsLine", "parse_line"]

# Rails may be called GPU or CPU like temperatures; a blank follows a rail's name, an @ a temperature's. RAM and SWAP have
# "used/total" too: a rail's numbers are followed by nothing or by mW. At most nine digits: more is garbage, not power.
_RAIL = re.compile(
    r"(?<![^ ])([A-Za-z][A-Za-z0-9_]*) "
    r"(-?[0-9]{1,9})(?:mW)?/(-?[0-9]{1,9})(?:mW)?(?:/(-?[0-9]{1,9})(?:mW)?)?(?![^ ])"
)
_TEMPERATURE = re.compile(
    r"(?<![^ ])([A-Za-z][A-Za-z0-9_]*)@(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)C(?:/-?[0-9]{1,4}(?:\.[0-9]{1,6})?C)?(?![^ ])"
)
_STAMP = re.compile(r"([0-9]{2})-([0-9]{2})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?![^ ])")
_CLOCK = r"(?<![^ ]){name} (?:([0-9]{{1,3}})%)?(?:@(?:([0-9]{{1,6}})|\[([0-9]{{1,6}}(?:,[0-9]{{1,6}}){{0,15}})\]))?(?![^ ])"
_GPU = re.compile(_CLOCK.format(name="GR3D_FREQ"))
_MEMORY_CONTROLLER = re.compile(_CLOCK.format(name="EMC_FREQ"))
_CPU = re.compile(r"(?<![^ ])CPU \[([^\]]{1,2000})\](?:@([0-9]{1,6}))?(?![^ ])")
_CORE = re.compile(r"([0-9]{1,3})%(?:@([0-9]{1,6}))?")
_RAM = re.compile(r"(?<![^ ])RAM ([0-9]{1,9})/([0-9]{1,9})MB(?![^ ])")

_SENSOR_OFF_C = -256.0
_PMIC_DUMMIES_C = (50.0, 100.0)  # the power chip has no sensor that is read; it always says one of these


@dataclass(frozen=True, slots=True)
class RailReading:
    """What a line says of one rail, mW. Only ``current`` is of use for a window.

    ``average`` and ``maximum`` (JetPack 7.2) count from the start of the program, so idle time is mixed in; on the first
    line the average of VIN was seen at half its current value.
    """

    current: int
    average: int
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """Load in percent and clocks in MHz (one a cluster). Without root either may be missing; that does not mean idle."""

    load_percent: int | None = None
    mhz: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TegrastatsLine:
    """One line. ``stamp`` is the device's local time (None before JetPack 5).

    ``rails`` keeps the order of the line; unconnected channels (NC) are left out, negative values kept. ``temperatures_c``
    leaves out sensors that are off and the power chip's dummy. ``gpu`` and ``emc`` are None where the line has no such
    field. ``cpu`` has an entry a core, None for a core that is off. ``ram_mb`` is (used, total).
    """

    stamp: datetime | None = None
    rails: Mapping[str, RailReading] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    gpu: Clock | None = None
    emc: Clock | None = None
    cpu: tuple[Clock | None, ...] = ()
    ram_mb: tuple[int, int] | None = None


def parse_line(text: str) -> TegrastatsLine:
    """Read one line; every field that is absent or not understood stays empty. Never raises."""
    text = text.strip()
    ram = _RAM.search(text.partition(" (")[0])
    return TegrastatsLine(
        stamp=_stamp(text),
        rails=_rails(text),
        temperatures_c=_temperatures(text),
        gpu=_clock(_GPU.search(text)),
        emc=_clock(_MEMORY_CONTROLLER.search(text)),
        cpu=_cores(text),
        ram_mb=(int(ram[1]), int(ram[2])) if ram else None,
    )


def _stamp(text: str) -> datetime | None:
    found = _STAMP.match(text)
    if found is None:
        return None
    month, day, year, hour, minute, second = (int(part) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _rails(text: str) -> dict[str, RailReading]:
    rails: dict[str, RailReading] = {}
    for name, current, average, maximum in _RAIL.findall(text):
        if name != NOT_CONNECTED and name not in rails:
            rails[name] = RailReading(int(current), int(average), int(maximum) if maximum else None)
    return rails


def _temperatures(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in _TEMPERATURE.findall(text):
        celsius = float(value)
        dummy = name.upper() == "PMIC" and celsius in _PMIC_DUMMIES_C
        if celsius > _SENSOR_OFF_C and not dummy:
            found.setdefault(name, celsius)
    return found


def _clock(found: re.Match[str] | None) -> Clock | None:
    if found is None or not any(found.groups()):
        return None
    load, one, several = found.groups()
    clocks = several.split(",") if several else [one] if one else []
    return Clock(load_percent=int(load) if load else None, mhz=tuple(int(clock) for clock in clocks))


def _cores(text: str) -> tuple[Clock | None, ...]:
    found = _CPU.search(text)
    if found is None:
        return ()
    cores: list[Clock | None] = []
    for entry in found[1].split(","):
        core = _CORE.fullmatch(entry)
        clock = (core and core[2]) or found[2]
        cores.append(Clock(load_percent=int(core[1]), mhz=(int(clock),) if clock else ()) if core else None)
    return tuple(cores)
