"""A device that moves under measurements: on a fake Jetson's files, which the test changes while a cell is compiled."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.lut.reading import initial_measured, networks_of
from netadapt_trt.lut.store import read_lut
from netadapt_trt.measure.device_state import device_state
from netadapt_trt.profile.grid import plan_cells
from netadapt_trt.profile.run import pending_cells, profile
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from netadapt_trt.measure.device_state import DeviceState

trees: Any = importlib.import_module("jetson_trees")
OVER_CURRENT = "sys/class/hwmon/hwmon3/oc3_event_cnt"
GPU = "sys/class/devfreq/17000000.gpu"
CELLS = 46  # of clockwork's plan


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


class Jetson:
    """A fake board's files; ``at`` does something to them while layers are compiled: the first, the second, and so on."""

    def __init__(self, root: Path) -> None:
        self.root = trees.orin_nano(root)
        self.reads = 0
        self.at: dict[int, Callable[[], None]] = {}
        self._events, self._layers = 17, 0

    def read(self) -> DeviceState:
        self.reads += 1
        return device_state(self.root)

    def compiling(self, _: int, model: bytes) -> None:
        if b"netadapt.plan_hash" in model:  # a whole network
            return
        self._layers += 1
        self.at.get(self._layers, lambda: None)()

    def over_current(self) -> None:
        self._events += 5
        trees.write(self.root, {OVER_CURRENT: f"{self._events}\n"})

    def gpu(self, mhz: int, low: int = 1020, high: int = 1020) -> None:
        values = (("cur", mhz), ("min", low), ("max", high))
        trees.write(self.root, {f"{GPU}/{part}_freq": f"{value * 1_000_000}\n" for part, value in values})


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)


