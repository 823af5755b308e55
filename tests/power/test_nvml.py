"""A module shaped like pynvml, with cards that know an energy counter, a power of now, an averaged one, or nothing."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.find import find_source
from netadapt_trt.power.rails import total_mw
from netadapt_trt.power.sources.nvml import NvmlSource
from netadapt_trt.spec import Placement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSTANT = 186


class NVMLError(Exception):
    """What the real package raises."""


class Card:
    """One GPU; a reading that is None is not supported."""

    def __init__(self, *, energy_mj: int | None = None, instant_mw: int | None = None, power_mw: int | None = None) -> None:
        self.energy_mj = energy_mj
        self.instant_mw = instant_mw
        self.power_mw = power_mw
        self.name: str | bytes = "NVIDIA Test Card"
        self.lost = False
        self.now = 10.0
        self.opened = self.closed = 0
        self.others = False

    def supported(self, value: int | None) -> int:
        if self.lost:
            raise NVMLError("GPU is lost")
        if value is None:
            raise NVMLError("Not Supported")
        return value

    def fields(self, wanted: list[int]) -> list[SimpleNamespace]:
        """Field values carry their own status instead of raising."""
        assert wanted == [INSTANT]
        status = 3 if self.instant_mw is None else 0
        return [SimpleNamespace(nvmlReturn=status, value=SimpleNamespace(uiVal=self.instant_mw or 0))]

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def handle(self, index: int) -> str:
        if index:
            raise NVMLError("Invalid Argument")
        return "first"

    def handle_at(self, bus_id: str) -> str:
        if bus_id != "0000:65:00.0":
            raise NVMLError("Not Found")
        return "third"

    def energy_of(self, handle: str) -> int:
        """The first card idles; what this card is asked for happens on the third."""
        return 100 if handle == "first" and self.others else self.supported(self.energy_mj)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Card], Path]:
    """Put a pynvml module with this card in place; returns the root to look under."""

    def place(card: Card) -> Path:
        module: Any = ModuleType("pynvml")
        module.NVMLError = NVMLError
        module.NVML_FI_DEV_POWER_INSTANT = INSTANT
        module.nvmlInit = card.open
        module.nvmlShutdown = card.close
        module.nvmlDeviceGetHandleByIndex = card.handle
        module.nvmlDeviceGetName = lambda _: card.name
        module.nvmlDeviceGetHandleByPciBusId = card.handle_at
        module.nvmlDeviceGetIndex = lambda handle: {"first": 0, "third": 2}[handle]
        module.nvmlDeviceGetTotalEnergyConsumption = card.energy_of
        module.nvmlDeviceGetFieldValues = lambda _, wanted: card.fields(wanted)
        module.nvmlDeviceGetPowerUsage = lambda _: card.supported(card.power_mw)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev/nvidiactl").touch()
        return tmp_path

    return place


def test_nvml_counts_energy_where_the_card_does(install: Callable[[Card], Path]) -> None:
    card = Card(energy_mj=5_000_000, instant_mw=1, power_mw=2)
    with NvmlSource(install(card), clock=lambda: card.now) as source:
        assert source.counts_energy
        assert source.details()["reading"] == "energy counter"
        assert source.read() is None  # the counter has not moved yet
        card.now, card.energy_mj = 10.5, 5_035_000
        assert source.read() == pytest.approx({"gpu-0": 70_000.0})  # 35 J in half a second
        card.now = 10.55
        assert source.read() is None  # between two steps of the counter
        card.now, card.energy_mj = 11.0, 5_040_000
        power = source.read()
        assert power == pytest.approx({"gpu-0": 10_000.0})  # 5 J in the half second since the last reading
        assert total_mw(power or {}) == pytest.approx(10_000.0)
    assert (card.opened, card.closed) == (1, 1)


def test_nvml_a_counter_that_starts_anew_is_a_missing_sample(install: Callable[[Card], Path]) -> None:
    card = Card(energy_mj=5_000_000)
    with NvmlSource(install(card), clock=lambda: card.now) as source:
        card.now, card.energy_mj = 11.0, 100
        assert source.read() is None
        card.now, card.energy_mj = 12.0, 2_100
        assert source.read() == pytest.approx({"gpu-0": 2_000.0})


def test_nvml_prefers_the_instantaneous_field_to_the_average(install: Callable[[Card], Path]) -> None:
    with NvmlSource(install(Card(instant_mw=81_234, power_mw=60_000))) as source:
        assert source.read() == {"gpu-0": 81_234.0}
        assert not source.counts_energy
        assert source.time_constant_s < 1.0
        assert source.details()["reading"] == "instant power"


def test_nvml_takes_the_average_where_nothing_else_is_there(install: Callable[[Card], Path]) -> None:
    card = Card(power_mw=60_000)
    card.name = b"Old Card"
    with NvmlSource(install(card)) as source:
        assert source.read() == {"gpu-0": 60_000.0}
        assert source.time_constant_s == 1.0
        assert source.details()["reading"] == "averaged power"
        assert source.details()["gpu"] == "Old Card"


def test_nvml_an_older_package_lacks_the_newer_calls(
    install: Callable[[Card], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = install(Card(power_mw=60_000))
    for name in ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues", "NVML_FI_DEV_POWER_INSTANT"):
        monkeypatch.delattr(sys.modules["pynvml"], name)
    with NvmlSource(root) as source:
        assert source.read() == {"gpu-0": 60_000.0}


def test_nvml_a_card_that_supports_nothing_is_an_error_and_no_zero(install: Callable[[Card], Path]) -> None:
    card = Card()
    with pytest.raises(PowerError, match="reports neither power nor energy"):
        NvmlSource(install(card)).__enter__()
    assert card.closed == 1


def test_nvml_a_card_that_is_lost_ends_it(install: Callable[[Card], Path]) -> None:
    card = Card(power_mw=60_000)
    with NvmlSource(install(card)) as source:
        card.lost = True
        with pytest.raises(PowerError, match="stopped answering: GPU is lost; look at dmesg"):
            source.read()


def test_nvml_a_number_without_a_card_says_how_to_list_them(install: Callable[[Card], Path]) -> None:
    card = Card(power_mw=1)
    with pytest.raises(PowerError, match=r"GPU 4 does not answer.*nvidia-smi -L"):
        NvmlSource(install(card), index=4).__enter__()
    assert card.closed == 1


def test_nvml_reads_the_card_at_the_place_that_cuda_names(install: Callable[[Card], Path]) -> None:
    card = Card(energy_mj=1000)
    card.others = True
    placement = Placement(chip="gpu", integrated=False, bus_id="0000:65:00.0")
    found = find_source(root=install(card), placement=placement)
    assert isinstance(found, NvmlSource)
    found._clock = lambda: card.now  # the finder has no use for a clock
    with found as source:
        assert source.rails == ("gpu-2",)
        assert source.details()["bus_id"] == "0000:65:00.0"
        card.now, card.energy_mj = 11.0, 71_000
        assert source.read() == pytest.approx({"gpu-2": 70_000.0})
    named = find_source(root=install(card), prefer="nvml", placement=placement)
    assert named is not None
    assert named.rails == ("gpu-2",)


def test_nvml_a_place_without_a_card_is_no_other_card(install: Callable[[Card], Path]) -> None:
    root = install(Card(energy_mj=1000))
    assert find_source(root=root, placement=Placement(chip="gpu", bus_id="0000:01:00.0")) is None
    with pytest.raises(PowerError, match=r"the GPU at 0000:01:00.0 does not answer.*nvidia-smi -L"):
        NvmlSource(root, bus_id="0000:01:00.0").__enter__()


def test_nvml_a_library_that_does_not_start_says_what_to_check(
    install: Callable[[Card], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = install(Card())

    def refuse() -> None:
        raise NVMLError("Driver/library version mismatch")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", refuse)
    with pytest.raises(PowerError, match="version mismatch; check that nvidia-smi works"):
        NvmlSource(root).__enter__()


def test_nvml_without_a_driver_or_a_package_says_so(
    install: Callable[[Card], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = install(Card())
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(PowerError, match="pip install nvidia-ml-py"):
        NvmlSource(root).__enter__()
    (root / "dev/nvidiactl").unlink()
    with pytest.raises(PowerError, match="no NVIDIA driver is loaded"):
        NvmlSource(root).__enter__()
