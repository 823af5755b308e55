"""A runtime that tells a network's time by layer: how many networks are looked into, and what is left of a run that ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.backend import Attribution, LayerTime
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.reading import PACE, networks_of
from netadapt_trt.lut.schema import IN_NETWORK, trusted
from netadapt_trt.lut.store import read_lut
from netadapt_trt.profile.run import profile
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from netadapt_trt.backend import Backend
    from netadapt_trt.plan.schema import Layer, Plan


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


CORNERS = 2 + 4 + 2 + 2  # ends of the grids of the four layers


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "told.lut.jsonl"


def params(layer: Layer, widths: dict[str, int]) -> int:
    """Weights and biases of one layer of clockwork's plan, which pools between its second and its last."""
    sizes = layer.widths(widths)
    if len(sizes) < 2:
        return 0
    return (9 if sizes[0] == 3 else 1) * sizes[0] * sizes[1] + sizes[1]


def telling(clockwork: ModuleType, **options: Any) -> Backend:
    """Clockwork's network takes 1 ms and a ten thousandth for each byte; layers have a share of the bytes, and a call."""

    class Telling(clockwork.Ticking):  # type: ignore[misc, name-defined]
        def attribute(self, plan: Plan, layers: list[Layer], widths: dict[str, int], *, runs: int = 20) -> Attribution:
            times = tuple(LayerTime(layer=layer, latency_ms=0.4 + 4e-4 * params(layer, widths)) for layer in layers)
            total = sum(time.latency_ms for time in times)
            return Attribution(layers=times, edges=(), total_ms=total, mapped_share=1.0)

    class Backend(clockwork.Clockwork):  # type: ignore[misc, name-defined]
        def compile(self, model: bytes, options: Any) -> Any:
            made = super().compile(model, options)
            made.__class__ = Telling
            return made

    return Backend(**options)


def look(clockwork: ModuleType, path: Path, backend: Any = None, sampling: Any = None, **options: Any) -> Any:
    sampling = sampling or replace(clockwork.STILL, most=12, batch=3, target_error=0.0)
    backend = backend or telling(clockwork)
    effort = clockwork.QUICK
    return profile(clockwork.make_plan(), backend, path, effort=effort, sampling=sampling, **options)


def test_looks_into_as_many_as_it_may(clockwork: ModuleType, path: Path) -> None:
    backend: Any = telling(clockwork)
    result = look(clockwork, path, backend)
    lut = read_lut(path)
    assert len(lut.networks) == result.networks == 12
    assert len({tuple(line.widths.values()) for line in lut.networks}) == 12
    assert (result.stopped, result.complete, result.missing) == (None, True, 0)
    assert result.held_out_error is not None
    assert 0 < result.held_out_error < 0.1
    # Of layers alone the ends of the grid are enough.
    assert result.measured == CORNERS == sum(cell.context != IN_NETWORK for cell in lut.cells)
    # Of the seven networks that are always measured three, three and one; then three and two more. Three of the table stand
    # beside every portion but the first.
    assert backend.compiled == 3 + (3 + 3) + (1 + 3) + (3 + 3) + (2 + 3) + CORNERS + len(lut.references)


def test_cells_of_every_network_add_up_to_it(clockwork: ModuleType, path: Path) -> None:
    look(clockwork, path)
    lut = read_lut(path)
    told = [cell for cell in lut.cells if cell.context == IN_NETWORK]
    assert len(told) == 4 * len(lut.networks)
    for number, line in enumerate(lut.networks):
        assert line.latency_ms is not None
        cells = told[4 * number : 4 * number + 4]
        total = sum(cell.latency_ms.median for cell in cells if cell.latency_ms is not None)
        assert total == pytest.approx(line.latency_ms.median, rel=1e-4)
        assert line.details["rounds"] == 2
        assert line.details["odd_even"] == 1.0


def test_stops_at_the_error_asked_for(clockwork: ModuleType, path: Path) -> None:
    sampling = replace(clockwork.STILL, least=9, most=30, batch=2, target_error=0.5)
    result = look(clockwork, path, sampling=sampling)
    assert result.held_out_error <= 0.5
    assert len(read_lut(path).networks) == 9  # seven, and two more for the least
    assert result.stopped is None


