"""The state of a Jetson that decides what a measurement is worth: power mode, clocks, temperatures, throttling.

Everything is read, from files below ``root`` and from ``nvpmodel -q``; nothing is ever changed here, and what cannot be
read is None or absent, never a guess. :mod:`netadapt_trt.measure.device_checks` judges it.

Where the values live differs by board and release, so clocks are found by the name of the driver or device, never by index.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.measure.device_checks import Change, Problem, differences, problems
from netadapt_trt.measure.machine import board_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Change",
    "ClockDomain",
    "DeviceState",
    "Problem",
    "device_state",
    "differences",
    "in_container",
    "is_jetson",
    "no_query",
    "parse_nvpmodel",
    "problems",
    "query_nvpmodel",
]

_ROOT = Path("/")
_NVPMODEL_TIMEOUT_S = 5.0
_POWERED_OFF_C = -100.0  # a zone that is off reads -256
_GPU_FILES = ("nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu", "nvmap", "nvidia0")
_GPU_DEVICES = re.compile(r"(^|\.)(gpu|ga10b|gv11b|gp10b|gm20b|gb10b)$|^gpu-gpc-\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDomain:
    """One clock in MHz: now, and the bounds between which its governor may move it."""

    current_mhz: float | None = None
    min_mhz: float | None = None
    max_mhz: float | None = None
    governor: str | None = None

    @property
    def locked(self) -> bool | None:
        """Whether the bounds are equal; None where they cannot be read."""
        if self.min_mhz is None or self.max_mhz is None:
            return None
        return self.min_mhz == self.max_mhz


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What could be read. Clocks by domain (``cpu0``, ``cpu4`` ... per policy, ``gpu``, ``emc``), temperatures in degrees C.

    ``trips_c`` holds the lowest temperature of each zone at which its clocks are cut. ``throttle_events`` count from
    ``boot`` on (that boot's id). ``gpu_visible``: the GPU's device files are there, which a container shows only on request.
    ``power_mode`` is the name nvpmodel gives, ``power_mode_id`` its number.
    """

    board: str | None = None
    l4t: str | None = None
    power_mode: str | None = None
    power_mode_id: int | None = None
    clocks: Mapping[str, ClockDomain] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    trips_c: Mapping[str, float] = field(default_factory=dict)
    throttle_events: Mapping[str, int] = field(default_factory=dict)
    cpus_online: int | None = None
    cpus_present: int | None = None
    container: bool = False
    gpu_visible: bool = False
    boot: str | None = None

    @property
    def jetson(self) -> bool:
        """Whether anything says that this is one."""
        return self.l4t is not None or self.power_mode is not None or "jetson" in (self.board or "").lower()

    @property
    def locked(self) -> bool | None:
        """Whether processor and GPU clocks are all locked; None where some cannot be read or there are none."""
        states = [clock.locked for name, clock in self.clocks.items() if name != "emc"]
        if not states or (None in states and False not in states):
            return None
        return all(states)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return asdict(value) if isinstance(value, ClockDomain) else value


def device_state(root: Path = _ROOT, *, query: Callable[[], str | None] | None = None) -> DeviceState:
    """Everything readable now.

    ``query`` gives what ``nvpmodel -q`` prints, None where there is none; default: the program itself, below the real root
    only. Around every cell :func:`no_query` saves the start of that program; the mode then comes from its status file.
    """
    if query is None:
        query = query_nvpmodel if root == _ROOT else no_query
    text = query()
    name, number = parse_nvpmodel(text) if text else (None, None)
    if number is None:
        name, number = _mode_from_files(root)
    online, present = _cpus(root, "online"), _cpus(root, "present")
    return DeviceState(
        board=board_model(root),
        l4t=_l4t(root),
        power_mode=name,
        power_mode_id=number,
        clocks={**_cpu_clocks(root), **_gpu_clock(root), **_emc_clock(root)},
        temperatures_c=_temperatures(root),
        trips_c=_trips(root),
        throttle_events=_throttle_events(root),
        cpus_online=online,
        cpus_present=present,
        container=in_container(root),
        gpu_visible=any((root / "dev" / name).exists() for name in _GPU_FILES),
        boot=_read(root / "proc/sys/kernel/random/boot_id"),
    )


def is_jetson(root: Path = _ROOT) -> bool:
    """A quick look, without running anything."""
    return (root / "etc/nv_tegra_release").exists() or "jetson" in (board_model(root) or "").lower()


def parse_nvpmodel(text: str) -> tuple[str | None, int | None]:
    """Name and number of the power mode in what ``nvpmodel -q`` prints; None for what is not there.

    The name stands behind ``NV Power Mode:``, the number on the next line of its own; warnings may come before.
    """
    found = re.search(r"^[^\S\n]*NV Power Mode:[^\S\n]*(\S.*?)[^\S\n]*$", text, re.MULTILINE)
    if found is None:
        return None, None
    number = re.match(r"\s*(\d+)\s*$", text[found.end() :].lstrip("\n").partition("\n")[0])
    return found[1], int(number[1]) if number else None


def no_query() -> str | None:
    """Ask nobody."""
    return None


