"""Energy of two files on the simulated board: when their ratio is known, and what it is a ratio of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.deploy.bench import BenchResult, bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

power_board: Any = importlib.import_module("power_board")
powered: Any = importlib.import_module("powered_backend")


@pytest.fixture
def bench_on(tmp_path: Path, artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., BenchResult]:
    """Bench a small file against a large one on a board."""

    def measure(board: Any, backend: Any = None) -> BenchResult:
        small, large = (artifact(tmp_path / str(channels) / "model.onnx", channels=channels) for channels in (16, 256))
        monkeypatch.setattr("netadapt_trt.deploy.bench.load_backend", lambda _: backend or powered.Powered(board))
        monkeypatch.setattr("netadapt_trt.deploy.bench.other_load", lambda: None)
        return bench(small, [large], backend="fake", rounds=2, round_ms=1, meter=lambda _: board.meter(window_s=5.0))

    return measure


def test_no_ratio_where_readings_were_missing(bench_on: Callable[..., BenchResult]) -> None:
    result = bench_on(power_board.Board(deaf=[(at, at + 0.6) for at in range(1000, 3000)]))
    for row in result.rows:
        assert (row.energy, dict(row.power_mw), row.energy_flags) == (None, {}, ("low_coverage",))
    (comparison,) = result.comparisons
    assert (comparison.energy_ratio, comparison.energy_ratio_interval, comparison.power_ratio) == (None, None, None)
    assert comparison.ratio < 1  # times are known all the same


def test_power_ratio_is_that_of_measured_powers_whatever_the_host_takes(bench_on: Callable[..., BenchResult]) -> None:
    board = power_board.Board()

    class Run(powered.Running):  # type: ignore[misc]
        """Draws 8 W on the device and in the host's 60 ms between two runs alike."""

        def run(self) -> None:
            self._inner.run()
            board.pass_time("load", 0.06 + self.elapsed_ms() / 1000, 2000.0)

    class Gapped(powered.Powered):  # type: ignore[misc]
        def compile(self, model: bytes, options: Any) -> Any:
            return Run(super().compile(model, options)._inner, board)

    result = bench_on(board, Gapped(board))
    assert result.session["power"]["waits"] == "as when timed"
    first = result.rows[0]
    (comparison,) = result.comparisons
    assert [row.total_mw for row in result.rows] == pytest.approx([8000.0, 8000.0], rel=1e-3)
    assert first.to_json()["total_mw"] == first.total_mw
    assert comparison.power_ratio == pytest.approx(1.0, rel=1e-3)
    # A run's energy holds the host's part, so energy over the device's latency is another power than 8 W.
    assert first.energy is not None
    assert first.energy.total == pytest.approx(8.0 * (60.0 + first.latency.median), rel=0.01)
    assert comparison.energy_ratio is not None
    assert comparison.energy_ratio / comparison.ratio > 1.05


def test_runtime_that_knows_its_energy_knows_its_power(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    small, large = (artifact(tmp_path / str(channels) / "model.onnx", channels=channels) for channels in (16, 256))
    result = bench(small, [large], backend="fake", rounds=2, round_ms=1)
    (comparison,) = result.comparisons
    assert comparison.energy_ratio is not None
    assert comparison.power_ratio == pytest.approx(comparison.energy_ratio / comparison.ratio)
