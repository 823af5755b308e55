"""Fake sysfs trees of power chips, laid out like the drivers': a device folder, and links to it from class and driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Rail", "hwmon_ina238", "hwmon_ina3221", "iio_ina3221", "rapl"]

Rail = tuple[str, int, int]
"""Label, millivolts, milliamperes."""


def _write(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def _device(root: Path, address: str, driver: str) -> Path:
    bus = address.split("-", maxsplit=1)[0]
    device = root / f"sys/devices/platform/bus@0/c240000.i2c/i2c-{bus}/{address}"
    device.mkdir(parents=True)
    _link(root / f"sys/bus/i2c/drivers/{driver}/{address}", device)
    return device


def hwmon_ina3221(root: Path, address: str, rails: list[Rail], *, number: int, shunt_uohm: int = 5000) -> Path:
    """JetPack 5 and later; channels 1 to 3, and the sum channel that is no rail. Returns its folder."""
    device = _device(root, address, "ina3221")
    folder = device / f"hwmon/hwmon{number}"
    files: dict[str, object] = {"name": "ina3221", "samples": 512, "update_interval": 430}
    for channel, (label, millivolt, milliamp) in enumerate(rails, start=1):
        files |= {
            f"in{channel}_label": label,
            f"in{channel}_input": millivolt,
            f"in{channel}_enable": 1,
            f"curr{channel}_input": milliamp,
            f"curr{channel}_max": 32760,
            f"curr{channel}_crit": 32760,
            f"shunt{channel}_resistor": shunt_uohm,
            f"in{channel + 3}_input": milliamp * shunt_uohm // 1000,
        }
    files |= {"in7_label": "sum of shunt voltages", "in7_input": 99999, "in7_enable": 1, "curr4_input": 99999}
    _write(folder, files)
    _link(folder / "device", device)
    _link(root / f"sys/class/hwmon/hwmon{number}", folder)
    return folder


def hwmon_ina238(root: Path, address: str, rail: Rail, *, number: int) -> Path:
    """The input sensor of the Thor developer kit: power in microwatts, without a sign."""
    device = _device(root, address, "ina238")
    folder = device / f"hwmon/hwmon{number}"
    label, millivolt, milliamp = rail
    _write(
        folder,
        {
            "name": "ina238",
            "in0_input": 1,
            "in1_label": label,
            "in1_input": millivolt,
            "curr1_input": milliamp,
            "power1_input": millivolt * abs(milliamp),
            "temp1_input": 40000,
        },
    )
    _link(folder / "device", device)
    _link(root / f"sys/class/hwmon/hwmon{number}", folder)
    return folder


def iio_ina3221(root: Path, address: str, rails: list[Rail], *, number: int) -> Path:
    """JetPack 4; channels 0 to 2."""
    folder = _device(root, address, "ina3221x") / f"iio:device{number}"
    files: dict[str, object] = {"name": "ina3221x", "running_mode": 1, "in_current_sum_input": "99999 ma"}
    for channel, (label, millivolt, milliamp) in enumerate(rails):
        files |= {
            f"rail_name_{channel}": label,
            f"in_voltage{channel}_input": millivolt,
            f"in_current{channel}_input": milliamp,
            f"in_power{channel}_input": millivolt * milliamp // 1000,
            f"ui_input_{channel}": f"{millivolt} {milliamp}",
            f"in_current{channel}_trigger_input": 0,
            f"in_power{channel}_trigger_input": 0,
            f"warn_current_limit_{channel}": "32760 ma",
            f"polling_delay_{channel}": "0 ms",
        }
    _write(folder, files)
    return folder


def rapl(root: Path, domains: dict[str, tuple[str, int]], *, range_uj: int = 262_143_328_850) -> None:
    """``domains``: folder below powercap ("intel-rapl:0/intel-rapl:0:0") -> (name, energy_uj)."""
    for place, (name, energy) in domains.items():
        _write(
            root / "sys/class/powercap" / place,
            {"name": name, "energy_uj": energy, "max_energy_range_uj": range_uj, "enabled": 1},
        )
