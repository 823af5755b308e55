"""The schedule of a measurement, on a simulated board with a clock of its own: nothing here takes real time but one test."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.meter import PowerMeter

power_board: Any = importlib.import_module("power_board")
Board = power_board.Board
IDLE_MW, LOAD_MW, RUN_S = power_board.IDLE_MW, power_board.LOAD_MW, power_board.RUN_S


def test_meter_measures_energy_of_a_run() -> None:
    board = Board()
    with board.meter() as meter:
        found = meter.measure(board.run)
    assert found.total_mj == pytest.approx(11000.0 * 0.013, rel=1e-5)  # 143 mJ
    assert found.dynamic_mj == pytest.approx(5000.0 * 0.013, rel=1e-5)  # 65 mJ
    assert found.idle_mw == pytest.approx(6000.0)
    assert found.runs == 770  # 769 runs of 13 ms fall 3 ms short of ten seconds
    assert found.window_s == pytest.approx(10.01)
    assert found.flags == ()
    assert board.lengths() == [("rest", 10.0), ("load", 12.2), ("closed", 0.0)]


def test_meter_windows_hold_whole_runs() -> None:
    board = Board()
    with board.meter() as meter:
        found = meter.measure(lambda: board.pass_time("load", 4.0, LOAD_MW))
    assert (found.runs, found.window_s) == (3, 12.0)
    assert found.total_mj == pytest.approx(44_000.0, rel=1e-5)


def test_meter_rests_between_loads_and_measures_idle_again_when_it_is_old() -> None:
    board = Board()
    with board.meter(idle_every_s=30.0) as meter:
        for _ in range(4):
            meter.measure(board.run)
    assert board.lengths() == [
        ("rest", 10.0),
        ("load", 12.2),
        ("rest", 2.0),
        ("load", 12.2),
        ("rest", 2.0),
        ("load", 12.2),  # 40.6 s after the last idle window: 4.4 s for the sensor to forget, 10 s idle, and the pause
        ("rest", 16.4),
        ("load", 12.2),
        ("closed", 0.0),
    ]


@pytest.mark.parametrize("idle_every_s", [30.0, 120.0])
def test_meter_knows_beforehand_how_long_it_takes(idle_every_s: float) -> None:
    board = Board()
    with board.meter(idle_every_s=idle_every_s) as meter:
        said = meter.seconds_for(20)
        for _ in range(20):
            meter.measure(board.run)
        meter.idle()
    assert said == pytest.approx(board.now - 1000.0, rel=0.1)
    assert meter.seconds_for(0) == 0.0


def test_meter_revises_with_idle_that_came_later() -> None:
    board = Board(idle_mw=lambda now: IDLE_MW + 5.0 * (now - 1000.0))  # 0.3 W a minute
    with board.meter(idle_every_s=60.0) as meter:
        first, second = meter.measure(board.run), meter.measure(board.run)
        wanted = LOAD_MW * RUN_S
        # Idle was measured around 5 s, the second window lies around 29 s: 24 s of drift count as load.
        assert second.dynamic_mj == pytest.approx((LOAD_MW + 24 * 5.0) * RUN_S, rel=0.005)
        assert meter.revised(second) == second
        meter.idle()
        for result in (first, second):
            assert meter.revised(result).dynamic_mj == pytest.approx(wanted, rel=0.005)
            assert meter.revised(result).total_mj == pytest.approx(result.total_mj, rel=1e-4)
        meter.idle()
        assert meter.revised(second) is second  # over: revise before the second idle window


def test_meter_measures_idle_on_both_sides_when_asked() -> None:
    board = Board(idle_mw=lambda now: IDLE_MW + 5.0 * (now - 1000.0))
    with board.meter(idle_every_s=0.0) as meter:
        found = meter.measure(board.run)
    assert found.dynamic_mj == pytest.approx(LOAD_MW * RUN_S, rel=0.005)
    assert board.lengths() == [("rest", 10.0), ("load", 12.2), ("rest", 14.4), ("closed", 0.0)]


def test_meter_measures_idle_once_more_where_readings_are_missing() -> None:
    board = Board(deaf=[(1003.0, 1007.0)])
    with board.meter() as meter:
        found = meter.measure(board.run)
    assert board.lengths()[:2] == [("rest", 20.0), ("load", 12.2)]
    assert found.valid
    assert found.dynamic_mj == pytest.approx(65.0, rel=1e-4)


def test_meter_lets_go_of_an_idle_window_with_missing_readings_when_there_is_a_better_one() -> None:
    board = Board(deaf=[(1003.0, 1007.0), (1013.0, 1017.0)])  # in both attempts
    with board.meter() as meter:
        found = meter.measure(board.run)
        assert not found.valid
        assert found.total_mj is None
        meter.idle()
        assert meter.revised(found).valid
        assert meter.revised(found).total_mj == pytest.approx(143.0, rel=1e-4)


def test_meter_settles_longer_on_a_slower_source() -> None:
    board = Board(time_constant_s=1.0)  # such as a driver that averages over a second
    with board.meter() as meter:
        found = meter.measure(board.run)
    assert board.lengths()[1] == ("load", 15.0)
    assert found.total_mj == pytest.approx(11000.0 * 0.013, rel=1e-4)


def test_meter_idle_waits_until_the_sensor_has_forgotten_the_load() -> None:
    board = Board()
    with board.meter() as meter:
        meter.measure(board.run)
        trace = meter.idle()
    assert trace.power_mw.max() == pytest.approx(IDLE_MW, abs=0.5)
    assert trace.times_s[-1] - trace.times_s[0] == pytest.approx(10.0, abs=0.1)


def test_meter_stops_running_when_the_source_is_gone() -> None:
    board = Board(fails_at=1016.0)  # in the window: idle to 1010, settling to 1012.2
    with board.meter() as meter, pytest.raises(PowerError, match="Plug it in"):
        meter.measure(board.run)
    assert board.now == pytest.approx(1016.0, abs=2 * RUN_S)


def test_meter_stops_waiting_when_the_source_is_gone() -> None:
    board = Board(fails_at=1003.0)
    with board.meter() as meter, pytest.raises(PowerError, match="Plug it in"):
        meter.measure(board.run)
    assert board.now <= 1003.5
    assert not [entry for entry in board.log if entry[0] == "load"]


def test_meter_keeps_a_window_that_was_covered_before_the_source_went() -> None:
    board = Board(fails_at=1022.21)  # 2.21 s of settling and 10 s after the idle window
    with board.meter() as meter:
        found = meter.measure(board.run)
        assert found.total_mj == pytest.approx(143.0, rel=1e-4)
        with pytest.raises(PowerError, match="Plug it in"):
            meter.measure(board.run)


def test_meter_passes_on_what_the_run_raises_and_goes_on() -> None:
    board = Board()
    calls = iter(range(1000))

    def run() -> None:
        if next(calls) == 300:
            raise ZeroDivisionError
        board.run()

    with board.meter() as meter:
        with pytest.raises(ZeroDivisionError):
            meter.measure(run)
        meter.idle()  # waits for the broken off load too
        found = meter.measure(board.run)
    assert found.dynamic_mj == pytest.approx(65.0, rel=1e-4)


def test_meter_forgets_old_samples() -> None:
    board = Board()
    with board.meter(idle_every_s=0.0) as meter:
        for _ in range(5):
            meter.measure(board.run)
        assert board.times[0] >= board.now - 11.0


@pytest.mark.parametrize("option", ["window_s", "settle_s", "pause_s", "idle_every_s"])
def test_meter_refuses_times_that_are_none(option: str) -> None:
    with pytest.raises(ValueError, match="times of a power measurement"):
        Board().meter(**{option: -1.0})


def test_meter_with_the_real_sampler() -> None:
    with PowerMeter(Board(time_constant_s=0.0), window_s=0.4, settle_s=0.1, pause_s=0.0) as meter:
        found = meter.measure(lambda: None)
    # Only powers are certain here; how long a run takes is up to the machine.
    assert found.power_mw == pytest.approx({"VDD_IN": 7000.0, "VDD_CPU_GPU_CV": 3000.0, "VDD_SOC": 1000.0})
    assert found.idle_mw == pytest.approx(7000.0)
    assert found.total_mj == pytest.approx(7000.0 * found.window_s / found.runs)