def test_says_why_it_ended_above_the_error_asked_for(clockwork: ModuleType, path: Path, tmp_path: Path) -> None:
    told = Notices()
    look(clockwork, path, progress=told)
    (text,) = [text for text in told.texts if "was asked for" in text]
    assert "after 12 networks, as many as wanted; 0.0% was asked for" in text
    assert text.endswith("--networks 24")
    # Half of a grid of 4 + 32 + 8 + 8 cells are 26, which eight networks and the corners show.
    told, sampling = Notices(), replace(clockwork.STILL, few=8, cheap=0, most=30, batch=2, target_error=0.0, grid_share=0.5)
    result = look(clockwork, tmp_path / "share.lut.jsonl", sampling=sampling, progress=told)
    assert result.networks < 12
    assert any("50.0% of a full grid's cells" in text for text in told.texts)


def test_a_second_run_measures_nothing(clockwork: ModuleType, path: Path) -> None:
    first = look(clockwork, path)
    before, backend = path.read_bytes(), telling(clockwork)
    again = look(clockwork, path, backend)
    assert path.read_bytes() == before
    assert backend.compiled == 0  # type: ignore[attr-defined]
    assert (again.measured, again.networks, again.present) == (0, 0, CORNERS)
    assert again.held_out_error == pytest.approx(first.held_out_error)


def test_time_limit_ends_it_and_the_next_run_goes_on(clockwork: ModuleType, path: Path) -> None:
    """Seconds are compilations: 2 + (2 + 2) + (2 + 3) + (1 + 3) of the first seven networks, nine of eight lone layers and
    the reference (a tenth would be over their quarter of 40 s), then two networks beside three of the table, three times.
    """
    sampling = replace(clockwork.STILL, most=30, batch=2, target_error=0.0)
    backend: Any = telling(clockwork)
    result = look(clockwork, path, backend, sampling, time_limit_s=40.0, clock=lambda: float(backend.compiled))
    known = len(read_lut(path).networks)
    assert result.stopped == "time limit"
    assert known == 7 + 3 * 2
    assert result.seconds == 15 + 9 + 3 * 5
    assert (result.measured, result.missing) == (CORNERS - 2, 2)
    assert result.held_out_error is not None
    sampling = replace(sampling, most=known + 3)
    again = look(clockwork, path, sampling=sampling)
    assert (again.networks, again.measured, again.complete) == (3, 2, True)


def test_lone_layers_that_lack_for_the_time_limit_are_told(clockwork: ModuleType, path: Path) -> None:
    """Networks are enough long before the limit, but lone layers had only their share of it."""
    backend: Any = telling(clockwork)
    sampling = replace(clockwork.STILL, most=9, batch=2, target_error=0.0)
    told = Notices()
    options = {"time_limit_s": 40.0, "max_cells": 100, "clock": lambda: float(backend.compiled), "progress": told}
    result = look(clockwork, path, backend, sampling, **options)
    assert (result.stopped, result.networks, result.missing) == ("time limit", 9, 2)
    assert result.held_out_error is not None
    assert any("stopped at the time limit: 2 cells of" in text for text in told.texts)


def test_no_more_networks_where_only_some_cells_are_wanted(clockwork: ModuleType, path: Path) -> None:
    result = look(clockwork, path, max_cells=2)
    assert (result.measured, result.stopped, result.networks) == (2, "cell limit", 7)
    assert result.held_out_error is None


@pytest.mark.parametrize("whole", [1, 8])
def test_a_run_that_was_killed_goes_on_with_what_lacks(clockwork: ModuleType, path: Path, whole: int) -> None:
    """The file of a run that died in the middle of the line behind this many networks."""
    look(clockwork, path)
    content = path.read_bytes().splitlines(keepends=True)
    lines = [number for number, line in enumerate(content) if json.loads(line).get("plan")]
    behind = lines[whole - 1] + 5  # the network and its four cells
    kept = content[:behind]
    path.write_bytes(b"".join(kept) + content[behind][:40])
    held = read_lut(path)
    assert held.torn
    assert len(held.networks) == whole
    result = look(clockwork, path)
    after = read_lut(path)
    assert path.read_bytes().startswith(b"".join(kept))
    assert result.networks == 12 - whole
    assert len({tuple(line.widths.values()) for line in after.networks}) == len(after.networks) == 12
    assert sum(cell.context == IN_NETWORK for cell in after.cells) == 4 * 12
    assert sum(cell.context != IN_NETWORK for cell in after.cells) == CORNERS


