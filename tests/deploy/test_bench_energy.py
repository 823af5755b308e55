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
