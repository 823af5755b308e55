"""A module shaped like jetson-stats 4 and 7, and what its service does wrong."""

from __future__ import annotations

import sys
from multiprocessing import AuthenticationError
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import total_mw
from netadapt_trt.power.sources.jtop import JtopSource, rails_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _entry(power: int, kind: str = "INA3221", **more: object) -> dict[str, Any]:
    return {"type": kind, "online": True, "volt": 5000, "curr": power // 5, "power": power, "avg": power // 2, **more}


# 4.x: the known total moved out of "rail"
XAVIER_NX = {
    "rail": {"VDD_CPU_GPU_CV": _entry(10874), "VDD_SOC": _entry(1405)},
    "tot": _entry(14703, name="VDD_IN"),
}
# 4.x on AGX Orin: a sum without a name that counts VDDQ_VDD2_1V8AO twice and a USB port as well
AGX_ORIN_4 = {
    "rail": {
        "VDD_GPU_SOC": _entry(2390),
        "VDD_CPU_CV": _entry(796),
        "VIN_SYS_5V0": _entry(3522),
        "NC": {"type": "INA3221", "online": False},
        "VDDQ_VDD2_1V8AO": _entry(301),
        "ucsi_source_psy_USBC000:001": _entry(700, kind="USB", status="Charging"),
    },
    "tot": {"power": 2390 + 796 + 3522 + 301 + 700, "avg": 5},
}
# 7.x on Thor: VIN of the other chip is the total
THOR_7 = {
    "rail": {"VDD_GPU": _entry(-392), "VDD_CPU_SOC_MSS": _entry(3924), "VIN_SYS_5V0": _entry(5064)},
    "tot": _entry(15004, kind="INA238", name="VIN"),
}


class Service:
    """What the fake client talks to: its period, its answers one after another (the last one stays), its moods."""

    def __init__(self, *powers: dict[str, Any], interval: float = 0.5) -> None:
        self.powers = list(powers)
        self.interval = interval
        self.refusal: Exception | None = None
        self.ends_after: int | None = None
        self.asked: list[float] = []
        self.opened = self.closed = self.reads = 0


def _client_class(service: Service) -> type:
    class Client:
        """``ok`` gives up without a word after three of the *client's* intervals, as the real one does."""

        def __init__(self, interval: float = 1.0) -> None:
            self.interval_user = interval
            self.interval = interval
            service.asked.append(interval)

        def start(self) -> None:
            if service.refusal is not None:
                raise service.refusal
            service.opened += 1
            self.interval = service.interval

        def ok(self, spin: bool = False) -> bool:
            if 3 * self.interval_user < service.interval:
                return False
            if service.ends_after is not None and service.reads >= service.ends_after:
                return False
            service.reads += 1
            return True

        @property
        def power(self) -> dict[str, Any]:
            return service.powers[min(service.reads, len(service.powers)) - 1]

        def close(self) -> None:
            service.closed += 1

    return Client


class JtopException(Exception):  # noqa: N818  the real one's name
    """What the real package raises."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Service], Path]:
    """Put a jtop module with this service in place; returns the root to look under."""

    def place(service: Service) -> Path:
        module: Any = ModuleType("jtop")
        module.jtop = _client_class(service)
        module.JtopException = JtopException
        module.__version__ = "4.3.2"
        monkeypatch.setitem(sys.modules, "jtop", module)
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run/jtop.sock").touch()
        return tmp_path

    return place


def test_rails_of_puts_the_total_back_under_its_name() -> None:
    rails = rails_of(XAVIER_NX)
    assert rails == {"VDD_CPU_GPU_CV": 10874.0, "VDD_SOC": 1405.0, "VDD_IN": 14703.0}
    assert total_mw(rails) == 14703.0


def test_rails_of_agx_orin_counts_nothing_twice() -> None:
    rails = rails_of(AGX_ORIN_4)
    assert rails == {"VDD_GPU_SOC": 2390.0, "VDD_CPU_CV": 796.0, "VIN_SYS_5V0": 3522.0, "VDDQ_VDD2_1V8AO": 301.0}
    assert total_mw(rails) == 6708.0  # 2390 + 796 + 3522, where jtop says 7709


def test_rails_of_thor_takes_both_kinds_of_chip_and_keeps_the_sign() -> None:
    rails = rails_of(THOR_7)
    assert rails == {"VDD_GPU": -392.0, "VDD_CPU_SOC_MSS": 3924.0, "VIN_SYS_5V0": 5064.0, "VIN": 15004.0}
    assert total_mw(rails) == 15004.0


@pytest.mark.parametrize(
    "power", [{}, {"rail": {}, "tot": {}}, {"rail": {"VDD_IN": {"online": False, "power": 5}}, "tot": None}]
)
def test_rails_of_a_board_without_sensors_is_empty(power: dict[str, Any]) -> None:
    assert rails_of(power) == {}


@pytest.mark.parametrize("power", [XAVIER_NX, AGX_ORIN_4, THOR_7], ids=["4.x", "4.x double", "7.x"])
def test_jtop_reads_and_leaves(install: Callable[[Service], Path], power: dict[str, Any]) -> None:
    service = Service(power)
    with JtopSource(install(service)) as source:
        assert source.read() == rails_of(power)
        assert source.rails == tuple(rails_of(power))
        assert source.interval_s == 0.5
        assert source.details()["version"] == "4.3.2"
    assert (service.opened, service.closed) == (1, 1)


def test_jtop_a_slower_service_of_another_client_is_joined_at_its_own_period(install: Callable[[Service], Path]) -> None:
    service = Service(XAVIER_NX, interval=2.0)
    with JtopSource(install(service), interval_s=0.1) as source:
        assert source.interval_s == 2.0
        assert source.read() is not None
        assert source.details()["asked_interval_s"] == 0.1
    assert service.asked == [0.1, 2.0]
    assert service.opened == service.closed == 2


def test_jtop_a_rail_missing_in_one_answer_is_a_missing_sample(install: Callable[[Service], Path]) -> None:
    broken = {"rail": {"VDD_SOC": _entry(1405)}, "tot": _entry(14703, name="VDD_IN")}
    with JtopSource(install(Service(XAVIER_NX, broken, XAVIER_NX))) as source:
        assert source.read() is None
        assert source.read() == rails_of(XAVIER_NX)


def test_jtop_an_early_end_is_an_error_and_no_silence(install: Callable[[Service], Path]) -> None:
    service = Service(XAVIER_NX)
    with JtopSource(install(service)) as source:
        assert source.read() is not None
        service.ends_after = service.reads
        with pytest.raises(PowerError, match=r"jtop: the service gave no data .* restart jtop"):
            source.read()


def test_jtop_an_end_before_the_first_data_leaves_the_service(install: Callable[[Service], Path]) -> None:
    service = Service(XAVIER_NX)
    service.ends_after = 0
    with pytest.raises(PowerError, match="no data"), JtopSource(install(service)):
        pass
    assert service.closed == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (JtopException("Mismatch version jtop service: [7.2.2] and client: [4.3.2].\nPlease ..."), r"7\.2\.2.*major\.minor"),
        (
            JtopException("The jtop.service is not active. Please run:\nsudo systemctl restart jtop.service"),
            "not active; on the host: sudo systemctl",
        ),
        (JtopException("I can't access jtop.service.\nPlease logout or reboot this board."), "access.*group jtop"),
        (PermissionError(13, "Permission denied"), "Permission denied.*--group-add"),
        (ConnectionRefusedError(111, "Connection refused"), "refused.*systemctl restart"),
        (EOFError(), "EOFError.*systemctl restart"),
        (AuthenticationError("digest sent was rejected"), "rejected.*systemctl restart"),
        (JtopException("Mismatch of Python versions between library and service"), "container's Python .* use ina"),
    ],
)
def test_jtop_a_refusal_says_what_to_do(install: Callable[[Service], Path], refusal: Exception, words: str) -> None:
    service = Service(XAVIER_NX)
    service.refusal = refusal
    with pytest.raises(PowerError, match=f"^jtop: .*{words}"), JtopSource(install(service)):
        pass


def test_jtop_a_board_without_rails_is_an_error_and_no_zero(install: Callable[[Service], Path]) -> None:
    service = Service({})
    with pytest.raises(PowerError, match="no power rails"), JtopSource(install(service)):
        pass
    assert service.closed == 1


def test_jtop_without_a_socket_says_how_to_mount_it(install: Callable[[Service], Path]) -> None:
    root = install(Service(XAVIER_NX))
    (root / "run/jtop.sock").unlink()
    with pytest.raises(PowerError, match=r"systemctl start jtop.* -v /run/jtop.sock:/run/jtop.sock"), JtopSource(root):
        pass


def test_jtop_without_the_package_says_which_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(PowerError, match=r"cannot be imported .*pip install jetson-stats"), JtopSource(tmp_path):
        pass
