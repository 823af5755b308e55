"""The chips of every board in both layouts, and what drivers do when they stumble. Totals were added up by hand."""

from __future__ import annotations

import errno
import importlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.rails import match_board, total_mw
from netadapt_trt.power.sources.ina import InaSource
from netadapt_trt.power.sources.ina_channels import read_text

trees = importlib.import_module("power_trees")

Rail = tuple[str, int, int]
NC: Rail = ("NC", 0, 0)
THOR: list[Rail] = [("VDD_GPU", 20000, -20), ("VDD_CPU_SOC_MSS", 20000, 196), ("VIN_SYS_5V0", 5000, 1000)]
TX2_CARRIER: dict[str, list[Rail]] = {
    "0-0042": [("VDD_MUX", 19000, 400), ("VDD_5V0_IO_SYS", 5000, 200), ("VDD_3V3_SYS", 3300, 100)],
    "0-0043": [("VDD_3V3_IO_SLP", 3300, 50), ("VDD_1V8_IO", 1800, 10), ("VDD_3V3_SYS_M2", 3300, 0)],
}
TX2: dict[str, list[Rail]] = {
    "0-0040": [("VDD_SYS_GPU", 19000, 8), ("VDD_SYS_SOC", 19000, 28), ("VDD_4V0_WIFI", 4000, 0)],
    "0-0041": [("VDD_IN", 19000, 164), ("VDD_SYS_CPU", 19000, 28), ("VDD_SYS_DDR", 19000, 28)],
}


@dataclass(frozen=True)
class Case:
    """Chips by address, an INA238 beside them, and what must come out."""

    board: str
    chips: dict[str, list[Rail]]
    power_mw: dict[str, float]
    total_mw: float | None
    input: Rail | None = None
    also: tuple[str, ...] = field(default=())  # rails that are there but not spelt out in power_mw


