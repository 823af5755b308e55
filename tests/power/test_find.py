"""Which source is taken, in which order, and what is said of those that do not work."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.find import PREFERENCE, explain, find_source
from netadapt_trt.power.sources.csv_meter import CsvMeter
from netadapt_trt.power.sources.replay import save_trace
from netadapt_trt.power.trace import Trace
from netadapt_trt.spec import Placement

if TYPE_CHECKING:
    from pathlib import Path

trees = importlib.import_module("power_trees")

# Prints a line an interval, like the real one, until it is stopped.
TEGRASTATS = f"""\
#!{sys.executable}
import sys, time
while True:
    print("RAM 1/2MB VDD_IN 4761mW/4778mW VDD_CPU_GPU_CV 515mW/501mW VDD_SOC 1428mW/1428mW ", flush=True)
    time.sleep(int(sys.argv[sys.argv.index("--interval") + 1]) / 1000)
"""


@pytest.fixture(autouse=True)
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine happens to have installed decides nothing here."""
    monkeypatch.setitem(sys.modules, "jtop", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)


def _nano(root: Path) -> None:
    rails = [("POM_5V_IN", 5000, 426), ("POM_5V_GPU", 5000, 16), ("POM_5V_CPU", 5000, 56)]
    trees.hwmon_ina3221(root, "1-0040", rails, number=2)


