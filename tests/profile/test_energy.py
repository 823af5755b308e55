"""Energy of cells on a simulated board: a device whose layers move its clock and draw power by the fake device's formula."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import CoverageError, PowerError
from netadapt_trt.lut.reading import initial_measured
from netadapt_trt.lut.schema import MODELLED
from netadapt_trt.lut.store import read_lut
from netadapt_trt.measure.device_state import device_state
from netadapt_trt.profile.energy import profile_energy
from netadapt_trt.profile.grid import plan_cells
from netadapt_trt.profile.run import Effort, pending_cells, profile
from netadapt_trt.profile.sampling import Sampling

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from netadapt_trt.measure.device_state import DeviceState

Board: Any = importlib.import_module("power_board").Board
Powered: Any = importlib.import_module("powered_backend").Powered
STILL = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0)
QUICK = Effort(warmup_ms=0.0, min_runs=3, min_ms=0.0, max_ms=1.0)


def true_energy_mj(latency_ms: float, power_mw: float) -> float:
    """The board idles at 6 W; what a layer draws comes on top."""
    return latency_ms * (6000.0 + power_mw) / 1000


@pytest.fixture
def board() -> Any:
    return Board()


def test_few_cells_are_measured_and_the_rest_is_modelled(tmp_path: Path, clockwork: ModuleType, board: Any) -> None:
    plan, backend, path = clockwork.make_plan(), Powered(board), tmp_path / "t.lut.jsonl"
    profile(plan, backend, path, granularity=16, effort=QUICK, sampling=STILL)
    result = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=8, granularity=16)
    assert (result.measured, result.networks, result.unresolved) == (8, 3, 0)
    assert result.modelled > 8
    assert result.model_error is not None
    assert result.model_error < 0.15
    lut, layers = read_lut(path), backend.partition(plan)
    seen = {"measured": 0, "modelled": 0}
    for cell in plan_cells(plan, layers, granularity=16):
        line = lut.cell(cell.layer.key, cell.widths)
        assert line is not None
        assert line.latency_ms is not None
        assert line.energy_mj is not None
        low, high = (true_energy_mj(line.latency_ms.median, power) for power in (1000.0, 5000.0))  # the formula's extremes
        if MODELLED in line.flags:
            seen["modelled"] += 1
            assert low * 0.8 < line.energy_mj.total < high * 1.2
            (said,) = (each for each in lut.cells if each.layer == line.layer and each.widths == line.widths and each.flags)
            error = said.details["model_error"]
            assert isinstance(error, float)
            assert line.energy_mj.stderr == pytest.approx(line.energy_mj.total * error, rel=2e-3)
            assert said.details["model_points"] == 8
        else:
            seen["measured"] += 1
            assert low < line.energy_mj.total < high
            assert line.power_mw["VDD_IN"] == pytest.approx(line.energy_mj.total / line.latency_ms.median * 1000, rel=1e-3)
    assert seen == {"measured": result.measured, "modelled": result.modelled}
    # Budgets on energy have what they refer to, and latencies need not be measured again.
    assert initial_measured(lut, plan, "energy") > initial_measured(lut, plan, "energy@VDD_SOC") > 0
    assert pending_cells(lut, plan_cells(plan, layers, granularity=16)) == []


def test_second_run_measures_only_what_is_asked_beyond(tmp_path: Path, clockwork: ModuleType, board: Any) -> None:
    plan, backend, path = clockwork.make_plan(), Powered(board), tmp_path / "t.lut.jsonl"
    profile(plan, backend, path, granularity=16, effort=QUICK, sampling=STILL)
    profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=4, granularity=16)
    again = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=6, granularity=16)
    assert (again.measured, again.networks) == (2, 0)


def test_cell_under_which_the_board_throttled_twice_is_modelled_and_wanted_again(
    tmp_path: Path, clockwork: ModuleType, board: Any
) -> None:
    plan, backend, path = clockwork.make_plan(), Powered(board), tmp_path / "t.lut.jsonl"
    root = importlib.import_module("jetson_trees").orin_nano(tmp_path / "root")
    profile(plan, backend, path, granularity=16, effort=QUICK, sampling=STILL)
    reads = 0

    def read() -> DeviceState:
        # Reads: opening; before the uncut network, its session, behind it; around both attempts at the first cell.
        nonlocal reads
        reads += 1
        if reads in (6, 8):
            (root / "sys/class/hwmon/hwmon3/oc3_event_cnt").write_text(f"{17 + reads}\n")
        return device_state(root)

    result = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=6, granularity=16, device=read)
    lut = read_lut(path)
    flagged, *late = (line for line in lut.cells if "throttled" in line.flags)
    assert all((line.layer, line.widths) == (flagged.layer, flagged.widths) for line in late)
    assert flagged.energy_mj is not None
    assert result.measured == 6
    cell = lut.cell(flagged.layer, flagged.widths)
    assert cell is not None
    assert cell.flags == (MODELLED,)  # a model of steady cells is better than one that was throttled
    assert pending_cells(lut, plan_cells(plan, backend.partition(plan), granularity=16)) == []  # its latency was steady
    again = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=6, granularity=16)
    assert again.measured == 1


def test_energy_with_missing_readings_is_no_energy_and_wanted_again(
    tmp_path: Path, clockwork: ModuleType, board: Any
) -> None:
    plan, backend, path = clockwork.make_plan(), Powered(board), tmp_path / "t.lut.jsonl"
    profile(plan, backend, path, granularity=16, effort=QUICK, sampling=STILL)
    board.deaf = [(at, at + 0.6) for at in range(int(board.now) + 5, int(board.now) + 10_000)]
    lost = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=4, granularity=16)
    assert (lost.measured, lost.unresolved, lost.modelled) == (4, 4, 0)
    lut = read_lut(path)
    assert all(cell.energy_mj is None for cell in lut.cells)
    with pytest.raises(CoverageError, match="no end-to-end energy"):
        initial_measured(lut, plan, "energy")
    board.deaf = []
    again = profile_energy(plan, backend, path, board.meter(window_s=5.0), cells=4, granularity=16)
    assert (again.measured, again.unresolved, again.networks) == (4, 0, 3)


def test_vanished_source_keeps_what_was_measured(tmp_path: Path, clockwork: ModuleType, board: Any) -> None:
    plan, backend, path = clockwork.make_plan(), Powered(board), tmp_path / "t.lut.jsonl"
    empty = tmp_path / "empty.lut.jsonl"
    profile(plan, backend, empty, granularity=16, effort=QUICK, sampling=STILL, max_cells=0)
    with pytest.raises(CoverageError, match="run profile for it first"):
        profile_energy(plan, backend, empty, board.meter(window_s=5.0), granularity=16)
    profile(plan, backend, path, granularity=16, effort=QUICK, sampling=STILL)
    board.fails_at = board.now + 60.0
    with pytest.raises(PowerError, match="gone"):
        profile_energy(plan, backend, path, board.meter(window_s=5.0), granularity=16)
    lut = read_lut(path)
    measured = [cell for cell in lut.cells if cell.energy_mj is not None]
    assert 0 < len(measured) < 10
    assert lut.sessions[measured[0].session].power_source == "board"
