"""Hand-made tables: sessions of given state, cells of given figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.schema import Cell, NetworkLine, ReferenceLine, Session
from netadapt_trt.lut.store import Lut
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.spec import Identity


class Table:
    """Adds lines to ``lut``; every method names its session, ``s1`` by default."""

    def __init__(self, lut: Lut) -> None:
        self.lut = lut

    def session(self, name: str, **values: Any) -> None:
        """One a day: s1, s2, ..."""
        self.lut.add(Session(id=name, date=f"2026-01-{int(name[1:]):02}T00:00:00+00:00", **values))

    def cell(
        self,
        layer: str,
        widths: tuple[int, ...],
        ms: float | None,
        *,
        spread: tuple[float, float] = (0.0, 0.0),
        n: int = 10,
        mj: float | None = None,
        dynamic: float | None = None,
        stderr: float | None = None,
        session: str = "s1",
        **values: Any,
    ) -> None:
        """``ms`` is the median, ``spread`` how far p10 and p90 lie below and above it."""
        stats = None if ms is None else LatencyStats(median=ms, p10=ms - spread[0], p90=ms + spread[1], n=n)
        energy = None if mj is None else EnergyStats(total=mj, dynamic=dynamic, stderr=stderr)
        self.lut.add(Cell(layer=layer, widths=widths, session=session, latency_ms=stats, energy_mj=energy, **values))

    def references(self, values: Sequence[float], session: str = "s1") -> None:
        """The reference layer ``conv`` at 3 and 8 channels."""
        for value in values:
            stats = LatencyStats(median=value, p10=value, p90=value, n=10)
            self.lut.add(ReferenceLine(layer="conv", widths=(3, 8), latency_ms=stats, session=session))

    def network(self, ms: float, session: str, width: int = 8, *flags: str, plan: str = "h", **details: Any) -> None:
        """The plan ``h``, of one group."""
        stats = LatencyStats(median=ms, p10=ms, p90=ms, n=10)
        line = NetworkLine(plan=plan, widths={"a": width}, latency_ms=stats, details=details, session=session, flags=flags)
        self.lut.add(line)


@pytest.fixture
def table(identity: Identity) -> Table:
    """Empty but for session s1."""
    made = Table(Lut(identity))
    made.session("s1")
    return made


@pytest.fixture
def empty(identity: Identity) -> Callable[[], Table]:
    """Tables without any session."""
    return lambda: Table(Lut(identity))