CASES = {
    "nano": Case(
        "Jetson Nano",
        {"6-0040": [("POM_5V_IN", 5000, 426), ("POM_5V_GPU", 5000, 16), ("POM_5V_CPU", 5000, 56)]},
        {"POM_5V_IN": 2130.0, "POM_5V_GPU": 80.0, "POM_5V_CPU": 280.0},
        2130.0,
    ),
    "tx1": Case(
        "Jetson TX1",
        {
            "1-0040": [("VDD_IN", 19000, 200), ("VDD_GPU", 19000, 20), ("VDD_CPU", 19000, 40)],
            "1-0042": [("VDD_MUX", 19000, 300), ("VDD_5V_IO_SYS", 5000, 100), ("VDD_3V3_SYS", 3300, 50)],
            "1-0043": [("VDD_3V3_IO", 3300, 10), ("VDD_1V8_IO", 1800, 10), ("VDD_M2_IN", 12000, 0)],
        },
        {"VDD_IN": 3800.0, "VDD_GPU": 380.0, "VDD_CPU": 760.0},
        3800.0,
        also=("VDD_MUX", "VDD_5V_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO", "VDD_1V8_IO", "VDD_M2_IN"),
    ),
    "tx2": Case(
        "Jetson TX2",
        TX2 | TX2_CARRIER,
        {
            "VDD_SYS_GPU": 152.0,
            "VDD_SYS_SOC": 532.0,
            "VDD_4V0_WIFI": 0.0,
            "VDD_IN": 3116.0,
            "VDD_SYS_CPU": 532.0,
            "VDD_SYS_DDR": 532.0,
        },
        3116.0,
        also=("VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO_SLP", "VDD_1V8_IO", "VDD_3V3_SYS_M2"),
    ),
    "tx2i without wifi": Case(
        "Jetson TX2",
        {"0-0040": [*TX2["0-0040"][:2], NC], "0-0041": TX2["0-0041"]},
        {"VDD_SYS_GPU": 152.0, "VDD_SYS_SOC": 532.0, "VDD_IN": 3116.0, "VDD_SYS_CPU": 532.0, "VDD_SYS_DDR": 532.0},
        3116.0,
    ),
    "tx2 nx": Case(
        "Jetson TX2 NX",
        {"7-0040": [("VDD_IN", 5000, 600), ("VDD_CPU_GPU", 5000, 200), ("VDD_SOC", 5000, 150)]},
        {"VDD_IN": 3000.0, "VDD_CPU_GPU": 1000.0, "VDD_SOC": 750.0},
        3000.0,
    ),
    "xavier nx": Case(
        "Jetson Xavier NX, Orin NX or Orin Nano",
        {"7-0040": [("VDD_IN", 5000, 2936), ("VDD_CPU_GPU_CV", 5000, 2176), ("VDD_SOC", 5000, 280)]},
        {"VDD_IN": 14680.0, "VDD_CPU_GPU_CV": 10880.0, "VDD_SOC": 1400.0},
        14680.0,
    ),
    "orin nano": Case(
        "Jetson Xavier NX, Orin NX or Orin Nano",
        {"1-0040": [("VDD_IN", 4980, 952), ("VDD_CPU_GPU_CV", 4975, 104), ("VDD_SOC", 4975, 288)]},
        {"VDD_IN": 4740.96, "VDD_CPU_GPU_CV": 517.4, "VDD_SOC": 1432.8},
        4740.96,
    ),
    "agx xavier": Case(
        "Jetson AGX Xavier",
        {
            "1-0040": [("GPU", 19000, 24), ("CPU", 19000, 32), ("SOC", 19000, 152)],
            "1-0041": [("CV", 19000, 0), ("VDDRQ", 19000, 16), ("SYS5V", 5000, 664)],
        },
        {"GPU": 456.0, "CPU": 608.0, "SOC": 2888.0, "CV": 0.0, "VDDRQ": 304.0, "SYS5V": 3320.0},
        7576.0,
    ),
    "agx orin": Case(
        "Jetson AGX Orin",
        {
            "1-0040": [("VDD_GPU_SOC", 20000, 120), ("VDD_CPU_CV", 20000, 40), ("VIN_SYS_5V0", 5000, 700)],
            "1-0041": [NC, ("VDDQ_VDD2_1V8AO", 5000, 60), NC],
        },
        {"VDD_GPU_SOC": 2400.0, "VDD_CPU_CV": 800.0, "VIN_SYS_5V0": 3500.0, "VDDQ_VDD2_1V8AO": 300.0},
        6700.0,  # 2400 + 800 + 3500
    ),
    "thor": Case(
        "Jetson AGX Thor",
        {"2-0040": THOR},
        {"VDD_GPU": -400.0, "VDD_CPU_SOC_MSS": 3920.0, "VIN_SYS_5V0": 5000.0, "VIN": 15000.0},
        15000.0,
        input=("VIN", 20000, 750),
    ),
    "thor without input sensor": Case(
        "Jetson Thor on a carrier without input sensor",
        {"2-0040": THOR},
        {"VDD_GPU": -400.0, "VDD_CPU_SOC_MSS": 3920.0, "VIN_SYS_5V0": 5000.0},
        8520.0,
    ),
}


def _build(root: Path, case: Case, layout: str) -> None:
    build = trees.hwmon_ina3221 if layout == "hwmon" else trees.iio_ina3221
    # hwmon numbers run against the addresses on purpose: their order means nothing
    for number, (address, rails) in enumerate(case.chips.items()):
        build(root, address, rails, number=9 - number)
    if case.input is not None:
        trees.hwmon_ina238(root, "2-0044", case.input, number=3)


def _nano(root: Path) -> Path:
    return Path(trees.hwmon_ina3221(root, "1-0040", CASES["nano"].chips["6-0040"], number=2))


