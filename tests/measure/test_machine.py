from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.measure.machine import (
    device_slug,
    machine_model,
    machine_state,
    other_load,
    physical_cores,
    quiet_notice,
    utc_now,
)
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from pathlib import Path

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 158
model name\t: Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz
physical id\t: 0
core id\t\t: 0

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 158
model name\t: Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz
"""
VIRTUAL = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Processor
"""
RASPBERRY = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Revision\t: c03114
Serial\t\t: 10000000abcdef01
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
JETSON = """\
processor\t: 0
model name\t: ARMv8 Processor rev 1 (v8l)
BogoMIPS\t: 62.50
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def with_cpus(root: Path, siblings: list[str]) -> Path:
    for cpu, list_ in enumerate(siblings):
        write(root, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", list_ + "\n")
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        (X86, "Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz"),
        (VIRTUAL, "Intel(R) Xeon(R) Processor family 6 model 207"),
        (RASPBERRY, "Raspberry Pi 4 Model B Rev 1.4"),
        (JETSON, "ARMv8 Processor rev 1 (v8l)"),
    ],
)
def test_machine_model_reads_cpuinfo(tmp_path: Path, cpuinfo: str, model: str) -> None:
    write(tmp_path, "proc/cpuinfo", cpuinfo)
    assert machine_model(tmp_path) == model


def test_machine_model_prefers_the_name_of_the_board(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", JETSON)
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    assert machine_model(tmp_path) == "NVIDIA Jetson Orin Nano Developer Kit"


def test_machine_model_without_any_file_is_still_a_name(tmp_path: Path) -> None:
    assert machine_model(tmp_path)


def test_physical_cores_counts_hyper_threads_once(tmp_path: Path) -> None:
    assert physical_cores(with_cpus(tmp_path, ["0,2", "1,3", "0,2", "1,3"])) == 2


def test_physical_cores_without_topology_counts_processors(tmp_path: Path) -> None:
    for cpu in range(3):
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}").mkdir(parents=True)
    assert physical_cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("800000 100000", 4)]
)
def test_physical_cores_respects_the_control_group(tmp_path: Path, quota: str, cores: int) -> None:
    with_cpus(tmp_path, ["0", "1", "2", "3"])
    write(tmp_path, "proc/self/cgroup", "0::/box/inner\n")
    write(tmp_path, "sys/fs/cgroup/box/cpu.max", quota + "\n")
    assert physical_cores(tmp_path) == cores


def test_physical_cores_respects_the_older_control_group(tmp_path: Path) -> None:
    with_cpus(tmp_path, ["0", "1", "2", "3"])
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert physical_cores(tmp_path) == 3
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert physical_cores(tmp_path) == 4


def test_machine_state_reads_clocks_and_load(tmp_path: Path) -> None:
    with_cpus(tmp_path, ["0"])
    write(tmp_path, "proc/cpuinfo", X86)
    write(tmp_path, "proc/loadavg", "0.52 0.40 0.30 1/200 4242\n")
    frequency = "sys/devices/system/cpu/cpu0/cpufreq/scaling"
    write(tmp_path, f"{frequency}_governor", "performance\n")
    write(tmp_path, f"{frequency}_cur_freq", "3600000\n")
    write(tmp_path, f"{frequency}_max_freq", "4900000\n")
    state = machine_state(tmp_path)
    assert (state.governor, state.frequency_mhz, state.max_frequency_mhz) == ("performance", 3600.0, 4900.0)
    assert (state.load_average, state.physical_cores) == (0.52, 1)
    assert state.to_json()["model"].startswith("Intel")


def test_machine_state_leaves_unreadable_values_out(tmp_path: Path) -> None:
    state = machine_state(tmp_path)
    assert (state.governor, state.frequency_mhz, state.load_average) == (None, None, None)
    assert state.physical_cores >= 1


def test_machine_state_works_on_this_machine() -> None:
    assert machine_state().physical_cores >= 1


def test_utc_now_is_iso_with_offset_zero() -> None:
    assert datetime.fromisoformat(utc_now()).utcoffset() == timedelta(0)


def stat(root: Path, busy: int, idle: int, steal: int = 0) -> None:
    line = f"{busy} 0 0 {idle} 0 0 0 {steal} 0 0"
    write(root, "proc/stat", f"cpu  999 9 9 9\ncpu0 {line}\ncpu1 100 0 0 100 0 0 0 0 0 0\nintr 1\n")


def test_other_load_counts_cores_taken_by_others(tmp_path: Path) -> None:
    with_cpus(tmp_path, ["0"])
    stat(tmp_path, busy=1000, idle=5000)

    def sleep(seconds: float) -> None:
        assert seconds == 0.2
        # Twenty ticks pass: ten busy, two withheld by the hypervisor, eight idle.
        stat(tmp_path, busy=1010, idle=5008, steal=2)

    load = other_load(root=tmp_path, sleep=sleep)
    # This process' own time while "sleeping" is a tick (10 ms of 200 ms) at most.
    assert load == pytest.approx(0.6, abs=0.1)
    assert "0.6 cores" in (quiet_notice(0.6) or "")


def test_other_load_is_unknown_without_proc_stat(tmp_path: Path) -> None:
    assert other_load(root=tmp_path, sleep=lambda _: None) is None


@pytest.mark.parametrize("load", [None, 0.0, 0.2])
def test_quiet_notice_is_silent_on_a_quiet_machine(load: float | None) -> None:
    assert quiet_notice(load) is None


@pytest.mark.parametrize(
    ("device", "slug"),
    [
        ("Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", "intel-core-i7-9700k"),
        ("Intel(R) Xeon(R) Processor family 6 model 207", "intel-xeon-family-6-model-207"),
        ("AMD Ryzen 7 5800U with Radeon Graphics", "amd-ryzen-7-5800u"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "nvidia-jetson-orin-nano-developer-kit"),
        ("fake-device", "fake-device"),
        ("../..", "unknown"),
    ],
)
def test_device_slug_is_a_plain_folder_name(device: str, slug: str) -> None:
    identity = Identity(
        backend="ort", device="", runtime="r", runtime_version="1", provider="p", precision="fp32", recipe="none",
        batch=1, threads=2,
    )  # fmt: skip
    assert device_slug(replace(identity, device=device)) == slug
