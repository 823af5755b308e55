from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netadapt_trt.lut.schema import Cell, Session, format_header, format_record
from netadapt_trt.lut.store import Lut, LutWriter
from netadapt_trt.plan.schema import Dim, Group, Layer, Plan, Tensor
from netadapt_trt.spec import Identity, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def identity() -> Identity:
    return Identity(
        backend="fake",
        device="fake-device",
        runtime="formula",
        runtime_version="1",
        provider="fake",
        precision="fp32",
        recipe="none",
        batch=1,
        threads=1,
    )


@pytest.fixture
def make_cell() -> Callable[..., Cell]:
    def make(layer: str, widths: tuple[int, ...], median: float, *flags: str, session: str = "s1") -> Cell:
        stats = LatencyStats(median=median, p10=median, p90=median, n=10)
        return Cell(layer=layer, widths=widths, session=session, latency_ms=stats, flags=flags)

    return make


@pytest.fixture
def make_lut(identity: Identity, make_cell: Callable[..., Cell]) -> Callable[..., Lut]:
    """A table in memory from {layer key: {widths: ms}}."""

    def make(values: dict[str, dict[tuple[int, ...], float]]) -> Lut:
        lut = Lut(identity)
        lut.add(Session(id="s1", date="2026-01-01T00:00:00+00:00"))
        for layer, cells in values.items():
            for widths, median in cells.items():
                lut.add(make_cell(layer, widths, median))
        return lut

    return make


@pytest.fixture
def lut_file(tmp_path: Path, identity: Identity, make_cell: Callable[..., Cell]) -> Path:
    """A session and three cells: lines 1 to 5."""
    path = tmp_path / "device" / "fake-fp32.lut.jsonl"
    with LutWriter(path, identity) as writer:
        writer.append(Session(id="s1", date="2026-01-01T00:00:00+00:00"))
        for width in (8, 16, 32):
            writer.append(make_cell("Conv 3x3", (3, width), width / 16))
    return path


@pytest.fixture
def lines(identity: Identity, make_cell: Callable[..., Cell]) -> list[str]:
    return [
        format_header(identity),
        format_record(Session(id="s1", date="2026-01-01T00:00:00+00:00")),
        format_record(make_cell("Conv 3x3", (3, 8), 0.5)),
    ]


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """A plan of these groups with nothing in it but an input: enough for an estimator."""

    def make(**groups: int) -> Plan:
        shape = tuple(Dim(size) for size in (1, 3, 8, 8))
        return Plan(
            model="zoo:tiny",
            args={"width": "0.5"},
            inputs=("x",),
            outputs=("x",),
            groups=tuple(Group(name, size, ()) for name, size in groups.items()),
            frozen=(),
            tensors={"x": Tensor("x", "float32", shape)},
            weights={},
            constants={},
            ops=(),
        )

    return make


@pytest.fixture
def make_layer() -> Callable[..., Layer]:
    def make(key: str, *axes: int | str | dict[str, int]) -> Layer:
        dims = []
        for axis in axes:
            if isinstance(axis, int):
                dims.append(Dim(axis))
            else:
                terms = {axis: 1} if isinstance(axis, str) else axis
                dims.append(Dim(0, tuple(sorted(terms.items()))))
        return Layer(key, tuple(dims), ())

    return make
