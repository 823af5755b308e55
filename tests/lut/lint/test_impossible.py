from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netadapt_trt.lut.lint.impossible import constants, costly_skips, powerless, proportional_columns, too_fast

HANNA = Path(__file__).parents[4] / "shared" / "data" / "hanna-rpi3"
BLOCKS = ("k3e1", "k3e1g2", "k3e3", "k3e6", "k5e1", "k5e1g2", "k5e3", "k5e6")
POWERS_W = (3.4748, 1.3797, 1.533, 2.7083, 1.533, 1.3797, 3.1171, 2.4017)
"""The first row of the Raspberry Pi 3 table's powers; its energies are 1.02 0.405 0.45 0.795 0.45 0.405 0.915 0.705."""


def _row(table: Any, layer: int, powers: tuple[float, ...], energies: tuple[float, ...], skip: float) -> None:
    for index, (name, watts, joules) in enumerate(zip(BLOCKS, powers, energies, strict=True)):
        ms = 300.0 + 17 * index + 5 * layer
        table.cell(f"hanna {layer} {name}", (), ms, mj=joules * 1000, power_mw={"board": watts * 1000})
    table.cell(f"hanna {layer} skip", (), 128.0, mj=skip * 1000, power_mw={"board": skip * 3406.67})


def test_proportional_columns_say_which_and_by_how_much(table: Any) -> None:
    _row(table, 1, POWERS_W, tuple(round(watts / 3.40667, 3) for watts in POWERS_W), skip=0.405)
    (found,) = proportional_columns(table.lut)
    assert found.rule == "proportional-columns"
    words = "power_mw of board is energy_mj times 3.407 in all 9 cells (so energy_mj is power_mw of board / 3.407)"
    assert found.text == words


def test_proportional_columns_of_measured_ones_are_none(table: Any) -> None:
    energies = [round(watts / 3.40667, 3) for watts in POWERS_W]
    _row(table, 1, POWERS_W, (energies[0] * 1.02, *energies[1:]), skip=0.405)  # one cell, 2 per cent off
    assert proportional_columns(table.lut) == []


def test_proportional_columns_name_an_energy_that_is_latency(table: Any) -> None:
    for width in range(8, 80, 8):
        table.cell("conv", (width,), width / 10 + 1, mj=(width / 10 + 1) * 4.2)
        table.cell("modelled", (width,), width / 10 + 1, mj=(width / 10 + 1) * 5, flags=("modelled",))
    (found,) = proportional_columns(table.lut)
    assert found.text.startswith("energy_mj is latency_ms times 4.2 in all 9 cells")


def test_proportional_columns_need_cells_that_vary(table: Any) -> None:
    for step in range(20):
        table.cell("conv", (step + 1,), 1 + step / 200, mj=2 + step / 100)  # all within 10 %
    for step in range(7):
        table.cell("in", (step + 1,), 1.0 + step, mj=2.0 + 2 * step, context="in_network")  # too few
    assert proportional_columns(table.lut) == []


def test_proportional_columns_name_a_constant_power(table: Any) -> None:
    for width in range(8, 80, 8):
        table.cell("conv", (width,), width / 10, power_mw={"board": 5000.0})
    (found,) = proportional_columns(table.lut)
    assert found.rule == "constant-column"
    assert found.text == "power_mw of board is 5000 in all 9 cells"
    table.cell("conv", (88,), 9.0, power_mw={"board": 5001.0})
    assert proportional_columns(table.lut) == []


def test_costly_skips_are_set_against_the_cheapest_block_of_their_place(table: Any) -> None:
    for layer, skip_mj in ((1, 0.405), (2, 0.2), (3, 0.21)):  # of 0.405: all, less than half, more than half
        _row(table, layer, POWERS_W, (1.02, 0.405, 0.45, 0.795, 0.45, 0.405, 0.915, 0.705), skip_mj)
    (found,) = costly_skips(table.lut)
    # Latency is 128 of 305 ms; power is energy times a constant.
    assert "skips cost about as much as a block: 2 of 3 in energy_mj (0.52 to 1.00 x), 2 of 3 in power_mw" in found.text
    assert [place.layer for place in found.places] == ["hanna 1 skip", "hanna 3 skip"]
    assert found.places[0].text == "energy_mj 405 is 1.00 x the block's 405"