@pytest.mark.parametrize("layout", ["hwmon", "iio"])
@pytest.mark.parametrize("name", CASES)
def test_ina_reads_every_board(tmp_path: Path, name: str, layout: str) -> None:
    case = CASES[name]
    _build(tmp_path, case, layout)
    with InaSource(tmp_path) as source:
        power = source.read()
    assert power is not None
    assert {rail: power[rail] for rail in case.power_mw} == pytest.approx(case.power_mw)
    assert set(power) == set(source.rails) == {*case.power_mw, *case.also}
    assert total_mw(power) == pytest.approx(case.total_mw)
    board = match_board(source.rails)
    assert board is not None
    assert board.name == case.board == source.details()["board"]


def test_ina_rails_come_by_address_and_channel(tmp_path: Path) -> None:
    _build(tmp_path, CASES["agx xavier"], "hwmon")
    with InaSource(tmp_path) as source:
        assert source.rails == ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")


def test_ina_finds_chips_without_the_class_folder(tmp_path: Path) -> None:
    _nano(tmp_path)
    (tmp_path / "sys/class/hwmon/hwmon2").unlink()
    with InaSource(tmp_path) as source:
        assert len(source.rails) == 3


def test_ina_finds_chips_without_the_driver_folder_and_ignores_other_sensors(tmp_path: Path) -> None:
    _nano(tmp_path)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040").unlink()
    fan = tmp_path / "sys/class/hwmon/hwmon0"
    fan.mkdir()
    (fan / "name").write_text("pwmfan\n")
    with InaSource(tmp_path) as source:
        assert len(source.rails) == 3


@pytest.mark.parametrize(
    ("name", "shunt_uohm", "step_mw"),
    [
        ("nano", 5000, 40.0),  # 40 uV over 5 mohm = 8 mA, at 5 V
        ("agx orin", 2000, (400.0**2 + 400.0**2 + 100.0**2) ** 0.5),  # 20 mA at 20, 20 and 5 V
        ("agx xavier", 5000, (5 * 152.0**2 + 40.0**2) ** 0.5),  # 8 mA at 19 V five times and at 5 V
    ],
)
def test_ina_step_comes_from_the_shunts(tmp_path: Path, name: str, shunt_uohm: int, step_mw: float) -> None:
    for number, (address, rails) in enumerate(CASES[name].chips.items()):
        trees.hwmon_ina3221(tmp_path, address, rails, number=number, shunt_uohm=shunt_uohm)
    with InaSource(tmp_path) as source:
        assert source.step_mw == pytest.approx(step_mw)


def test_ina_step_comes_from_the_table_where_no_file_names_the_shunt(tmp_path: Path) -> None:
    _build(tmp_path, CASES["nano"], "iio")
    with InaSource(tmp_path) as source:
        assert source.step_mw == 40.0


def test_ina_step_of_the_input_sensor_is_not_known(tmp_path: Path) -> None:
    _build(tmp_path, CASES["thor"], "hwmon")
    with InaSource(tmp_path) as source:
        assert source.step_mw is None


def test_ina_time_constant_is_the_update_interval(tmp_path: Path) -> None:
    folder = _nano(tmp_path)
    with InaSource(tmp_path) as source:
        assert source.time_constant_s == 0.43
        assert source.details()["time_constant_assumed"] is False
    (folder / "update_interval").write_text("7\n")
    with InaSource(tmp_path) as source:
        assert source.time_constant_s == 0.007


def test_ina_time_constant_is_assumed_where_the_driver_names_none(tmp_path: Path) -> None:
    _build(tmp_path, CASES["nano"], "iio")
    with InaSource(tmp_path) as source:
        assert source.time_constant_s == 0.43
        assert source.details()["time_constant_assumed"] is True
        assert source.details()["chips"][0]["running_mode"] == 1


def test_ina_a_channel_switched_off_is_no_rail(tmp_path: Path) -> None:
    (_nano(tmp_path) / "in2_enable").write_text("0\n")
    with InaSource(tmp_path) as source:
        assert source.rails == ("POM_5V_IN", "POM_5V_CPU")
        assert source.details()["board"] is None  # a part is missing, so nobody says what the total is


