"""Where the power chips of a Jetson show their channels in sysfs, in each of the three layouts.

===========  ==============  ===============================================================  ================
layout       since           folder (under ``/sys``)                                          channels
===========  ==============  ===============================================================  ================
iio          JetPack 4       ``bus/i2c/drivers/ina3221x/BUS-ADDR/iio:deviceN``                 0, 1, 2
hwmon        JetPack 5       ``class/hwmon/hwmonN``, also below ``bus/i2c/drivers/ina3221``    1, 2, 3
ina238       JetPack 7       ``class/hwmon/hwmonN`` (input of the Thor developer kit)          1
===========  ==============  ===============================================================  ================

hwmon numbers change between boots, so chips are found by driver name and channels by label. Sum channels, unconnected and
disabled channels are no rails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netadapt_trt.power.rails import NOT_CONNECTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Channel", "Chip", "find_chips", "read_text"]

_ADDRESS = re.compile(r"([0-9]+)-([0-9a-f]{4})")
_SHUNT_LSB_UV = 40.0  # INA3221 datasheet: one step of the shunt voltage


def read_text(path: Path) -> str:
    """The content of a sysfs file, stripped. Raises OSError as the driver does."""
    return path.read_text(encoding="ascii", errors="replace").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One rail of one chip. Files that this layout lacks are None."""

    rail: str
    voltage: Path
    current: Path
    pair: Path | None = None
    microwatts: Path | None = None
    shunt_uohm: float | None = None

    def power_mw(self, read: Callable[[Path], str]) -> float:
        """Power now, mW, with the sign of the current. Raises OSError or ValueError."""
        if self.pair is not None:  # "mV mA" of one conversion
            millivolt, milliamp = read(self.pair).split()
            return float(int(millivolt) * int(milliamp)) / 1000.0
        if self.microwatts is not None:
            # The chip's power register has no sign; the current has.
            size = abs(int(read(self.microwatts))) / 1000.0
            return -size if int(read(self.current)) < 0 else size
        return float(int(read(self.voltage)) * int(read(self.current))) / 1000.0

    def step_mw(self, read: Callable[[Path], str]) -> float | None:
        """One step of the shunt register at the voltage of now, mW; None where the shunt is not known."""
        if not self.shunt_uohm:
            return None
        step_ma = _SHUNT_LSB_UV * 1000.0 / self.shunt_uohm
        return step_ma * int(read(self.voltage)) / 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One sensor chip: where it sits on the bus, its channels, and what it says of its averaging (None: not said)."""

    layout: Literal["hwmon", "iio", "ina238"]
    address: str
    channels: tuple[Channel, ...]
    samples: int | None = None
    update_interval_ms: float | None = None
    running_mode: int | None = None


def find_chips(root: Path, read: Callable[[Path], str] = read_text) -> list[Chip]:
    """Every power chip below ``root``, by bus and address; chips without a usable channel are left out."""
    found: dict[Path, Chip] = {}
    drivers = root / "sys/bus/i2c/drivers"
    for folder in [
        *sorted((root / "sys/class/hwmon").glob("hwmon*")),
        *sorted(drivers.glob("ina3221/*/hwmon/hwmon*")),
        *sorted(drivers.glob("ina238/*/hwmon/hwmon*")),
    ]:
        kind = _optional(folder / "name", read)
        if kind in ("ina3221", "ina238") and folder.resolve() not in found:
            found[folder.resolve()] = _hwmon_chip(folder, kind, read)
    for folder in sorted(drivers.glob("ina3221x/*/iio*device*")):
        found.setdefault(folder.resolve(), _iio_chip(folder, read))
    return sorted((chip for chip in found.values() if chip.channels), key=lambda chip: _bus_order(chip.address))


def _hwmon_chip(folder: Path, kind: str, read: Callable[[Path], str]) -> Chip:
    numbers = (1, 2, 3) if kind == "ina3221" else (1,)
    return Chip(
        layout="hwmon" if kind == "ina3221" else "ina238",
        address=_address(folder),
        channels=tuple(channel for n in numbers if (channel := _hwmon_channel(folder, n, kind, read))),
        samples=_number(folder / "samples", read),
        update_interval_ms=_number(folder / "update_interval", read),
    )


def _hwmon_channel(folder: Path, n: int, kind: str, read: Callable[[Path], str]) -> Channel | None:
    label = _optional(folder / f"in{n}_label", read)
    if not label and kind == "ina238":
        label = _optional(folder / "label", read)
    if not label or label == NOT_CONNECTED or _optional(folder / f"in{n}_enable", read) == "0":
        return None
    power = folder / f"power{n}_input"
    return Channel(
        rail=label,
        voltage=folder / f"in{n}_input",
        current=folder / f"curr{n}_input",
        microwatts=power if kind == "ina238" and power.exists() else None,
        shunt_uohm=_number(folder / f"shunt{n}_resistor", read) if kind == "ina3221" else None,
    )


def _iio_chip(folder: Path, read: Callable[[Path], str]) -> Chip:
    channels = []
    for n in range(3):
        label = _optional(folder / f"rail_name_{n}", read)
        if label and label != NOT_CONNECTED:
            pair = folder / f"ui_input_{n}"
            channels.append(
                Channel(
                    rail=label,
                    voltage=folder / f"in_voltage{n}_input",
                    current=folder / f"in_current{n}_input",
                    pair=pair if pair.exists() else None,
                )
            )
    return Chip(
        layout="iio",
        address=_address(folder),
        channels=tuple(channels),
        running_mode=_number(folder / "running_mode", read),
    )


def _address(folder: Path) -> str:
    """``1-0040`` from the folder's own place, or from the device it links to; the folder's name where neither says."""
    for place in (folder, folder.resolve(), (folder / "device").resolve()):
        named = [part for part in place.parts if _ADDRESS.fullmatch(part)]
        if named:
            return named[-1]
    return folder.name


def _bus_order(address: str) -> tuple[int, int, str]:
    found = _ADDRESS.fullmatch(address)
    return (int(found[1]), int(found[2], 16), "") if found else (1 << 30, 0, address)


def _optional(path: Path, read: Callable[[Path], str]) -> str | None:
    try:
        return read(path)
    except OSError:
        return None


def _number(path: Path, read: Callable[[Path], str]) -> int | None:
    text = _optional(path, read)
    try:
        return int(text) if text else None
    except ValueError:
        return None
