from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.errors import BackendError, IdentityError, LockedError, SpecError
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.profile.grid import plan_cells
from netadapt_trt.profile.run import NOISY, pending_cells, profile
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy this machine is now must not change what a test sees."""
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device" / "clockwork-fp32.lut.jsonl"


def run(clockwork: ModuleType, path: Path, backend: Any = None, **options: Any) -> Any:
    options.setdefault("effort", clockwork.QUICK)
    options.setdefault("sampling", clockwork.STILL)
    return profile(options.pop("plan", clockwork.make_plan()), backend or clockwork.Clockwork(), path, **options)


def test_profile_measures_every_cell_once_and_the_whole_network(clockwork: ModuleType, path: Path) -> None:
    backend = clockwork.Clockwork()
    result = run(clockwork, path, backend)
    lut = read_lut(path)
    # a: 8 16 24 32, b: 8 16 24 32 40 48 64 (seven multiples in all leave no choice but five between)
    assert result.measured == len(lut.cells) == len({(cell.layer, cell.widths) for cell in lut.cells})
    assert sorted(len(lut.layer_cells(key)) for key in lut.layers()) == [4, 7, 7, 28]
    assert (result.present, result.missing, result.failed, result.noisy, result.stopped) == (0, 0, 0, 0, None)
    assert result.complete
    assert backend.compiled == len(lut.cells) + len(lut.references) + len(lut.networks)
    assert lut.networks[0].widths == {"a": 32, "b": 64}
    assert len({tuple(line.widths.values()) for line in lut.networks}) == len(lut.networks) >= 6
    assert all(cell.energy_mj is not None for cell in lut.cells)
    session = next(iter(lut.sessions.values()))
    assert {"governor", "max_frequency_mhz"} <= set(session.clocks)
    assert {"netadapt-trt", "python", "clockwork"} == set(session.versions)


def test_profiled_table_estimates_this_network(clockwork: ModuleType, path: Path) -> None:
    result = run(clockwork, path)
    plan = clockwork.make_plan()
    estimator = NetworkEstimator(read_lut(path), plan, clockwork.Clockwork().partition(plan))
    assert estimator.missing() == []
    assert estimator.estimate({}).value == pytest.approx(result.network_ms)
    assert estimator.extrapolates({"a": 8, "b": 8}) == ()
    assert estimator.raw({"a": 16, "b": 16}) < estimator.raw({"a": 24, "b": 40}) < estimator.raw({})


def test_profile_of_a_full_table_measures_nothing(clockwork: ModuleType, path: Path) -> None:
    run(clockwork, path)
    before, backend = path.read_bytes(), clockwork.Clockwork()
    result = run(clockwork, path, backend)
    assert (result.measured, backend.compiled) == (0, 0)
    assert result.complete
    assert path.read_bytes() == before


def test_second_network_measures_only_what_is_new(clockwork: ModuleType, path: Path) -> None:
    run(clockwork, path)
    known = {(cell.layer, cell.widths) for cell in read_lut(path).cells}
    wider = clockwork.make_plan(b=128)
    result = run(clockwork, path, plan=wider)
    wanted = {(cell.layer.key, cell.widths) for cell in plan_cells(wider, clockwork.Clockwork().partition(wider))}
    assert result.present == len(wanted & known) > 0
    assert result.measured == len(wanted - known)
    assert len({line.plan for line in read_lut(path).networks}) == 2


def test_reference_is_the_layer_of_median_cost_again_and_again(clockwork: ModuleType, path: Path) -> None:
    run(clockwork, path)
    lut = read_lut(path)
    full = [cell for cell in lut.cells if cell.widths in ((3, 32), (32, 64), (64,), (64, 10))]
    times = sorted((cell.latency_ms.median, cell.layer) for cell in full if cell.latency_ms is not None)
    assert {line.layer for line in lut.references} == {times[len(times) // 2][1]}
    assert len(lut.references) >= 2  # at the start and after 20 cells
    run(clockwork, path, plan=clockwork.make_plan(b=512))
    assert {line.layer for line in read_lut(path).references} == {lut.references[0].layer}


def test_scattering_cell_is_measured_again_then_flagged(clockwork: ModuleType, path: Path) -> None:
    def wild() -> Iterator[float]:
        while True:
            yield from (1.0, 2.0)

    # The second layer compiled scatters and its repetition does not; the fourth and the fifth both do. (With few cells the
    # reference comes last.)
    scattering = {clockwork.whole_networks() + number for number in (2, 4, 5)}
    backend = clockwork.Clockwork(stretch=lambda number: wild() if number in scattering else clockwork.steady())
    result = run(clockwork, path, backend, max_cells=4)
    cells = read_lut(path).cells
    assert [cell.flags for cell in cells] == [(), (), (NOISY,), ()]
    assert (result.measured, result.noisy) == (4, 1)
    told = Notices()
    again = run(clockwork, path, progress=told)  # the flagged cell is wanted again
    once_more = "1 of them once more, they were noisy or disturbed"
    assert told.texts[0] == f"43 cells to measure ({once_more}), 3 of 46 are there already"
    assert (again.present, again.measured) == (3, 43)
    cell = read_lut(path).cell(cells[2].layer, cells[2].widths)
    assert cell is not None
    assert cell.flags == ()


def test_few_cells_are_the_full_widths_of_every_layer(clockwork: ModuleType, path: Path) -> None:
    told = Notices()
    result = run(clockwork, path, max_cells=6, progress=told)
    lut = read_lut(path)
    assert result.stopped == "cell limit"
    assert not result.complete
    assert result.missing == 46 - 6
    assert len(lut.cells) == 6
    assert result.network_ms is not None  # budgets refer to it
    assert told.texts[0] == "6 cells to measure, 0 of 46 are there already"
    assert "3 more cells will take about" in told.texts[1]
    assert "40 cells of" in told.texts[-1]


def test_time_limit_ends_cleanly(clockwork: ModuleType, path: Path) -> None:
    ticks = iter(range(100_000))
    told = Notices()
    result = run(clockwork, path, time_limit_s=60.0, clock=lambda: float(next(ticks)), progress=told)
    assert result.stopped == "time limit"
    assert 0 < result.measured < 46
    assert result.measured + result.missing == 46
    assert "time limit" in told.texts[-1]
    assert run(clockwork, path).complete


def test_threads_are_what_the_table_says(clockwork: ModuleType, path: Path) -> None:
    backend = clockwork.Clockwork()
    run(clockwork, path, backend, threads=2, max_cells=1)
    assert read_lut(path).identity.threads == 2
    run(clockwork, path, backend, max_cells=1)
    assert set(backend.threads) == {2}
    with pytest.raises(IdentityError, match="threads: the LUT has 2, this run 1"):
        run(clockwork, path, threads=1)


def test_default_threads_are_the_backends(clockwork: ModuleType, path: Path) -> None:
    run(clockwork, path, max_cells=1)
    assert read_lut(path).identity.threads == 3


@pytest.mark.parametrize(
    "options", [{"precision": "fp16"}, {"precision": "int8"}, {"time_limit_s": 0.0}, {"max_cells": -1}, {"granularity": 0}]
)
def test_bad_options_are_refused_before_a_file_is_made(clockwork: ModuleType, path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        run(clockwork, path, **options)
    assert not path.exists()


def test_the_runtime_s_own_reason_against_a_precision_is_heard(clockwork: ModuleType, path: Path) -> None:
    with pytest.raises(BackendError, match=r"converts to fp32 around every kernel.*; use fp32$"):
        run(clockwork, path, load_backend("ort"), precision="fp16")
    assert not path.exists()


def test_two_profilers_on_one_table(clockwork: ModuleType, path: Path) -> None:
    identity = clockwork.Clockwork().identity(precision="fp32", batch=1, threads=3)
    with LutWriter(path, identity), pytest.raises(LockedError):
        run(clockwork, path)


def test_runtime_that_refuses_everything_is_an_error(clockwork: ModuleType, path: Path) -> None:
    def refuse(_: int, __: bytes) -> None:
        raise BackendError("no such kernel")

    with pytest.raises(BackendError, match="no such kernel"):
        run(clockwork, path, clockwork.Clockwork(on_compile=refuse))


def test_cell_that_is_refused_is_told_and_left_out(clockwork: ModuleType, path: Path) -> None:
    def refuse(number: int, _: bytes) -> None:
        if number == clockwork.whole_networks() + 3:
            raise BackendError("no such kernel")

    told = Notices()
    result = run(clockwork, path, clockwork.Clockwork(on_compile=refuse), progress=told)
    assert (result.failed, result.missing, result.complete) == (1, 1, False)
    assert any("cannot be measured: no such kernel" in text for text in told.texts)


def test_whole_network_that_is_refused_is_an_error_and_leaves_a_table(clockwork: ModuleType, path: Path) -> None:
    def refuse(_: int, model: bytes) -> None:
        if b"netadapt.plan_hash" in model:
            raise BackendError("no such kernel")

    with pytest.raises(BackendError, match="no such kernel"):
        run(clockwork, path, clockwork.Clockwork(on_compile=refuse))
    assert run(clockwork, path).complete


@pytest.mark.parametrize("layers", [-3, 0, 8])
def test_ctrl_c_keeps_what_was_measured(clockwork: ModuleType, path: Path, layers: int) -> None:
    """While whole networks are compiled, before the first layer and later."""
    whole = clockwork.whole_networks()

    def interrupt(number: int, _: bytes) -> None:
        if number == whole + layers:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clockwork, path, clockwork.Clockwork(on_compile=interrupt))
    lut = read_lut(path)
    kept = len(lut.cells)
    assert len(lut.networks) == (whole if layers > 0 else 0)  # they are timed in turn: all of them were under way
    assert kept + len(lut.references) == max(layers - 1, 0)
    backend = clockwork.Clockwork()
    assert run(clockwork, path, backend).measured == 46 - kept
    assert len(read_lut(path).networks) == whole


@pytest.mark.parametrize("writes", [5, 16])
def test_full_disk_is_told_and_the_rest_is_kept(
    clockwork: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    real, left, whole = os.write, iter(range(writes)), clockwork.whole_networks()

    def fill(file: int, data: bytes) -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="free some space and run the same command again"):
        run(clockwork, path)
    monkeypatch.undo()
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)
    lut = read_lut(path)
    kept = len(lut.cells)
    assert len(lut.networks) == min(writes - 2, whole)  # header and session come before
    assert kept + len(lut.references) == max(writes - 2 - whole, 0)
    backend = clockwork.Clockwork()
    assert run(clockwork, path, backend).measured == 46 - kept
    after = read_lut(path)
    assert len(after.networks) == whole
    references = len(after.references) - len(lut.references)
    again = whole - len(lut.networks)
    beside = min(3, len(lut.networks)) if again else 0  # networks of the table tell the pace of those that lacked
    assert backend.compiled == 46 - kept + references + again + beside


def test_killed_at_random_moments_loses_at_most_the_cell_under_way(
    clockwork: ModuleType, path: Path, tmp_path: Path
) -> None:
    kills, log = 20, tmp_path / "log"
    path.parent.mkdir()
    script = Path(clockwork.__file__ or "")
    command = [sys.executable, str(script), str(path), str(log), str(kills), "11"]
    hit = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
    lut, plan = read_lut(path), clockwork.make_plan()
    cells = plan_cells(plan, clockwork.Clockwork().partition(plan))
    assert pending_cells(lut, cells) == []
    assert len(lut.cells) == len(cells)  # none was measured twice into the table
    lines = len(lut.cells) + len(lut.references)
    assert lines <= log.stat().st_size <= lines + hit
    assert hit > 2
