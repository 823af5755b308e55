"""Fake file trees of boards, for tests of whatever reads a device's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NVPMODEL_CONF", "orin_nano", "write"]

NVPMODEL_CONF = """\
< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=1 >
"""


def write(root: Path, files: dict[str, str]) -> Path:
    """Files below ``root``; returns it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def orin_nano(root: Path, *, locked: bool = True) -> Path:
    """An Orin Nano with L4T 36.4.3: two clusters, one GPU, soctherm counters; the memory clock as a user sees it."""
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:cool\n",
        "etc/nvpmodel.conf": NVPMODEL_CONF,
        "sys/devices/system/cpu/online": "0-5\n",
        "sys/devices/system/cpu/present": "0-5\n",
        "dev/nvmap": "",
        "sys/kernel/nvpmodel_clk_cap/emc": "3199000000\n",
    }
    for policy in (0, 4):
        folder = f"sys/devices/system/cpu/cpufreq/policy{policy}/scaling"
        files |= {
            f"{folder}_cur_freq": "1728000\n" if locked else "729600\n",
            f"{folder}_min_freq": "1728000\n" if locked else "729600\n",
            f"{folder}_max_freq": "1728000\n",
            f"{folder}_governor": "schedutil\n",
        }
    for device, low, high in (("17000000.gpu", 306000000, 1020000000), ("15340000.vic", 115200000, 729600000)):
        folder = f"sys/class/devfreq/{device}"
        low = high if locked else low
        files |= {
            f"{folder}/cur_freq": f"{low}\n",
            f"{folder}/min_freq": f"{low}\n",
            f"{folder}/max_freq": f"{high}\n",
            f"{folder}/governor": "nvhost_podgov\n",
        }
    for number, (zone, milli) in enumerate((("cpu-thermal", 52312), ("gpu-thermal", 50125), ("cv0-thermal", -256000))):
        folder = f"sys/class/thermal/thermal_zone{number}"
        files |= {
            f"{folder}/type": f"{zone}\n",
            f"{folder}/temp": f"{milli}\n",
            f"{folder}/trip_point_0_type": "active\n",
            f"{folder}/trip_point_0_temp": "35000\n",
            f"{folder}/trip_point_1_type": "passive\n",
            f"{folder}/trip_point_1_temp": "99000\n",
            f"{folder}/trip_point_2_type": "critical\n",
            f"{folder}/trip_point_2_temp": "104500\n",
        }
    files |= {
        "sys/class/hwmon/hwmon0/name": "ina3221\n",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc1_throt_en": "1\n",
        "sys/class/hwmon/hwmon3/oc2_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "17\n",
    }
    return write(root, files)
