from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.axes import space_of
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.reading import initial_measured, profile_command
from netadapt_trt.lut.schema import Cell, NetworkLine
from netadapt_trt.plan.schema import Dim, Layer
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Plan

    MakeLut = Callable[..., Lut]
    MakePlan = Callable[..., Plan]
    MakeLayer = Callable[..., Layer]


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    return make_plan(a=32, b=16)


@pytest.fixture
def layers(make_layer: MakeLayer) -> list[Layer]:
    """conv(3 -> a), depthwise(a), conv(a -> b), head(b -> 10), pool without channels."""
    return [
        make_layer("stem", 3, "a"),
        make_layer("depthwise", "a", "a"),
        make_layer("conv", "a", "b"),
        make_layer("head", "b", 10),
        make_layer("pool"),
    ]


@pytest.fixture
def lut(make_lut: MakeLut) -> Lut:
    return make_lut(
        {
            "stem": {(3, 8): 1.0, (3, 32): 4.0},
            "conv": {(i, o): i * o / 64 for i in (8, 32) for o in (8, 16)},
            "depthwise": {(8, 8): 0.5, (16, 16): 0.75, (32, 32): 2.0},
            "head": {(8, 10): 0.1, (16, 10): 0.2},
            "pool": {(): 0.05},
        }
    )


def test_space_ties_axes_of_one_combination_and_finds_their_cells() -> None:
    # in = 4a, out = 10 + 2a + 2b, second operand of the same sum, one fixed
    layer = Layer("k", (Dim(0, (("a", 4),)), Dim(10, (("a", 2), ("b", 2))), Dim(10, (("a", 2), ("b", 2))), Dim(7)), ())
    space = space_of(layer)
    assert [parameter.terms for parameter in space.parameters] == [(("a", 1),), (("a", 1), ("b", 1))]
    assert space.axes((3, 5)) == (12, 20, 20, 7)
    rows = np.array([[12, 20, 20, 7], [12, 20, 22, 7], [12, 21, 21, 7], [13, 20, 20, 7], [12, 20, 20, 8], [8, 12, 12, 7]])
    keep, values = space.locate(rows)
    assert keep.tolist() == [True, False, False, False, False, True]
    assert values.tolist() == [[3, 5], [2, 1]]