@pytest.fixture
def jetson(tmp_path: Path) -> Jetson:
    return Jetson(tmp_path / "root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orin.lut.jsonl"


def run(clockwork: ModuleType, path: Path, jetson: Jetson, told: Notices | None = None, **options: Any) -> Any:
    backend = clockwork.Clockwork(on_compile=jetson.compiling)
    options["progress"] = told or Notices()
    effort = {"effort": clockwork.QUICK, "sampling": clockwork.STILL}
    return profile(clockwork.make_plan(), backend, path, device=jetson.read, **effort, **options)


def test_steady_device_leaves_no_flag_and_one_session_of_its_state(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    assert run(clockwork, path, jetson).disturbed == 0
    lut = read_lut(path)
    assert len(lut.cells) == CELLS
    assert {cell.flags for cell in lut.cells} == {line.flags for line in lut.networks} == {()}
    (session,) = lut.sessions.values()
    assert (session.power_mode, session.clocks["locked"], session.machine["oc3_events"]) == ("MAXN_SUPER", "yes", 17)
    assert jetson.reads > 2 * CELLS


def test_cell_that_was_throttled_is_measured_again_once(clockwork: ModuleType, path: Path, jetson: Jetson) -> None:
    jetson.at = {2: jetson.over_current}
    told = Notices()
    result = run(clockwork, path, jetson, told, max_cells=4)
    lut = read_lut(path)
    assert (result.measured, result.disturbed) == (4, 0)
    assert [cell.flags for cell in lut.cells] == [(), (), (), ()]
    assert len(lut.sessions) == 1
    (text,) = [text for text in told.texts if "measured again once" in text]
    assert text.startswith("5 times instantaneous over-current (oc3) cut the clocks")
    assert "sudo jetson_clocks --fan" in text


def test_cell_that_is_throttled_twice_is_flagged_told_and_wanted_again(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    jetson.at = {2: jetson.over_current, 3: jetson.over_current}
    result = run(clockwork, path, jetson, max_cells=4)
    lut = read_lut(path)
    assert [cell.flags for cell in lut.cells] == [(), ("throttled",), (), ()]
    assert (result.measured, result.disturbed, result.missing) == (4, 1, CELLS - 4)
    planned = plan_cells(clockwork.make_plan(), clockwork.Clockwork().partition(clockwork.make_plan()))
    assert len(pending_cells(lut, planned)) == CELLS - 3
    assert any("1 cell is flagged throttled" in finding.text for finding in check(lut))
    jetson.at = {}
    again = run(clockwork, path, jetson)
    assert (again.present, again.measured) == (3, CELLS - 3)
    cell = read_lut(path).cell(lut.cells[1].layer, lut.cells[1].widths)
    assert cell is not None
    assert cell.flags == ()


def test_clock_that_stays_below_its_lock_is_throttled_in_every_cell(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    jetson.at = {2: lambda: jetson.gpu(510)}
    result = run(clockwork, path, jetson, max_cells=4)
    assert [cell.flags for cell in read_lut(path).cells] == [(), ("throttled",), ("throttled",), ("throttled",)]
    assert result.disturbed == 3


def test_clock_that_is_low_for_a_moment_is_not_throttled(clockwork: ModuleType, path: Path, jetson: Jetson) -> None:
    read = jetson.read

    def recovers() -> DeviceState:
        state = read()
        jetson.gpu(1020)
        return state

    jetson.at = {2: lambda: jetson.gpu(510)}
    jetson.read = recovers  # type: ignore[method-assign]
    assert run(clockwork, path, jetson, max_cells=4).disturbed == 0


def test_other_clocks_begin_a_session_and_the_cell_is_measured_under_them(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    jetson.at = {2: lambda: jetson.gpu(612, 612, 612)}
    told = Notices()
    result = run(clockwork, path, jetson, told, max_cells=4)
    lut = read_lut(path)
    assert result.disturbed == 0
    assert [cell.flags for cell in lut.cells] == [(), (), (), ()]
    before, after = lut.sessions.values()
    assert [session.clocks["gpu_mhz"] for session in (before, after)] == [1020.0, 612.0]
    assert [cell.session for cell in lut.cells] == [before.id, after.id, after.id, after.id]
    assert any("gpu was locked at 612 and 1020 MHz" in finding.text for finding in check(lut))
    assert sum("bounds of the gpu clock" in text for text in told.texts) == 1


def test_other_clocks_between_cells_begin_a_session_and_flag_nothing(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    real, moments = jetson.read, iter(range(1, 1000))

    def read() -> DeviceState:
        # Opening, before and after the whole networks (their session reads, too) and the first cell, before the second.
        if next(moments) == 7:
            jetson.gpu(612, 612, 612)
        return real()

    jetson.read = read  # type: ignore[method-assign]
    run(clockwork, path, jetson, max_cells=2)
    lut = read_lut(path)
    assert all(cell.flags == () for cell in lut.cells)
    assert all(line.flags == () for line in lut.networks)
    first, second = lut.sessions
    assert {line.session for line in lut.networks} == {first}
    assert [cell.session for cell in lut.cells] == [first, second]


def test_whole_networks_under_which_the_mode_changed_are_measured_again(
    clockwork: ModuleType, path: Path, jetson: Jetson
) -> None:
    modes = iter(("pmode:0001\n", "pmode:0000\n"))

    def switch() -> None:
        trees.write(jetson.root, {"var/lib/nvpmodel/status": next(modes)})

    def compiling(number: int, model: bytes) -> None:
        # The first network of both attempts: anchors are compiled together, eight or so of them.
        if b"netadapt.plan_hash" in model:
            compiled.append(number)
            if len(compiled) in (1, networks + 1):
                switch()

    compiled: list[int] = []
    plan = clockwork.make_plan()
    networks = len(anchor_widths(plan))
    told = Notices()
    backend = clockwork.Clockwork(on_compile=compiling)
    effort = {"effort": clockwork.QUICK, "sampling": clockwork.STILL}
    profile(plan, backend, path, device=jetson.read, max_cells=0, progress=told, **effort)
    lut = read_lut(path)
    assert len(compiled) == 2 * networks
    assert {line.flags for line in lut.networks} == {("power_mode_changed",)}
    assert initial_measured(lut, plan) > 0  # better than nothing
    assert run(clockwork, path, jetson, max_cells=0).network_ms == pytest.approx(initial_measured(lut, plan))
    lut = read_lut(path)
    assert len(lut.networks) == 2 * networks
    assert len(networks_of(lut, plan)) == networks
    assert lut.sessions[lut.networks[-1].session].power_mode == "15W"
