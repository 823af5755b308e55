"""What this computer is, and whether it is quiet enough to time anything: read from /proc and /sys, nothing assumed.

Every function takes ``root`` (the directory that holds proc/ and sys/) so that other machines can be tried from their files.
A value that cannot be read is None, never a guess.
"""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.spec import Identity

__all__ = [
    "BOARD_VARIABLE",
    "BUSY_SHARE",
    "MachineState",
    "board_model",
    "device_slug",
    "machine_model",
    "machine_state",
    "other_load",
    "physical_cores",
    "quiet_notice",
    "utc_now",
]

BOARD_VARIABLE = "NETADAPT_TRT_BOARD"
BUSY_SHARE = 0.2  # of one core; what another process may take before timings should carry a warning
_ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """What a session of measurements notes about the machine. Frequencies in MHz, load averaged over a minute."""

    date: str
    model: str
    physical_cores: int
    governor: str | None
    frequency_mhz: float | None
    max_frequency_mhz: float | None
    load_average: float | None
    kernel: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def machine_state(root: Path = _ROOT) -> MachineState:
    """Everything readable here, now."""
    cpufreq = root / "sys/devices/system/cpu" / f"cpu{min(_usable_cpus(root))}" / "cpufreq"
    loadavg = _read(root / "proc/loadavg")
    return MachineState(
        date=utc_now(),
        model=machine_model(root),
        physical_cores=physical_cores(root),
        governor=_read(cpufreq / "scaling_governor"),
        frequency_mhz=_megahertz(_read(cpufreq / "scaling_cur_freq")),
        max_frequency_mhz=_megahertz(_read(cpufreq / "scaling_max_freq")),
        load_average=float(loadavg.split()[0]) if loadavg else None,
        kernel=f"{platform.system()} {platform.release()}",
    )


def machine_model(root: Path = _ROOT) -> str:
    """The device as its system reports it: the board's name on a device tree (Jetson, Raspberry Pi), else the processor's.

    Virtual machines often hide the number of the processor behind a family name; family and model are then added, because
    tables of two such processors must not be mixed.
    """
    board = board_model(root)
    if board:
        return board
    fields = _cpuinfo(_read(root / "proc/cpuinfo") or "")
    for key in ("Model", "model name", "Hardware", "cpu model", "cpu"):
        name = " ".join(fields.get(key, "").split())
        if not name:
            continue
        if key == "model name" and not re.search(r"\d", name) and "model" in fields:
            name += f" family {fields.get('cpu family', '?')} model {fields['model']}"
        return name
    return platform.processor() or platform.machine() or "unknown"


def board_model(root: Path = _ROOT) -> str | None:
    """The board's name in the device tree; None where there is none.

    Containers hide the device tree; there the environment variable NETADAPT_TRT_BOARD may say what the host read.
    """
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        found = _read(root / path)
        if found:
            return found
    return os.environ.get(BOARD_VARIABLE, "").strip("\0 \n") or None if root == _ROOT else None


def physical_cores(root: Path = _ROOT) -> int:
    """Cores this process may use: its affinity with hyper-threads counted once, and the quota of its control group."""
    usable = _usable_cpus(root)
    siblings = set()
    for cpu in usable:
        topology = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        own = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
        siblings.add(own or str(cpu))
    quota = _cpu_quota(root)
    cores = len(siblings) if quota is None else min(len(siblings), int(quota))
    return max(1, cores)


def device_slug(identity: Identity) -> str:
    """The folder of a device below ``luts/``: its model in lower case, words joined by hyphens."""
    text = re.sub(r"\((r|tm|c)\)", " ", identity.device.lower())
    text = re.sub(r"@.*|\bcpu\b|\bprocessor\b|\bwith radeon.*", " ", text)
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-") or "unknown"


def other_load(
    seconds: float = 0.2,
    *,
    root: Path = _ROOT,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Cores that others keep busy (0.5 = half of one), seen over ``seconds`` while this process sleeps.

    Counts the processors this process may use, and what a hypervisor withholds of them. None where /proc/stat is missing.
    """
    cpus = _usable_cpus(root)
    before, mine_before = _jiffies(root, cpus), sum(os.times()[:4])
    sleep(seconds)
    after, mine_after = _jiffies(root, cpus), sum(os.times()[:4])
    if before is None or after is None:
        return None
    passed = sum(after) - sum(before)
    if passed <= 0:
        return None
    busy = len(cpus) * (after[0] - before[0]) / passed
    return max(0.0, busy - (mine_after - mine_before) / seconds)


def quiet_notice(load: float | None) -> str | None:
    """What to tell the user about :func:`other_load`; None when the machine is quiet or cannot be watched."""
    if load is None or load <= BUSY_SHARE:
        return None
    return (
        f"other processes keep {load:.1f} cores busy; timings will be too long and scatter. "
        "Stop them, or measure again when the machine is idle"
    )


def _read(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None
    return text or None


def _cpuinfo(text: str) -> dict[str, str]:
    """Fields of /proc/cpuinfo, the first of each name. ARM boards write the board's ``Model`` once, at the end."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _usable_cpus(root: Path) -> tuple[int, ...]:
    if root == _ROOT and hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    listed = sorted(
        int(path.name[3:]) for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*") if path.name[3:].isdecimal()
    )
    return tuple(listed) or tuple(range(os.cpu_count() or 1))


def _cpu_quota(root: Path) -> float | None:
    """Cores that the control group of this process, or one above it, allows; None without a limit."""
    groups = root / "sys/fs/cgroup"
    quotas = []
    own = re.search(r"^0::(/.*)$", _read(root / "proc/self/cgroup") or "", re.MULTILINE)
    path = groups / (own[1].strip("/") if own else "")
    for directory in (path, *path.parents):
        limit, _, period = (_read(directory / "cpu.max") or "").partition(" ")
        if limit.isdecimal() and period.isdecimal():
            quotas.append(int(limit) / int(period))
        if directory == groups:
            break
    for controller in ("cpu", "cpu,cpuacct"):
        v1_limit, v1_period = (_read(groups / controller / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
        if v1_limit and v1_period and v1_limit.isdecimal():
            quotas.append(int(v1_limit) / int(v1_period))
    return min(quotas, default=None)


def _jiffies(root: Path, cpus: tuple[int, ...]) -> tuple[int, int] | None:
    """(busy, idle) clock ticks of these processors since boot. Guest time is inside user time and not counted again."""
    busy = idle = 0
    wanted = {f"cpu{cpu}" for cpu in cpus}
    for line in (_read(root / "proc/stat") or "").splitlines():
        name, *values = line.split()
        if name in wanted:
            ticks = [int(value) for value in values[:8]]
            resting = sum(ticks[3:5])
            idle += resting
            busy += sum(ticks) - resting
    return (busy, idle) if busy + idle else None


def _megahertz(kilohertz: str | None) -> float | None:
    return int(kilohertz) / 1000 if kilohertz and kilohertz.isdecimal() else None