def slowed(after: int, factor: float) -> Any:
    """A machine that is slower by this from its compilation number ``after`` on."""

    def stretch(number: int) -> Iterator[float]:
        while True:
            yield factor if number >= after else 1.0

    return stretch


def test_pace_of_a_later_portion_is_taken_out(clockwork: ModuleType, path: Path, tmp_path: Path) -> None:
    sampling = replace(clockwork.STILL, most=10, batch=7, target_error=0.0)
    steady = tmp_path / "steady.lut.jsonl"
    look(clockwork, steady, sampling=sampling, max_cells=0)
    look(clockwork, path, sampling=sampling, max_cells=0)
    look(clockwork, path, telling(clockwork, stretch=slowed(0, 1.3)), sampling=sampling)
    lut, plan = read_lut(path), clockwork.make_plan()
    paces = [line.details.get(PACE) for line in lut.networks]
    assert paces == [*[None] * 7, *[pytest.approx(1.3, rel=1e-4)] * 3]
    later = [cell for cell in lut.cells if cell.context == IN_NETWORK][-4:]
    assert {cell.details.get(PACE) for cell in later} == {paces[-1]}
    look(clockwork, steady, sampling=sampling)
    for widths, value in networks_of(lut, plan):
        others = {tuple(one.values()): ms for one, ms in networks_of(read_lut(steady), plan)}
        if tuple(widths.values()) in others:
            assert value == pytest.approx(others[tuple(widths.values())], rel=1e-4)


def test_pace_is_of_no_uncut_network_that_is_replaced(clockwork: ModuleType, path: Path, tmp_path: Path) -> None:
    """All networks were taken under a throttled device, at half its speed; taken anew they are what they are."""
    sampling = replace(clockwork.STILL, most=7, target_error=0.0)
    look(clockwork, path, telling(clockwork, stretch=slowed(0, 2.0)), sampling=sampling, max_cells=0)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    flagged = [{**one, "flags": ["throttled"]} if "latency_ms" in one else one for one in records]
    path.write_text("".join(json.dumps(one) + "\n" for one in flagged), encoding="utf-8")
    assert not any(trusted(line) for line in read_lut(path).networks)
    look(clockwork, path, sampling=sampling, max_cells=0)
    steady = tmp_path / "steady.lut.jsonl"
    look(clockwork, steady, sampling=sampling, max_cells=0)
    plan = clockwork.make_plan()
    known = {tuple(widths.values()): value for widths, value in networks_of(read_lut(steady), plan)}
    found = {tuple(widths.values()): value for widths, value in networks_of(read_lut(path), plan)}
    assert found == pytest.approx(known)


def test_noise_ends_with_the_rounds_that_agree(clockwork: ModuleType, path: Path) -> None:
    """Odd rounds are a tenth slower until the seventh: five per cent would be left after eight, nothing after ten."""

    def ragged(_: int) -> Iterator[float]:
        for turn in range(100):  # a warm-up run and three that count
            yield from [1.1 if turn in (0, 2, 4) else 1.0] * 4

    patient = replace(clockwork.STILL, most=7, most_rounds=40, repeat_within=0.02)
    look(clockwork, path, telling(clockwork, stretch=ragged), sampling=patient)
    lines = read_lut(path).networks
    assert {line.details["rounds"] for line in lines} == {9}
    short = replace(patient, most_rounds=4)
    look(clockwork, path.with_name("short"), telling(clockwork, stretch=ragged), sampling=short)
    assert {line.details["rounds"] for line in read_lut(path.with_name("short")).networks} == {4}


def test_attribution_that_fails_is_told_once_and_layers_are_timed_alone(clockwork: ModuleType, path: Path) -> None:
    class Refusing(clockwork.Ticking):  # type: ignore[misc, name-defined]
        def attribute(self, *_: Any, **__: Any) -> Attribution:
            raise BackendError("the profiler is taken")

    backend: Any = clockwork.Clockwork()
    plain = backend.compile

    def compiling(model: bytes, options: Any) -> Any:
        made = plain(model, options)
        made.__class__ = Refusing
        return made

    backend.compile = compiling
    told = Notices()
    result = look(clockwork, path, backend, progress=told)
    assert [text for text in told.texts if "not told by layer" in text] == [
        "the network's time is not told by layer: the profiler is taken"
    ]
    assert (result.complete, result.held_out_error, result.networks) == (True, None, 7)
    assert result.measured == 46
