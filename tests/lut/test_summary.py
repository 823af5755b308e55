from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netadapt_trt.lut.schema import Cell, NetworkLine, ReferenceLine, Session
from netadapt_trt.lut.store import Lut
from netadapt_trt.lut.summary import check, summarise
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.spec import Identity, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Layer, Plan


def _stats(median: float, spread: float = 1.0, n: int = 10) -> LatencyStats:
    return LatencyStats(median=median, p10=median, p90=median * spread, n=n)


@pytest.fixture
def doubtful(identity: Identity) -> Lut:
    lut = Lut(identity)
    lut.add(Session(id="s1", date="2026-01-01", clocks={"governor": "powersave"}, machine={"other_load": 0.9}))
    for width, median, spread, n, flags in (
        (8, 0.9, 1.0, 10, ()),  # slower than 16
        (16, 0.5, 1.0, 3, ()),
        (24, 0.6, 2.0, 10, ()),
        (32, 0.7, 3.0, 10, ("noisy",)),
    ):
        lut.add(
            Cell(layer="conv", widths=(3, width), session="s1", latency_ms=_stats(median, spread, n), flags=tuple(flags))
        )
    for median in (1.0, 1.3):
        lut.add(ReferenceLine(layer="conv", widths=(3, 8), latency_ms=_stats(median), session="s1"))
    lut.add(NetworkLine(plan="h", widths={"a": 8, "b": 4}, latency_ms=_stats(2.0), session="s1"))
    return lut


def test_summarise_counts(doubtful: Lut) -> None:
    found = summarise(doubtful)
    assert (found.cells, found.flagged, found.references, len(found.sessions)) == (4, 1, 2, 1)
    layer = found.layers[0]
    assert (layer.layer, layer.cells, layer.lowest, layer.highest) == ("conv", 4, (3, 8), (3, 32))
    assert (layer.fastest_ms, layer.slowest_ms, layer.with_energy) == (0.5, 0.9, 0)
    assert found.drift == pytest.approx(1.3)
    assert (found.networks[0].channels, found.networks[0].latency_ms, found.networks[0].energy_mj) == (12, 2.0, None)


def test_check_names_everything_doubtful(doubtful: Lut) -> None:
    doubtful.torn = True
    texts = {finding.text: finding.severity for finding in check(doubtful)}
    for part, severity in (
        ("last line is unfinished", "warning"),
        ("1 cells are flagged noisy", "warning"),
        ("1 of 3 cells scatter", "warning"),
        ("1 of 3 cells rest on fewer than 5 runs", "warning"),
        ("varied by 30 %", "warning"),
        ("governor powersave", "info"),
        ("1 of 1 sessions began while other programs", "warning"),
        ("conv: 1 of 4 cells are slower than wider ones, worst at [3, 8]", "info"),
    ):
        assert [found for text, found in texts.items() if part in text] == [severity], part
    assert len(texts) == 8


def test_check_of_a_sound_table_is_silent(make_lut: Callable[..., Lut]) -> None:
    assert check(make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}})) == []


def test_check_of_an_empty_table_is_an_error(make_lut: Callable[..., Lut]) -> None:
    assert [finding.severity for finding in check(make_lut({}))] == ["error"]


def test_check_against_a_plan_tells_coverage(
    make_lut: Callable[..., Lut], make_plan: Callable[..., Plan], make_layer: Callable[..., Layer]
) -> None:
    plan, layers = make_plan(a=16), [make_layer("conv", 3, "a"), make_layer("head", "a", 10)]
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}})
    found = check(lut, plan, layers)
    assert [finding.severity for finding in found] == ["error", "error"]
    assert "the layer head" in found[0].text
    assert "netadapt-trt profile zoo:tiny" in found[0].action
    assert "end to end" in found[1].text
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}, "head": {(8, 10): 1.0, (16, 10): 2.0}})
    lut.add(NetworkLine(plan=plan_hash(plan), widths={"a": 16}, latency_ms=_stats(3.0), session="s1"))
    found = check(lut, plan, layers)
    assert [finding.severity for finding in found] == ["info"]
    assert "0.75 x (the sum of its layers)" in found[0].text
