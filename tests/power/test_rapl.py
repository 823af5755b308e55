"""Energy counters: mean power between readings, wrap-around, and who may read them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import total_mw
from netadapt_trt.power.sources.ina_channels import read_text
from netadapt_trt.power.sources.rapl import RaplSource

if TYPE_CHECKING:
    from pathlib import Path

trees = importlib.import_module("power_trees")

ONE = {"intel-rapl:0": ("package-0", 1_000_000)}
TWO = {
    "intel-rapl:0": ("package-0", 0),
    "intel-rapl:0/intel-rapl:0:0": ("core", 0),
    "intel-rapl:0/intel-rapl:0:1": ("dram", 0),
    "intel-rapl:1": ("package-1", 0),
    "intel-rapl:2": ("psys", 0),
    "intel-rapl-mmio:0": ("package-0", 0),  # the same package again
}


class Machine:
    """Counters that a test moves, and a clock that stands still until it is moved."""

    def __init__(self, root: Path, domains: dict[str, tuple[str, int]], range_uj: int = 262_143_328_850) -> None:
        self.root = root
        self.now = 50.0
        trees.rapl(root, domains, range_uj=range_uj)

    def source(self) -> RaplSource:
        return RaplSource(self.root, clock=lambda: self.now)

    def after(self, seconds: float, **counters_uj: int) -> None:
        self.now += seconds
        for place, value in counters_uj.items():
            (folder,) = (self.root / "sys/class/powercap").rglob(place.replace("_", ":").replace("rapl", "intel-rapl"))
            (folder / "energy_uj").write_text(f"{value}\n")


def test_rapl_gives_the_mean_power_between_readings(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ONE)
    with machine.source() as source:
        machine.after(0.5, rapl_0=1_000_000 + 10_000_000)
        assert source.read() == pytest.approx({"package-0": 20_000.0})  # 10 J in half a second
        machine.after(2.0, rapl_0=1_000_000 + 13_000_000)
        assert source.read() == pytest.approx({"package-0": 1_500.0})  # 3 J in two
        assert source.counts_energy


def test_rapl_adds_packages_only(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TWO)
    with machine.source() as source:
        assert source.rails == ("package-0", "package-0:core", "package-0:dram", "package-1", "psys")
        machine.after(1.0, rapl_0=30_000_000, rapl_0_0=20_000_000, rapl_0_1=5_000_000, rapl_1=40_000_000, rapl_2=99_000_000)
        power = source.read()
        assert power is not None
        assert power["package-0:core"] == pytest.approx(20_000.0)
        assert power["package-0:dram"] == pytest.approx(5_000.0)
        assert total_mw(power) == pytest.approx(70_000.0)
        assert source.details()["total"] == ["package-0", "package-1"]


def test_rapl_a_counter_that_wraps_loses_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"intel-rapl:0": ("package-0", 9_000_000)}, range_uj=10_000_000)
    with machine.source() as source:
        machine.after(1.0, rapl_0=4_000_000)  # 1 J to the end, 4 J after it
        assert source.read() == pytest.approx({"package-0": 5_000.0})
        machine.after(1.0, rapl_0=6_000_000)
        assert source.read() == pytest.approx({"package-0": 2_000.0})


def test_rapl_no_time_between_readings_is_a_missing_sample_that_costs_no_energy(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ONE)
    with machine.source() as source:
        machine.after(0.0, rapl_0=1_500_000)
        assert source.read() is None
        machine.after(1.0, rapl_0=2_000_000)
        assert source.read() == pytest.approx({"package-0": 1_000.0})  # since entering, not since the empty reading


def test_rapl_a_standing_counter_is_zero_power(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ONE)
    with machine.source() as source:
        machine.after(1.0)
        assert source.read() == {"package-0": 0.0}


def test_rapl_permission_denied_says_how_to_grant_it(tmp_path: Path) -> None:
    trees.rapl(tmp_path, ONE)

    def read(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    with pytest.raises(
        PowerError, match=r"^rapl: .*energy_uj may be read by root alone .*sudo chmod .*udev rule: SUBSYSTEM"
    ):
        RaplSource(tmp_path, read=read).__enter__()


def test_rapl_a_counter_that_vanishes_ends_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ONE)
    with machine.source() as source:
        (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
        with pytest.raises(PowerError, match=r"cannot be read .*measure again"):
            source.read()


def test_rapl_a_domain_without_a_range_is_left_out(tmp_path: Path) -> None:
    machine = Machine(tmp_path, TWO)
    (tmp_path / "sys/class/powercap/intel-rapl:1/max_energy_range_uj").write_text("?\n")
    with machine.source() as source:
        assert "package-1" not in source.rails


@pytest.mark.parametrize("domains", [{}, {"intel-rapl-mmio:0": ("package-0", 0)}])
def test_rapl_without_counters_says_why(tmp_path: Path, domains: dict[str, tuple[str, int]]) -> None:
    trees.rapl(tmp_path, domains)
    with pytest.raises(
        PowerError, match=r"rapl: no energy counter .*virtual machine.*modprobe.*Docker masks.*systempaths=unconfined"
    ):
        RaplSource(tmp_path).__enter__()


def test_rapl_read_before_entering_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match="context manager"):
        RaplSource(tmp_path).read()
