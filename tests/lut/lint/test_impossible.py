from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netadapt_trt.backend import Attribution, LayerTime
from netadapt_trt.lut.blocks import block_key
from netadapt_trt.lut.importers.formats import import_tables
from netadapt_trt.lut.importers.table import Conditions
from netadapt_trt.lut.lint.finding import ELSEWHERE
from netadapt_trt.lut.lint.impossible import constants, costly_skips, powerless, proportional_columns, too_fast
from netadapt_trt.lut.lint.statistics import scatter, too_few_runs
from netadapt_trt.lut.store import read_lut
from netadapt_trt.plan.schema import Dim, Layer, Plan
from netadapt_trt.profile.attribution import cells_in_network

HANNA = Path(__file__).parents[4] / "shared" / "data" / "hanna-rpi3"
OURS = Path(__file__).parents[3] / "luts" / "raspberry-pi-3b"
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


def test_constants_leave_layers_within_networks_alone(table: Any) -> None:
    """Such cells as profile writes them: a share of the network's median, with as many runs as were profiled."""
    sizes, widths = {"a": 8}, Dim(0, (("a", 1),))
    layers = [Layer(name, (widths,), (name,)) for name in ("first", "second")]
    times = tuple(LayerTime(layer=layer, latency_ms=ms) for layer, ms in zip(layers, (1.0, 3.0), strict=True))
    told = Attribution(layers=times, edges=(), total_ms=4.0, mapped_share=1.0)
    nothing: Any = {"inputs": (), "outputs": (), "groups": (), "frozen": (), "tensors": {}, "weights": {}, "constants": {}}
    plan = Plan(model="m", args={}, ops=(), **nothing)
    for cell in cells_in_network(told, plan, sizes, latency_ms=8.0, runs=20, session="s1"):
        table.lut.add(cell)
    first, second = (cell.latency_ms for cell in table.lut.cells)
    assert (first.median, first.p10, first.p90, first.n) == (2.0, 2.0, 2.0, 20)
    assert (second.median, second.p10, second.p90) == (6.0, 6.0, 6.0)
    assert constants(table.lut) == []
    assert scatter(table.lut) == too_few_runs(table.lut) == []
    table.cell("first", (8,), 2.0, n=20)
    (found,) = constants(table.lut)
    assert found.text == "1 of 1 cells took the same time in every run"


def test_published_raspberry_pi_tables_have_both_faults(tmp_path: Path) -> None:
    """The files as they are, through the importer: 22 layers of eight blocks and a skip; seconds, joules and watts."""
    if not HANNA.is_dir():
        pytest.skip("the published Raspberry Pi 3 tables are not beside this checkout")
    latency, energy, power = (HANNA / f"rpi_{name}.txt" for name in ("speed", "energy", "power"))
    out = tmp_path / "pi.lut.jsonl"
    import_tables([latency], out, Conditions(device="Raspberry Pi 3"), energy=energy, power=power)
    lut = read_lut(out)
    (column,) = proportional_columns(lut)
    assert column.text.startswith("power_mw of supply is energy_mj times 3.407 in all 192 cells")
    (skips,) = costly_skips(lut)
    assert "20 of 22 in latency_ms (0.52 to 0.74 x), 16 of 16 in energy_mj (0.90 to 1.11 x)" in skips.text
    assert powerless(lut) == []  # the six skips of 0 W are where the shape changes


@pytest.mark.parametrize("path", sorted(OURS.glob("*.lut.jsonl")), ids=lambda path: path.stem)
def test_our_raspberry_pi_tables_have_costly_skips(path: Path) -> None:
    """Latency by hand: in layer 1 a skip takes 145.6 ms of 308.0 (0.47), in layer 22 76.2 of 103.6 (0.74)."""
    lut = read_lut(path)
    (skips,) = costly_skips(lut)
    words = "20 of 22 in latency_ms (0.52 to 0.74 x), 16 of 16 in power_mw of supply (0.90 to 1.11 x)"
    assert skips.text == f"skips cost about as much as a block: {words}"
    assert skips.action == f"leave these cells out, or ask where the table came from; {ELSEWHERE}"
    # All but layers 1 and 2 or such, worst first: 1533 mW against the 1380 mW of the cheapest block.
    assert len(skips.places) == 21
    assert skips.places[0].text == "power_mw of supply 1533 is 1.11 x the block's 1380"
    assert all(place.layer.endswith(" block=skip") for place in skips.places)
    assert powerless(lut) == []  # where a skip has no power its source says 0 W, and the importer leaves that out


def test_our_raspberry_pi_tables_exist() -> None:
    assert list(OURS.glob("*.lut.jsonl"))


def test_powerless_leaves_a_named_skip_alone(table: Any) -> None:
    table.cell(block_key(3, "skip"), (), 1.0, power_mw={"supply": 0.0})
    assert powerless(table.lut) == []
    table.cell(block_key(3, "k3_e1"), (), 1.0, power_mw={"supply": 0.0})
    (zero,) = powerless(table.lut)
    assert [place.layer for place in zero.places] == [block_key(3, "k3_e1")]
