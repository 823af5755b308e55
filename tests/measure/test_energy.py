"""Energy of several executables on a simulated board whose clock the executables move: nothing takes real time."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.measure.energy import measure_energy, revised, settled

Board: Any = importlib.import_module("power_board").Board


class Load:
    """Takes ``seconds`` a run and draws ``load_mw`` above the board's idle 6 W."""

    def __init__(self, board: Any, name: str, seconds: float, load_mw: float) -> None:
        self._board, self._name, self._seconds, self._load_mw = board, name, seconds, load_mw

    def run(self) -> None:
        self._board.pass_time(self._name, self._seconds, self._load_mw)


def test_executables_are_measured_there_and_back() -> None:
    board = Board()
    loads: list[Any] = [Load(board, "small", 0.01, 4000.0), Load(board, "large", 0.02, 9000.0)]
    with board.meter() as meter:
        small, large = measure_energy(meter, loads)
    # (6 W idle + 4 W) x 10 ms and (6 W + 9 W) x 20 ms
    assert small.energy is not None
    assert large.energy is not None
    assert [small.energy.total, large.energy.total] == pytest.approx([100.0, 300.0], rel=1e-4)
    assert [small.energy.dynamic, large.energy.dynamic] == pytest.approx([40.0, 180.0], rel=1e-4)
    assert small.power_mw["VDD_IN"] == pytest.approx(10_000.0, rel=1e-4)
    assert small.power_mw["VDD_CPU_GPU_CV"] == pytest.approx(4000.0, rel=1e-4)
    assert (small.flags, large.flags) == ((), ())
    runs = [what for what, _ in board.lengths() if what in ("small", "large")]
    assert runs == ["small", "large", "large", "small"]


def test_load_below_the_sensor_step_has_no_dynamic_energy() -> None:
    board = Board()
    board.step_mw = 400.0
    with board.meter() as meter:
        (reading,) = measure_energy(meter, [Load(board, "faint", 0.01, 500.0)])  # type: ignore[list-item]
    assert "resolution_limited" in reading.flags
    assert reading.energy is None or reading.energy.dynamic is None


def test_window_with_missing_readings_is_measured_once_again() -> None:
    board = Board(deaf=[(1018.0, 1021.0)])  # after forgetting, idle to 1014.4, settling to 1016.6
    with board.meter() as meter:
        (reading,) = measure_energy(meter, [Load(board, "small", 0.01, 4000.0)], rounds=1)  # type: ignore[list-item]
    assert [what for what, _ in board.lengths()].count("small") == 2
    assert reading.energy is not None
    assert reading.energy.total == pytest.approx(100.0, rel=1e-4)
    assert reading.flags == ()


def test_readings_missing_twice_are_no_energy_and_no_power() -> None:
    board = Board(deaf=[(at, at + 0.6) for at in range(1012, 1100)])
    with board.meter() as meter:
        (reading,) = measure_energy(meter, [Load(board, "small", 0.01, 4000.0)], rounds=1)  # type: ignore[list-item]
    assert [what for what, _ in board.lengths()].count("small") == 2
    assert (reading.energy, reading.power_mw, reading.interval_mj) == (None, {}, None)
    assert reading.flags == ("low_coverage",)


def test_idle_windows_come_when_they_are_due_and_complete_earlier_readings() -> None:
    board = Board(idle_mw=lambda now: 6000.0 + 5.0 * (now - 1000.0))  # drifts by 0.3 W a minute
    load: Any = Load(board, "small", 0.01, 4000.0)
    with board.meter(idle_every_s=60.0) as meter:
        readings = [measure_energy(meter, [load], rounds=1, closing_idle=False)[0] for _ in range(3)]
        assert [what for what, _ in board.lengths()] == ["rest", "small"] * 3
        assert [seconds for what, seconds in board.lengths() if what == "rest"] == [14.4, 2.0, 2.0]
        assert not any(settled(meter, reading) for reading in readings)
        assert readings[2].energy is not None
        assert readings[2].energy.dynamic is not None
        assert readings[2].energy.dynamic > 42.0  # 45 s of drift count as load
        meter.idle()
        for reading in readings:
            assert settled(meter, reading)
            late = revised(meter, reading)
            assert late.energy is not None
            assert late.energy.dynamic == pytest.approx(40.0, rel=0.01)


class Patient(Load):
    """Spins at 1.5 W unless it waits asleep."""

    def __init__(self, board: Any) -> None:
        super().__init__(board, "patient", 0.01, 5500.0)

    def wait_asleep(self, asleep: bool) -> None:
        self._load_mw = 4000.0 if asleep else 5500.0

    def elapsed_ms(self) -> None: ...

    def energy_mj(self) -> None: ...

    def infer(self, inputs: Any) -> Any: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


def test_energy_is_measured_without_a_spinning_processor() -> None:
    board = Board()
    patient: Any = Patient(board)
    with board.meter() as meter:
        (reading,) = measure_energy(meter, [patient])
    assert reading.energy is not None
    assert reading.energy.total == pytest.approx(100.0, rel=1e-4)  # (6 W idle + 4 W) x 10 ms
    assert patient._load_mw == 5500.0  # timed spinning again
    board = Board(fails_at=1020.0)
    patient = Patient(board)
    with board.meter() as meter, pytest.raises(PowerError, match="gone"):
        measure_energy(meter, [patient])
    assert patient._load_mw == 5500.0


def test_vanished_source_is_an_error() -> None:
    board = Board(fails_at=1020.0)
    with board.meter() as meter, pytest.raises(PowerError, match="gone"):
        measure_energy(meter, [Load(board, "small", 0.01, 4000.0)])  # type: ignore[list-item]
    with board.meter() as meter, pytest.raises(ValueError, match="at least one round"):
        measure_energy(meter, [], rounds=0)