def test_costly_skips_leave_small_copies_alone(table: Any) -> None:
    key, pool = "x0[1,a,4,4] Conv(x0 [b,a,1,1] [b])=y0", "x0[1,a,4,4] GlobalAveragePool(x0)=y0"
    for width, block, copy in ((16, 0.004, 0.004), (64, 0.02, 0.006), (128, 0.05, 0.04)):
        table.cell(key, (width, 16), block)
        table.cell(pool, (width,), copy)
    assert costly_skips(table.lut) == []
    table.cell(key, (256, 16), 0.09)
    table.cell(pool, (256,), 0.1)
    (found,) = costly_skips(table.lut)
    assert found.places[0].cells == ((256,),)


def test_too_fast_names_the_cell_that_ran_nothing(table: Any) -> None:
    key = "x0[1,a,4,4] Conv(x0 [b,a,1,1] [b])=y0"
    for width in range(8, 96, 8):  # 16 * 8 * width products, two a nanosecond
        table.cell(key, (width, 8), 16 * 8 * width / 2e6)
    assert too_fast(table.lut) == []
    table.cell(key, (96, 8), 16 * 8 * 96 / 5.9e6)  # 2.95 x
    assert too_fast(table.lut) == []
    table.cell(key, (104, 8), 16 * 8 * 104 / 18e6)  # 18 G against 5.9
    (found,) = too_fast(table.lut)
    assert found.text.startswith("1 of 13 cells did over 3 x the multiply-accumulates a second of any other (at most 5.9 G)")
    assert found.places[0].cells == ((104, 8),)


def test_too_fast_leaves_another_kind_of_layer_alone(table: Any) -> None:
    for width in range(8, 96, 8):
        table.cell("x0[1,a,4,4] Conv(x0 [b,a,1,1] [b])=y0", (width, 8), width / 2e3)
        table.cell("x0[1,a,4,4] Conv(x0 [a,1,3,3] [a] group=a)=y0", (width,), width / 2e3)
    assert too_fast(table.lut) == []


def test_powerless_cells(table: Any) -> None:
    table.cell("conv", (8,), 1.0, power_mw={"gpu": 0.0, "cpu": 100.0})
    table.cell("hanna 1 skip", (), 1.0, power_mw={"board": 0.0})
    table.cell("conv", (16,), 1.0, mj=2.0, dynamic=-0.1, stderr=0.06)  # within two errors
    assert powerless(table.lut) == []
    table.cell("conv", (24,), 1.0, power_mw={"gpu": 0.0, "cpu": 0.0})
    table.cell("conv", (32,), 1.0, mj=2.0, dynamic=-0.13, stderr=0.06)
    zero, below = powerless(table.lut)
    assert zero.text == "1 of 4 cells draw no power"
    assert zero.places[0].cells == ((24,),)
    assert below.places[0].cells == ((32,),)
    assert "-0.13 mJ above idle, of 2" in below.places[0].text


def test_constants_are_times_without_scatter(table: Any) -> None:
    table.cell("conv", (8,), 1.0, n=19)
    table.cell("conv", (16,), 1.0, n=1000, spread=(0.0, 0.001))
    table.cell("conv", (24,), 0.1, n=1000)  # a coarse clock may do that
    assert constants(table.lut) == []
    table.cell("conv", (32,), 1.0, n=20)
    (found,) = constants(table.lut)
    assert found.text == "1 of 4 cells took the same time in every run"


def test_published_raspberry_pi_tables_have_both_faults(table: Any) -> None:
    """The files as they are: 22 layers of eight blocks and a skip; seconds, joules and watts."""
    if not HANNA.is_dir():
        pytest.skip("the published Raspberry Pi 3 tables are not beside this checkout")
    columns = [
        [[float(word) for word in line.split()] for line in (HANNA / name).read_text().splitlines() if line.strip()]
        for name in ("rpi_speed.txt", "rpi_energy.txt", "rpi_power.txt")
    ]
    for number, (seconds, joules, watts) in enumerate(zip(*columns, strict=True)):
        for name, s, j, w in zip((*BLOCKS, "skip"), seconds, joules, watts, strict=True):
            values = {"power_mw": {"board": w * 1000}, "n": 1}
            table.cell(f"hanna {number} {name}", (), s * 1000, mj=j * 1000 or None, **values)
    (column,) = proportional_columns(table.lut)
    assert column.text.startswith("power_mw of board is energy_mj times 3.407 in all 192 cells")
    (skips,) = costly_skips(table.lut)
    assert "16 of 16 in energy_mj (0.90 to 1.11 x)" in skips.text
    assert powerless(table.lut) == []  # the six skips of 0 W are where the shape changes