class Driver:
    """Reads the fake files; ``fail[name]`` is raised that many times first (-1: always)."""

    def __init__(self, **fail: tuple[int, int]) -> None:
        self.fail = fail

    def __call__(self, path: Path) -> str:
        code, times = self.fail.get(path.name, (0, 0))
        if times:
            self.fail[path.name] = (code, times - 1)
            raise OSError(code, errno.errorcode[code], str(path))
        return read_text(path)


def test_ina_a_channel_that_answers_no_data_is_no_rail(tmp_path: Path) -> None:
    _nano(tmp_path)
    with InaSource(tmp_path, read=Driver(curr2_input=(errno.ENODATA, -1))) as source:
        assert source.rails == ("POM_5V_IN", "POM_5V_CPU")


def test_ina_one_stumble_is_read_again(tmp_path: Path) -> None:
    _nano(tmp_path)
    driver = Driver()
    with InaSource(tmp_path, read=driver) as source:
        driver.fail["curr1_input"] = (errno.EIO, 1)
        assert source.read() == {"POM_5V_IN": 2130.0, "POM_5V_GPU": 80.0, "POM_5V_CPU": 280.0}


def test_ina_two_stumbles_are_a_missing_sample_and_no_zero(tmp_path: Path) -> None:
    _nano(tmp_path)
    driver = Driver()
    with InaSource(tmp_path, read=driver) as source:
        driver.fail["curr1_input"] = (errno.EIO, 2)
        assert source.read() is None
        assert source.read() is not None


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV])
def test_ina_a_chip_that_vanishes_ends_it(tmp_path: Path, code: int) -> None:
    _nano(tmp_path)
    driver = Driver()
    with InaSource(tmp_path, read=driver) as source:
        driver.fail["in3_input"] = (code, -1)
        with pytest.raises(PowerError, match=r"ina: rail POM_5V_CPU vanished .* measure again"):
            source.read()


@pytest.mark.parametrize("content", ["", "garbage", "12.5"])
def test_ina_garbage_in_a_file_is_a_missing_sample(tmp_path: Path, content: str) -> None:
    folder = _nano(tmp_path)
    with InaSource(tmp_path) as source:
        (folder / "curr1_input").write_text(content)
        assert source.read() is None


def test_ina_two_rails_of_one_name_stay_apart_and_make_no_board(tmp_path: Path) -> None:
    _nano(tmp_path)
    trees.hwmon_ina3221(tmp_path, "1-0041", [("POM_5V_IN", 5000, 100), NC, NC], number=3)
    with InaSource(tmp_path) as source:
        assert source.rails == ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU", "POM_5V_IN#2")
        assert total_mw(source.read() or {}) is None


def test_ina_the_input_sensors_current_gives_the_sign(tmp_path: Path) -> None:
    trees.hwmon_ina238(tmp_path, "2-0044", ("VIN", 20000, -3), number=0)
    with InaSource(tmp_path) as source:
        assert source.read() == {"VIN": -60.0}


def test_ina_no_chip_says_what_else_to_do(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match=r"ina: no power chip .* external meter"), InaSource(tmp_path):
        pass


def test_ina_permission_denied_says_how_to_grant_it(tmp_path: Path) -> None:
    _nano(tmp_path)
    refuse = {f"in{channel}_input": (errno.EACCES, -1) for channel in (1, 2, 3)}
    with (
        pytest.raises(PowerError, match=r"permission denied; let all users read"),
        InaSource(tmp_path, read=Driver(**refuse)),
    ):
        pass


def test_ina_every_channel_off_is_an_error(tmp_path: Path) -> None:
    _nano(tmp_path)
    off = {f"in{channel}_input": (errno.ENODATA, -1) for channel in (1, 2, 3)}
    with pytest.raises(PowerError, match="switched off"), InaSource(tmp_path, read=Driver(**off)):
        pass