def query_nvpmodel() -> str | None:
    """What the program says; None without it.

    Containers lack it, and some of its versions ask questions: it gets no input and little time.
    """
    try:
        done = subprocess.run(
            ["nvpmodel", "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_NVPMODEL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout


def _mode_from_files(root: Path) -> tuple[str | None, int | None]:
    """The mode nvpmodel set last (its status file) and that mode's name in its configuration."""
    found = re.search(r"pmode:\s*0*(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    if found is None:
        return None, None
    number = int(found[1])
    listed = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", _read(root / "etc/nvpmodel.conf") or "")
    return next((name for mode, name in listed if int(mode) == number), None), number


def in_container(root: Path = _ROOT) -> bool:
    """Whether this runs inside a container: then commands that set clocks are for the host."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    groups = _read(root / "proc/1/cgroup") or ""
    return any(word in groups for word in ("docker", "containerd", "kubepods", "libpod"))


def _l4t(root: Path) -> str | None:
    """``36.4.3`` from ``# R36 (release), REVISION: 4.3, ...``."""
    text = _read(root / "etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _cpu_clocks(root: Path) -> dict[str, ClockDomain]:
    """One domain per group of cores that share a clock, named after its first core; cores that are off have none."""
    found = {}
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"), key=_number):
        found[f"cpu{_number(policy)}"] = _cpufreq(policy)
    if not found:
        for cpu in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=_number):
            if (cpu / "cpufreq").is_dir():
                found[cpu.name] = _cpufreq(cpu / "cpufreq")
    return {name: clock for name, clock in found.items() if clock.max_mhz is not None}


def _cpufreq(folder: Path) -> ClockDomain:
    now, low, high = (_scaled(folder / f"scaling_{part}_freq", 1e3) for part in ("cur", "min", "max"))
    return ClockDomain(current_mhz=now, min_mhz=low, max_mhz=high, governor=_read(folder / "scaling_governor"))


def _gpu_clock(root: Path) -> dict[str, ClockDomain]:
    """The devfreq device whose name is that of a GPU: ``17000000.gpu``, ``17000000.ga10b``, ``gpu-gpc-0`` ..."""
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        if _GPU_DEVICES.search(device.name) or _GPU_DEVICES.search(_read(device / "name") or ""):
            now, low, high = (_scaled(device / f"{part}_freq", 1e6) for part in ("cur", "min", "max"))
            return {"gpu": ClockDomain(current_mhz=now, min_mhz=low, max_mhz=high, governor=_read(device / "governor"))}
    return {}


def _emc_clock(root: Path) -> dict[str, ClockDomain]:
    """The memory clock, for root only (anybody may read its cap); ``mrq_rate_locked`` tells that jetson_clocks fixed it."""
    folder = root / "sys/kernel/debug/bpmp/debug/clk/emc"
    now = _scaled(folder / "rate", 1e6)
    if now is None:
        cap = _scaled(root / "sys/kernel/nvpmodel_clk_cap/emc", 1e6)
        return {} if cap is None else {"emc": ClockDomain(max_mhz=cap)}
    low, high = (_scaled(folder / f"{part}_rate", 1e6) for part in ("min", "max"))
    if _read(folder / "mrq_rate_locked") == "1":
        low = high = now
    return {"emc": ClockDomain(current_mhz=now, min_mhz=low, max_mhz=high)}


def _temperatures(root: Path) -> dict[str, float]:
    """Degrees by zone; zones that are off read -256 or fail to read and are left out."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=_number):
        name, degrees = _read(zone / "type"), _scaled(zone / "temp", 1e3)
        if name is not None and degrees is not None and degrees > _POWERED_OFF_C:
            found[name] = degrees
    return found


def _trips(root: Path) -> dict[str, float]:
    """Where the clocks of a zone are cut; ``active`` trip points only start fans."""
    found: dict[str, float] = {}
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        name = _read(zone / "type")
        for kind in zone.glob("trip_point_*_type"):
            degrees = _scaled(zone / kind.name.replace("_type", "_temp"), 1e3)
            if name is not None and degrees is not None and degrees > 0 and _read(kind) in ("passive", "hot", "critical"):
                found[name] = min(degrees, found.get(name, degrees))
    return found


def _throttle_events(root: Path) -> dict[str, int]:
    """Over-current counters since boot: oc1 under-voltage, oc2 average, oc3 instantaneous over-current (Orin)."""
    found = {}
    for device in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _read(device / "name") == "soctherm_oc":
            for counter in sorted(device.glob("oc*_event_cnt")):
                count = _read(counter)
                if count is not None and count.isdecimal():
                    found[counter.name.removesuffix("_event_cnt")] = int(count)
    return found


def _cpus(root: Path, which: str) -> int | None:
    """Processors in a list such as ``0-3,6``."""
    text = _read(root / "sys/devices/system/cpu" / which)
    if text is None or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return None
    ends = [part.partition("-") for part in text.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def _number(path: Path) -> int:
    digits = re.search(r"\d+$", path.name)
    return int(digits[0]) if digits else -1


def _scaled(path: Path, per_unit: float) -> float | None:
    text = _read(path)
    return int(text) / per_unit if text is not None and re.fullmatch(r"-?\d+", text) else None


def _read(path: Path) -> str | None:
    """Text without its end; None where it cannot be read (missing, no permission, sensor that is off)."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None
    return text or None