def test_estimate_sums_exact_and_interpolated_cells(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    estimator = NetworkEstimator(lut, plan, layers)
    assert estimator.missing() == []
    # full: 4 + 2 + 32 * 16 / 64 + 0.2 + 0.05
    assert estimator.raw({}) == pytest.approx(14.25)
    # a = 24, b = 12: 3 + 1.375 + 24 * 12 / 64 + 0.15 + 0.05; bilinear is exact for a product
    found = estimator.estimate({"a": 24, "b": 12})
    assert found.value == pytest.approx(9.075)
    assert (found.scale, found.extrapolated, estimator.anchored) == (1.0, (), False)


def test_extrapolated_layers_are_named(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    estimator = NetworkEstimator(lut, plan, layers)
    found = estimator.estimate({"a": 32, "b": 4})
    assert found.extrapolated == ("conv", "head")
    assert found.value == pytest.approx(4 + 2 + 32 * 4 / 64 + 0.05 + 0.05)
    assert estimator.extrapolates({"a": 8, "b": 8}) == ()


def test_layers_that_are_alike_count_each_time(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    once = NetworkEstimator(lut, plan, layers).raw({"a": 16})
    twice = NetworkEstimator(lut, plan, [*layers, layers[1]]).raw({"a": 16})
    assert twice - once == pytest.approx(0.75)


def test_curve_equals_the_estimate_at_every_width(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    estimator = NetworkEstimator(lut, plan, layers)
    estimator.anchor({"a": 32, "b": 16}, 7.125)
    assert (estimator.scale, estimator.anchored) == (0.5, True)
    for group, widths in (("a", {"b": 12}), ("b", {"a": 24, "b": 8}), ("a", {"a": 8})):
        candidates = np.arange(1, 33)
        curve = estimator.curve(widths, group, candidates)
        expected = [estimator.estimate({**widths, group: int(width)}).value for width in candidates]
        np.testing.assert_allclose(curve, expected, rtol=1e-12)
    with pytest.raises(KeyError):
        estimator.curve({}, "c", np.array([8]))


@pytest.mark.parametrize("measured", [0.0, -1.0, float("nan"), float("inf")])
def test_anchor_refuses_what_is_no_time(lut: Lut, plan: Plan, layers: list[Layer], measured: float) -> None:
    with pytest.raises(ValueError, match="cannot anchor"):
        NetworkEstimator(lut, plan, layers).anchor({}, measured)


def test_table_with_a_whole_network_anchors_at_once(lut: Lut, plan: Plan, layers: list[Layer]) -> None:
    with pytest.raises(CoverageError, match="no end-to-end latency of the uncut zoo:tiny"):
        initial_measured(lut, plan)
    stats = LatencyStats(median=11.4, p10=11.0, p90=12.0, n=50)
    lut.add(NetworkLine(plan=plan_hash(plan), widths={"a": 32, "b": 16}, latency_ms=stats, session="s1"))
    estimator = NetworkEstimator(lut, plan, layers)
    assert initial_measured(lut, plan) == 11.4
    assert estimator.scale == pytest.approx(0.8)
    assert estimator.estimate({}).value == pytest.approx(11.4)


def test_command_names_the_same_network_and_can_be_pasted(lut: Lut, plan: Plan) -> None:
    plan = replace(plan, model="my nets.py:tiny", num_classes=7, reset_head=True)
    lut.path = Path("my luts/a.jsonl")
    assert shlex.split(profile_command(lut, plan)) == [
        *("netadapt-trt", "profile", "my nets.py:tiny", "--model-arg", "width=0.5", "--num-classes", "7", "--reset-head"),
        *("--input", "1x3x8x8", "--backend", "fake", "--precision", "fp32", "--lut", "my luts/a.jsonl"),
    ]


def test_missing_layers_are_named_with_the_command(make_lut: MakeLut, plan: Plan, layers: list[Layer]) -> None:
    lut = make_lut({"stem": {(3, 8): 1.0, (3, 32): 4.0}, "conv": {(32, 8): 1.0, (32, 16): 2.0}, "head": {(16, 10): 0.2}})
    estimator = NetworkEstimator(lut, plan, layers)
    # conv(a -> b) has one input width only, the head one point on its line.
    assert [layer.key for layer in estimator.missing()] == ["depthwise", "conv", "head", "pool"]
    command = "netadapt-trt profile zoo:tiny --model-arg width=0.5 --input 1x3x8x8 --backend fake --precision fp32"
    for ask in (
        lambda: estimator.raw({}),
        lambda: estimator.curve({}, "a", np.array([8])),
        lambda: estimator.anchor({}, 1.0),
    ):
        with pytest.raises(CoverageError, match=f"4 layers of zoo:tiny: conv; depthwise; head; pool.*{command}"):
            ask()


def test_energy_is_estimated_from_energies(make_lut: MakeLut, make_plan: MakePlan, make_layer: MakeLayer) -> None:
    plan, layers = make_plan(a=16), [make_layer("conv", 3, "a")]
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}})
    assert [layer.key for layer in NetworkEstimator(lut, plan, layers, "energy").missing()] == ["conv"]
    for width, total in ((8, 5.0), (16, 6.0)):
        lut.add(Cell(layer="conv", widths=(3, width), session="s1", energy_mj=EnergyStats(total=total)))
    assert NetworkEstimator(lut, plan, layers, "energy").raw({"a": 12}) == pytest.approx(5.5)
    assert NetworkEstimator(lut, plan, layers).raw({"a": 12}) == pytest.approx(1.5)


def test_group_of_one_channel_is_no_axis(make_lut: MakeLut, make_plan: MakePlan, make_layer: MakeLayer) -> None:
    plan, layers = make_plan(a=1, b=16), [make_layer("conv", "a", "b")]
    lut = make_lut({"conv": {(1, 8): 1.0, (1, 16): 2.0, (5, 12): 9.0}})
    assert NetworkEstimator(lut, plan, layers).raw({"b": 12}) == pytest.approx(1.5)


def test_figures_that_cannot_be_are_no_estimate(make_lut: MakeLut, plan: Plan, layers: list[Layer], lut: Lut) -> None:
    """Of a table that no reader has looked at: infinity would come out, or what is no number."""
    cells = {
        key: {cell.widths: cell.latency_ms.median for cell in lut.layer_cells(key) if cell.latency_ms}
        for key in lut.layers()
    }
    for figure in (1e30, float("inf"), float("nan")):
        estimator = NetworkEstimator(make_lut(cells | {"pool": {(): figure}}), plan, layers)
        with pytest.raises(CoverageError, match="no network does, so lines of it are damaged"):
            estimator.raw({})
        with pytest.raises(CoverageError, match="no network does"):
            estimator.estimate({})
        with pytest.raises(CoverageError, match="no network does"):
            estimator.curve({}, "a", np.array([8, 16]))


def test_rail_at_rest_is_nothing_to_estimate(make_lut: MakeLut, make_plan: MakePlan, make_layer: MakeLayer) -> None:
    plan, layers, lut = make_plan(a=16), [make_layer("conv", 3, "a")], make_lut({})
    stats = LatencyStats(median=2.0, p10=2.0, p90=2.0, n=10)
    power = {"gpu": 0.0, "cpu": 500.0}
    for width in (8, 16):
        lut.add(Cell(layer="conv", widths=(3, width), session="s1", latency_ms=stats, power_mw=power))
    lut.add(NetworkLine(plan=plan_hash(plan), widths={"a": 16}, latency_ms=stats, power_mw=power, session="s1"))
    assert NetworkEstimator(lut, plan, layers, "energy@cpu").estimate({}).value == pytest.approx(1.0)  # 500 mW for 2 ms
    resting = NetworkEstimator(lut, plan, layers, "energy@gpu")
    assert not resting.anchored
    with pytest.raises(CoverageError, match=r"costs 0 in energy@gpu.*or that rail is at rest"):
        resting.estimate({})
    with pytest.raises(CoverageError, match="has no end-to-end energy@gpu"):
        initial_measured(lut, plan, "energy@gpu")