def _tegrastats(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tegrastats").write_text(TEGRASTATS)
    (root / "usr/bin/tegrastats").chmod(0o755)


def _rapl(root: Path) -> None:
    trees.rapl(root, {"intel-rapl:0": ("package-0", 1)})


def _nvml(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("pynvml")
    module.NVMLError = type("NVMLError", (Exception,), {})
    module.nvmlInit = module.nvmlShutdown = lambda: None
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetName = lambda _: "NVIDIA Test Card"
    module.nvmlDeviceGetTotalEnergyConsumption = lambda _: 5
    monkeypatch.setitem(sys.modules, "pynvml", module)
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()


def test_find_source_no_source_is_none(tmp_path: Path) -> None:
    assert find_source(root=tmp_path) is None


def test_find_source_takes_the_chips_first_and_then_each_next_one(tmp_path: Path) -> None:
    _rapl(tmp_path)
    found = find_source(root=tmp_path)
    assert found is not None
    assert found.name == "rapl"
    _tegrastats(tmp_path)
    found = find_source(root=tmp_path)
    assert found is not None
    assert found.name == "tegrastats"
    with found as source:
        assert source.read() == {"VDD_IN": 4761.0, "VDD_CPU_GPU_CV": 515.0, "VDD_SOC": 1428.0}
    _nano(tmp_path)
    found = find_source(root=tmp_path)
    assert found is not None
    assert found.name == "ina"


CPU, CARD, JETSON = Placement(chip="cpu"), Placement(chip="gpu", integrated=False), Placement(chip="gpu", integrated=True)


@pytest.mark.parametrize(
    ("have", "placement", "takes"),
    [
        # A workstation: the processor's counter says nothing of the card's inference, nor the card's of the processor's.
        (("rapl", "nvml"), CARD, "nvml"),
        (("rapl", "nvml"), CPU, "rapl"),
        (("rapl",), CARD, None),
        (("nvml",), CPU, None),
        # A board's rails hold both; a card in a slot of that board draws from none of them.
        (("ina", "rapl", "nvml"), JETSON, "ina"),
        (("ina", "rapl", "nvml"), CPU, "ina"),
        (("ina", "rapl", "nvml"), CARD, "nvml"),
        # A GPU of which nobody says where it sits, and a backend of which nobody says what it runs on.
        (("rapl", "nvml"), Placement(chip="gpu"), "nvml"),
        (("rapl", "nvml"), None, "rapl"),
    ],
)
def test_find_source_takes_one_that_counts_what_the_load_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, have: tuple[str, ...], placement: Placement | None, takes: str | None
) -> None:
    for name, place in (("ina", _nano), ("rapl", _rapl)):
        if name in have:
            place(tmp_path)
    if "nvml" in have:
        _nvml(tmp_path, monkeypatch)
    found = find_source(root=tmp_path, placement=placement)
    assert (None if found is None else found.name) == takes


def test_find_source_refuses_a_named_one_that_counts_another_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rapl(tmp_path)
    _nvml(tmp_path, monkeypatch)
    with pytest.raises(PowerError, match=r"rapl: it counts the CPU, and this runs on the GPU; .*csv:FILE"):
        find_source(root=tmp_path, prefer="rapl", placement=CARD)
    with pytest.raises(PowerError, match="nvml: it counts the GPU, and this runs on the CPU"):
        find_source(root=tmp_path, prefer="nvml", placement=CPU)
    meter = tmp_path / "meter.csv"
    meter.write_text("time_s,power_w\n0,1\n")
    for placement, prefer in ((CARD, "nvml"), (CPU, "rapl"), (CARD, f"csv:{meter}"), (CPU, f"csv:{meter}")):
        assert find_source(root=tmp_path, prefer=prefer, placement=placement) is not None


def test_a_source_says_in_its_details_what_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rapl(tmp_path)
    _nvml(tmp_path, monkeypatch)
    for prefer, scope in (("rapl", "cpu"), ("nvml", "gpu")):
        found = find_source(root=tmp_path, prefer=prefer)
        assert found is not None
        with found as source:
            assert source.details()["scope"] == source.scope == scope


def test_find_source_prefer_takes_that_one(tmp_path: Path) -> None:
    _nano(tmp_path)
    _rapl(tmp_path)
    found = find_source(root=tmp_path, prefer="rapl")
    assert found is not None
    assert found.name == "rapl"


def test_find_source_prefer_takes_no_other_when_that_one_fails(tmp_path: Path) -> None:
    _nano(tmp_path)
    with pytest.raises(PowerError, match="rapl: no energy counter"):
        find_source(root=tmp_path, prefer="rapl")


@pytest.mark.parametrize("prefer", ["", "INA", "csv", "csv:", "watts:x", "ina:x"])
def test_find_source_an_unknown_word_names_the_known_ones(tmp_path: Path, prefer: str) -> None:
    with pytest.raises(PowerError, match=r"ina, jtop, tegrastats, rapl, nvml, csv:FILE, replay:FILE"):
        find_source(root=tmp_path, prefer=prefer)


def test_find_source_reads_named_files(tmp_path: Path) -> None:
    meter = tmp_path / "meter.csv"
    meter.write_text("time_s,power_w\n0,1\n")
    found = find_source(root=tmp_path, prefer=f"csv:{meter}")
    assert isinstance(found, CsvMeter)
    with found as source:
        save_trace(tmp_path / "t.json", Trace(np.array([0.0, 1.0]), ("external",), np.array([[1000.0], [2000.0]])), source)
    replay = find_source(root=tmp_path, prefer=f"replay:{tmp_path / 't.json'}")
    assert replay is not None
    with replay as source:
        assert source.read() == {"external": 1000.0}


def test_explain_says_for_each_what_it_shows_or_what_to_do(tmp_path: Path) -> None:
    _nano(tmp_path)
    told = explain(tmp_path)
    assert tuple(name for name, _, _ in told) == PREFERENCE == ("ina", "jtop", "tegrastats", "rapl", "nvml")
    by_name = {name: (works, why) for name, works, why in told}
    assert by_name["ina"] == (True, "POM_5V_IN, POM_5V_GPU, POM_5V_CPU; total = POM_5V_IN (Jetson Nano)")
    assert "pip install jetson-stats" in by_name["jtop"][1]
    assert "-v /usr/bin/tegrastats" in by_name["tegrastats"][1]
    assert "modprobe" in by_name["rapl"][1]
    assert "--gpus all" in by_name["nvml"][1]
    assert [works for _, works, _ in told] == [True, False, False, False, False]


def test_explain_says_why_there_is_no_total(tmp_path: Path) -> None:
    trees.hwmon_ina3221(tmp_path, "1-0040", [("VDD_A", 5000, 1), ("VDD_B", 5000, 1), ("NC", 0, 0)], number=0)
    assert "no total: no board in the rail table has these rails: VDD_A, VDD_B" in explain(tmp_path)[0][2]


def test_explain_says_that_labels_look_swapped(tmp_path: Path) -> None:
    rails = [("POM_5V_IN", 5000, 600), ("POM_5V_GPU", 5000, 1700), ("POM_5V_CPU", 5000, 600)]
    trees.hwmon_ina3221(tmp_path, "1-0040", rails, number=0)
    assert "look swapped" in explain(tmp_path)[0][2]
