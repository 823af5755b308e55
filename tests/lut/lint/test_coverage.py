from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.lint.coverage import coverage, holes
from netadapt_trt.lut.schema import NetworkLine
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.spec import LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan


def test_holes_are_wide_gaps_with_widths_inside(make_lut: Callable[..., Lut]) -> None:
    def times(*widths: int) -> dict[tuple[int, ...], float]:
        return {(3, width): width / 10 for width in widths}

    sound = {"octaves": times(16, 32, 64, 128), "granules": times(1, 16), "one": times(64), "first": times(16, 40, 256, 512)}
    lut = make_lut(sound | {"hole": times(16, 32, 256, 512)})
    del sound["first"]
    (found,) = holes(lut)
    assert found.severity == "warning"
    assert found.text == "2 of 5 layers have gaps in their widths (neighbours over 2 x apart)"
    assert {(place.layer, place.text) for place in found.places} == {
        ("hole", "size 2 is measured at 32 and next at 256"),
        ("first", "size 2 is measured at 40 and next at 256"),
    }
    assert holes(make_lut(sound)) == []


def test_holes_are_not_asked_for_within_networks(table: Any) -> None:
    for width in (8, 9, 13, 300):
        table.cell("conv", (width,), 1.0, context="in_network")
    assert holes(table.lut) == []


def test_holes_count_a_flagged_cell_as_there(table: Any) -> None:
    for width in (16, 64, 128):
        table.cell("conv", (width,), 1.0)
    assert len(holes(table.lut)) == 1
    table.cell("conv", (32,), 1.0, flags=("noisy",))
    assert holes(table.lut) == []


def _measured(lut: Lut, plan: Plan) -> None:
    stats = LatencyStats(median=3.0, p10=3.0, p90=3.0, n=10)
    lut.add(NetworkLine(plan=plan_hash(plan), widths=plan.full_widths(), latency_ms=stats, session="s1"))


def test_coverage_names_the_plan_file_and_the_command_once(
    make_lut: Callable[..., Lut], make_plan: Callable[..., Plan], make_layer: Callable[..., Layer]
) -> None:
    plan = make_plan(a=16)
    layers = [make_layer("conv", 3, "a"), make_layer("head", "a", 10), make_layer("tail", "a", 5)]
    found = check(make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}}), plan, layers, source="a dir/net.plan.json")
    assert [finding.rule for finding in found] == ["missing-layers", "missing-network"]
    assert found[0].text == "2 layers of zoo:tiny have too few cells"
    assert [place.layer for place in found[0].places] == ["head", "tail"]
    command = "netadapt-trt profile 'a dir/net.plan.json' --backend fake --precision fp32 --lut FILE"
    assert [finding.action for finding in found] == [f"run: {command}", "the same command measures it"]


def test_coverage_of_damaged_figures_is_an_error(
    make_lut: Callable[..., Lut], make_plan: Callable[..., Plan], make_layer: Callable[..., Layer]
) -> None:
    plan = make_plan(a=16)
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 16): 1e25}})  # past the reader, which admits 1e12
    _measured(lut, plan)
    (found,) = coverage(lut, plan, [make_layer("conv", 3, "a")])
    assert (found.severity, found.rule) == ("error", "no-estimate")
    assert "zoo:tiny costs 1e+25 in latency; no network does" in found.text


def test_coverage_tells_what_is_extrapolated(
    make_lut: Callable[..., Lut], make_plan: Callable[..., Plan], make_layer: Callable[..., Layer]
) -> None:
    plan, layers = make_plan(a=64), [make_layer("conv", 3, "a"), make_layer("head", "a", 10)]
    whole = {(8, 10): 1.0, (64, 10): 2.0}
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 48): 2.0}, "head": whole})
    _measured(lut, plan)
    found = coverage(lut, plan, layers)
    assert [finding.rule for finding in found] == ["extrapolated", "covered"]
    assert [place.layer for place in found[0].places] == ["conv"]  # 48 of 64: the uncut network lies outside
    lut = make_lut({"conv": {(3, 8): 1.0, (3, 64): 2.0}, "head": whole})
    _measured(lut, plan)
    assert [finding.rule for finding in coverage(lut, plan, layers)] == ["covered"]
