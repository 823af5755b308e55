"""Lines under whose energy readings were missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from netadapt_trt.lut.reading import value_of
from netadapt_trt.lut.schema import Cell, NetworkLine
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.spec import EnergyStats, Identity

if TYPE_CHECKING:
    from pathlib import Path

MakeCell = Callable[..., Cell]


def test_energy_under_which_readings_were_missing_counts_for_nothing(
    lut_file: Path, identity: Identity, make_cell: MakeCell
) -> None:
    lost = replace(make_cell("L", (8,), 0.25), energy_mj=EnergyStats(total=70.0), power_mw={"IN": 50.0})
    lost = replace(lost, flags=("low_coverage",))
    network = NetworkLine(plan="h", widths={"a": 4}, session="s1", energy_mj=EnergyStats(total=3.0))
    with LutWriter(lut_file, identity) as writer:
        writer.append(lost, network, replace(network, energy_mj=EnergyStats(total=21.0), flags=("low_coverage",)))
    lut = read_lut(lut_file)
    cell, line = lut.cell("L", (8,)), lut.network("h", {"a": 4}, energy=True)
    assert cell is not None
    assert (cell.latency_ms, cell.energy_mj, cell.power_mw) == (lost.latency_ms, None, {})
    assert line is not None
    assert line.energy_mj == EnergyStats(total=3.0)
    assert [value_of(each, "energy") for each in lut.networks] == [3.0, None]
    assert value_of(lost, "energy@IN") is None
    with LutWriter(lut_file, identity) as writer:
        writer.append(replace(lost, latency_ms=None, energy_mj=EnergyStats(total=10.0), flags=()))
    cell = read_lut(lut_file).cell("L", (8,))
    assert cell is not None
    assert (cell.energy_mj, cell.power_mw, cell.flags) == (EnergyStats(total=10.0), {"IN": 50.0}, ())
