"""The coarse set of cells and the model of the rest, judged by the fake device: what bounds a layer decides its power, and
each rail's share of it."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.plan.write import write_layer
from netadapt_trt.profile.energy_cells import CellLoads, coarse_order
from netadapt_trt.profile.energy_model import EnergyModel, Load, Point
from netadapt_trt.profile.grid import plan_cells
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from types import ModuleType

    from netadapt_trt.profile.grid import PlannedCell

IDLE_MW, MEASURED = 6000.0, 40


@dataclass
class Network:
    """Every planned cell of a network, and the point that measuring it would give."""

    cells: list[PlannedCell]
    order: list[PlannedCell]
    loads: CellLoads
    points: dict[tuple[str, tuple[int, ...]], Point]

    def of(self, cells: list[PlannedCell]) -> list[Point]:
        return [self.points[cell.layer.key, cell.widths] for cell in cells]


@pytest.fixture(scope="module", params=["zoo:mobilenet_v1", "torchvision:mobilenet_v3_small"])
def network(request: pytest.FixtureRequest) -> Network:
    pytest.importorskip("torch")
    graph: Any = importlib.import_module("netadapt_trt.graph.network")
    planner: Any = importlib.import_module("netadapt_trt.graph.planner")
    plan = planner.make_plan(graph.open_network(ModelSpec(model=request.param, input_shape=(1, 3, 224, 224))))
    backend = load_backend("fake")
    cells = plan_cells(plan, backend.partition(plan))
    loads, (opset, ir_version) = CellLoads(plan, cells), backend.opset()
    points = {}
    for cell in cells:
        model = write_layer(plan, cell.layer, cell.widths, opset=opset, ir_version=ir_version)
        with backend.compile(model, CompileOptions(precision="fp32", threads=1)) as exe:
            exe.run()
            found: Any = exe
            time_ms, rails = found.elapsed_ms(), {rail: power + IDLE_MW / 2 for rail, power in found.power_mw().items()}
        points[cell.layer.key, cell.widths] = Point(
            load=loads.load(cell, time_ms), total_mw=sum(rails.values()), power_mw=rails
        )
    return Network(cells, coarse_order(cells, loads), loads, points)


def test_coarse_set_covers_kinds_and_widths_evenly(network: Network) -> None:
    chosen = network.of(network.order[:MEASURED])
    everything = network.of(network.cells)
    assert {(point.load.kind, point.load.level) for point in chosen} >= {
        pair for pair, count in Counter((point.load.kind, point.load.level) for point in everything).items() if count > 50
    }
    levels = Counter(point.load.level for point in chosen)
    assert set(levels) == {point.load.level for point in everything}
    assert max(levels.values()) <= MEASURED / 2  # not nearly all at full width
    kinds = Counter(point.load.kind for point in chosen)
    whole = Counter(point.load.kind for point in everything)
    assert all(count >= min(whole[kind], MEASURED // len(whole) - 1) for kind, count in kinds.items())
    assert set(kinds) == set(whole)


def test_coarse_order_is_of_every_cell_and_always_the_same(network: Network) -> None:
    assert Counter(map(id, network.order)) == Counter(map(id, network.cells))
    assert coarse_order(network.cells, network.loads) == network.order


def test_modelled_cells_are_close_and_the_stated_error_says_how_close(network: Network) -> None:
    model = EnergyModel(network.of(network.order[:MEASURED]))
    misses, rails, stated = [], [], []
    for point in network.of(network.order[MEASURED:]):
        said = model.predict(point.load)
        misses.append(said.energy_mj / (point.total_mw * point.load.latency_ms / 1000) - 1)
        rails.append([said.power_mw[rail] / power - 1 for rail, power in point.power_mw.items()])
        stated.append(said.error)
    assert np.abs(misses).mean() < 0.02
    assert np.abs(rails).mean() < 0.04
    assert np.sqrt(np.square(misses).mean()) < 1.5 * np.mean(stated)
    assert model.error < 0.04


def test_rails_are_modelled_by_kind_not_by_one_share(network: Network) -> None:
    model = EnergyModel(network.of(network.order[:MEASURED]))
    shares = []
    for point in network.of(network.cells):
        said = model.predict(point.load)
        shares.append(said.power_mw["FAKE_GPU"] * point.load.latency_ms / 1000 / said.energy_mj)
    assert max(shares) - min(shares) > 0.05


def load(kind: str = "Conv", level: int = 0, latency_ms: float = 1.0, macs: float = 1e6, elements: float = 1e4) -> Load:
    return Load(kind=kind, level=level, latency_ms=latency_ms, macs=macs, elements=elements)


def test_energy_of_alike_layers_is_a_line_over_latency() -> None:
    # 3 mJ a run and 5 W: 3000 / t + 5000 mW
    points = []
    for place, time_ms in enumerate((0.5, 1.0, 2.0, 4.0, 6.0, 8.0)):
        each = load(level=place % 3, latency_ms=time_ms, macs=1e6 * time_ms, elements=1e4 * time_ms)
        points.append(Point(load=each, total_mw=3000 / time_ms + 5000, power_mw={}))
    said = EnergyModel(points).predict(load(latency_ms=3.0, macs=3e6, elements=3e4))
    assert said.energy_mj == pytest.approx(18.0, rel=0.01)


def test_too_few_points_make_no_model_and_three_alike_make_their_mean() -> None:
    points = [Point(load=load(), total_mw=4000.0 + 10 * i, power_mw={"A": 2000.0}) for i in range(3)]
    with pytest.raises(ValueError, match="it takes 3"):
        EnergyModel(points[:2])
    said = EnergyModel(points).predict(load(kind="Gemm", latency_ms=2.0))
    assert said.energy_mj == pytest.approx(8.02, rel=0.005)
    assert said.power_mw == {"A": pytest.approx(2000.0)}
    assert 0 < said.error < 0.01


def test_prediction_stays_within_what_was_measured() -> None:
    points = [Point(load=load(level=i, latency_ms=1.0 + i), total_mw=4000.0 + 1000 * i, power_mw={}) for i in range(4)]
    for latency_ms in (0.001, 1000.0):
        power = EnergyModel(points).predict(load(latency_ms=latency_ms)).energy_mj / latency_ms * 1000
        assert 4000.0 <= power <= 7000.0


def test_error_is_held_out_by_width() -> None:
    """Uncut layers draw 4 W, narrow ones 8 W: from uncut ones alone nobody can know."""
    wide = [Point(load=load(level=0, latency_ms=1 + i / 100), total_mw=4000.0, power_mw={}) for i in range(6)]
    narrow = [replace(point, load=replace(point.load, level=4), total_mw=8000.0) for point in wide[:3]]
    assert EnergyModel(wide).error < 1e-3
    # The wide, seen from the narrow, miss by 100 %, the narrow by 50 %.
    assert EnergyModel([*wide, *narrow]).error == pytest.approx((6 * 1.0 + 3 * 0.5) / 9, rel=0.05)


def test_scattered_turns_of_a_small_plan(clockwork: ModuleType) -> None:
    plan = clockwork.make_plan()
    cells = plan_cells(plan, clockwork.Clockwork().partition(plan), granularity=8)
    loads = CellLoads(plan, cells)
    order = coarse_order(cells, loads)
    kinds = [loads.load(cell, 1.0).kind for cell in order]
    assert set(kinds[:3]) == {"Conv", "GlobalAveragePool", "Gemm"}
    assert all(one != other for one, other in pairwise(kinds[:9]))
    first = loads.load(next(cell for cell in order if "Conv" in cell.layer.key), 1.0)
    assert first.level == 0
    # conv1 at a = 32: 8 x 8 x 32 x 27 multiply-accumulates; 3 x 64 read, 32 x 64 written, 32 x 27 + 32 weights
    uncut = next(cell for cell in cells if cell.layer.ops[0] == "conv1" and cell.level == -1)
    known = loads.load(uncut, 1.0)
    assert (known.macs, known.elements) == (8 * 8 * 32 * 27, 3 * 64 + 32 * 64 + 32 * 27 + 32)
