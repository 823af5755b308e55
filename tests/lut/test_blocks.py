from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.blocks import block_key, read_block_table
from netadapt_trt.lut.schema import Cell
from netadapt_trt.spec import EnergyStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut


def test_block_table_sorts_rows_by_number_and_leaves_other_cells_alone(make_lut: Callable[..., Lut]) -> None:
    lut = make_lut({
        block_key(10, "wide"): {(): 4.0},
        block_key(2, "wide"): {(): 2.0},
        block_key(2, "skip"): {(): 0.5},
        "x0[1,a] Relu(x0)=y0": {(8,): 1.0},
    })  # fmt: skip
    lut.add(Cell(layer=block_key(2, "wide"), widths=(), session="s1", energy_mj=EnergyStats(total=7.0)))
    table = read_block_table(lut)
    assert (table.layers, table.blocks) == ((2, 10), ("wide", "skip"))
    np.testing.assert_array_equal(table.latency_ms, [[2.0, 0.5], [4.0, np.nan]])
    np.testing.assert_array_equal(table.energy_mj, [[7.0, np.nan], [np.nan, np.nan]])


def test_block_table_of_a_lut_of_layers_says_how_to_make_one(make_lut: Callable[..., Lut]) -> None:
    with pytest.raises(CoverageError, match="lut import FILE"):
        read_block_table(make_lut({"x0[1,a] Relu(x0)=y0": {(8,): 1.0}}))
