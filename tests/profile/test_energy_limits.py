"""How long energy takes: told beforehand, kept within a limit, and nothing lost to a kill."""

from __future__ import annotations

import importlib
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.schema import MODELLED
from netadapt_trt.lut.store import read_lut
from netadapt_trt.profile import session
from netadapt_trt.profile.energy import profile_energy
from netadapt_trt.profile.run import Effort, profile
from netadapt_trt.profile.sampling import Sampling
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

Board: Any = importlib.import_module("power_board").Board
Powered: Any = importlib.import_module("powered_backend").Powered
STILL = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0)
QUICK = Effort(warmup_ms=0.0, min_runs=3, min_ms=0.0, max_ms=1.0)
WINDOW_S = 14.2  # pause, settling and window


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def board() -> Any:
    return Board()


@pytest.fixture
def table(tmp_path: Path, clockwork: ModuleType, board: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(session, "other_load", lambda: None)  # the real one watches for a fifth of a second
    path = tmp_path / "t.lut.jsonl"
    profile(clockwork.make_plan(), Powered(board), path, granularity=16, effort=QUICK, sampling=STILL)
    return path


def measured_cells(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """In the order they came, each once."""
    lines = (line for line in read_lut(path).cells if line.energy_mj is not None and MODELLED not in line.flags)
    return list(dict.fromkeys((line.layer, line.widths) for line in lines))


def test_count_and_time_are_told_and_a_cell_takes_no_idle_window_of_its_own(
    table: Path, clockwork: ModuleType, board: Any
) -> None:
    told, begun = Notices(), board.now
    result = profile_energy(
        clockwork.make_plan(),
        Powered(board),
        table,
        board.meter(),
        cells=9,
        granularity=16,
        clock=board.clock,
        progress=told,
    )
    (text,) = (text for text in told.texts if "to measure" in text)
    found = re.search(r"energy of (\d+) cells and (\d+) whole networks to measure, which takes about (\d+) min", text)
    assert found is not None
    assert [int(number) for number in found.groups()[:2]] == [9, 3]
    assert f"; {result.modelled} cells are left to the model" in text
    took_s = board.now - begun
    assert int(found[3]) == pytest.approx(took_s / 60, abs=0.8)
    windows = result.measured + 2 * result.networks
    assert took_s < 1.35 * WINDOW_S * windows  # twice with an idle window after each
    assert result.seconds == pytest.approx(took_s, abs=0.1)


def test_every_line_gets_its_dynamic_energy_in_the_end(table: Path, clockwork: ModuleType, board: Any) -> None:
    board.idle_mw = lambda now: 6000.0 + 2.0 * (now - 1000.0)  # 0.12 W a minute
    profile_energy(clockwork.make_plan(), Powered(board), table, board.meter(), cells=9, granularity=16)
    lut = read_lut(table)
    lines = [lut.cell(layer, widths) for layer, widths in measured_cells(table)]
    assert len(lines) == 9
    for line in lines:
        assert line is not None
        assert line.latency_ms is not None
        assert line.energy_mj is not None
        assert line.energy_mj.dynamic is not None
        assert 1000.0 < line.energy_mj.dynamic / line.latency_ms.median * 1000 < 5001.0  # the formula's extremes
    latest = {tuple(line.widths.values()): line for line in lut.networks if line.energy_mj is not None}
    assert len(latest) == 3
    assert all(line.energy_mj is not None and line.energy_mj.dynamic is not None for line in latest.values())


@pytest.mark.parametrize("limit_s", [10.0, 80.0, 160.0])
def test_time_limit_is_kept_and_the_next_run_goes_on(table: Path, clockwork: ModuleType, board: Any, limit_s: float) -> None:
    plan, begun, told = clockwork.make_plan(), board.now, Notices()
    first = profile_energy(
        plan,
        Powered(board),
        table,
        board.meter(),
        cells=9,
        time_limit_s=limit_s,
        granularity=16,
        clock=board.clock,
        progress=told,
    )
    assert board.now - begun <= limit_s
    assert first.stopped == "time limit"
    assert "run the same command again" in told.texts[-1]
    assert first.missing == 9 + 3 - first.measured - first.networks > 0
    assert (first.networks > 0) == (limit_s > 50)  # the uncut network first: budgets refer to it
    assert (first.measured > 0) == (limit_s > 100)
    before = measured_cells(table)
    second = profile_energy(plan, Powered(board), table, board.meter(), cells=9, granularity=16, clock=board.clock)
    assert (second.measured, second.networks) == (9 - first.measured, 3 - first.networks)
    assert (second.stopped, second.missing) == (None, 0)
    assert measured_cells(table)[: len(before)] == before


def test_killed_run_goes_on_with_the_cells_of_an_uninterrupted_one(
    tmp_path: Path, table: Path, clockwork: ModuleType, board: Any
) -> None:
    plan, whole = clockwork.make_plan(), tmp_path / "whole.lut.jsonl"
    whole.write_bytes(table.read_bytes())
    another = Board()
    profile_energy(plan, Powered(another), whole, another.meter(window_s=5.0), cells=8, granularity=16)

    class Doomed(Powered):  # type: ignore[misc]
        compiled = 0

        def compile(self, model: bytes, options: Any) -> Any:
            self.compiled += 1
            if self.compiled == 6:  # the uncut network and four cells are measured
                os.kill(os.getpid(), signal.SIGKILL)
            return super().compile(model, options)

    child = os.fork()
    if not child:
        profile_energy(plan, Doomed(board), table, board.meter(window_s=5.0), cells=8, granularity=16)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kept = measured_cells(table)
    assert len(kept) == 4
    again = profile_energy(plan, Powered(board), table, board.meter(window_s=5.0), cells=8, granularity=16)
    assert (again.measured, again.networks) == (4, 2)
    assert kept == measured_cells(table)[:4]
    assert measured_cells(table) == measured_cells(whole)


def test_second_run_with_nothing_to_measure_adds_nothing(table: Path, clockwork: ModuleType, board: Any) -> None:
    plan = clockwork.make_plan()
    first = profile_energy(plan, Powered(board), table, board.meter(window_s=5.0), cells=8, granularity=16)
    before = table.read_bytes()
    told = Notices()
    again = profile_energy(plan, Powered(board), table, board.meter(window_s=5.0), cells=8, granularity=16, progress=told)
    assert table.read_bytes() == before
    assert (again.measured, again.modelled, again.model_error) == (0, first.modelled, first.model_error)
    assert told.texts == []
