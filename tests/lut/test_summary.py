from __future__ import annotations

import pytest

from netadapt_trt.lut.schema import Cell, NetworkLine, ReferenceLine, Session
from netadapt_trt.lut.store import Lut
from netadapt_trt.lut.summary import summarise
from netadapt_trt.spec import Identity, LatencyStats


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
