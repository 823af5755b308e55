from __future__ import annotations

from typing import Any

from netadapt_trt.lut.lint.steps import slower_than_wider


def test_slower_than_wider_calls_an_odd_size_a_staircase(table: Any) -> None:
    for width, ms in ((24, 0.9), (28, 1.2), (32, 1.0)):
        table.cell("conv", (3, width), ms)
    (found,) = slower_than_wider(table.lut)
    assert (found.severity, found.rule) == ("info", "staircase")
    assert found.places[0].text == "1 of 3 cells, worst [3, 28]: 1.2 ms, 20 % more than [3, 32] (1 ms)"


def test_slower_than_wider_calls_a_round_size_a_bad_cell(table: Any) -> None:
    for width, ms in ((32, 1.2), (40, 1.0), (48, 1.3)):
        table.cell("conv", (width, 3), ms)
    table.cell("head", (8,), 2.0)  # 100 % more: bad, though 64 is rounder
    table.cell("head", (64,), 1.0)
    (found,) = slower_than_wider(table.lut)
    assert (found.severity, found.rule) == ("warning", "bad-cells")
    assert [(place.layer, place.cells) for place in found.places] == [("head", ((8,),)), ("conv", ((32, 3),))]
    assert "lut merge" in found.action


def test_slower_than_wider_allows_for_both_spreads(table: Any) -> None:
    # Half of p10 to p90: 0.15 and 0.2 together are 0.25, as in a triangle of 3, 4 and 5.
    for layer, slow in (("within", 1.24), ("beyond", 1.26)):
        table.cell(layer, (32,), slow, spread=(0.1, 0.2))
        table.cell(layer, (40,), 1.0, spread=(0.2, 0.2))
    (found,) = slower_than_wider(table.lut)
    assert [place.layer for place in found.places] == ["beyond"]


def test_slower_than_wider_compares_comparable_cells_only(table: Any) -> None:
    table.cell("conv", (8, 32), 2.0)
    table.cell("conv", (16, 16), 1.0)  # wider in one size, narrower in the other
    table.cell("conv", (8, 64), 1.0, context="in_network")
    table.cell("other", (8,), 2.0, flags=("noisy",))
    table.cell("other", (16,), 1.0)
    table.cell("small", (32,), 1.02)  # 2 %
    table.cell("small", (40,), 1.0)
    assert slower_than_wider(table.lut) == []
