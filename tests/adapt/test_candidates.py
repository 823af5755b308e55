from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.adapt.candidates import granularities, propose
from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.errors import SpecError
from netadapt_trt.plan.schema import Dim, Group, Plan, Tensor
from netadapt_trt.spec import ModelSpec, parse_budget

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Sum:
    """value = sum of factor x width; exact, by hand."""

    scale = None

    def __init__(self, full: dict[str, int], **factors: float) -> None:
        self.factors = factors
        self.initial = self.value(full)

    def value(self, widths: dict[str, int]) -> float:
        return float(sum(self.factors[group] * width for group, width in widths.items()))

    def curve(self, widths: dict[str, int], group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        rest = self.value({**widths, group: 0})
        return np.asarray(rest + self.factors[group] * candidates, dtype=np.float64)

    def anchor(self, widths: dict[str, int], measured: float) -> None:
        raise AssertionError

    def extrapolates(self, widths: dict[str, int]) -> tuple[str, ...]:
        return ()


FULL = {"a": 32, "b": 32, "c": 8}


def test_propose_narrows_each_group_no_more_than_needed() -> None:
    model = Sum(FULL, a=1.0, b=2.0, c=1.0)  # 32 + 64 + 8 = 104
    found = propose({"latency": model}, {"latency": 95.0}, FULL, dict.fromkeys(FULL, 8))
    # a: 9 too many, two steps of 8; b: 16 a step, one; c cannot shrink
    assert [(p.group, p.width, dict(p.resources)) for p in found] == [
        ("a", 16, {"latency": 88.0}),
        ("b", 24, {"latency": 88.0}),
    ]
    assert found[0].widths == {"a": 16, "b": 32, "c": 8}


def test_propose_meets_every_target_at_once() -> None:
    models = {"latency": Sum(FULL, a=1.0, b=2.0, c=1.0), "params": Sum(FULL, a=1.0, b=0.5, c=1.0)}
    # latency 104 -> 96 takes one step of either; params 56 -> 50 one step of a (8) but two of b (4 each)
    found = propose(models, {"latency": 96.0, "params": 50.0}, FULL, dict.fromkeys(FULL, 8))
    assert {p.group: p.width for p in found} == {"a": 24, "b": 16}


def test_propose_leaves_out_groups_that_cannot_meet_the_target() -> None:
    model = Sum(FULL, a=1.0, b=2.0, c=1.0)
    found = propose({"latency": model}, {"latency": 60.0}, FULL, dict.fromkeys(FULL, 8))
    assert [(p.group, p.width) for p in found] == [("b", 8)]
    assert propose({"latency": model}, {"latency": 10.0}, FULL, dict.fromkeys(FULL, 8)) == []


def plan() -> Plan:
    def weight(name: str, *shape: int) -> Tensor:
        return Tensor(name, "float32", tuple(Dim(size) for size in shape))

    weights = (weight("conv.weight", 32, 3, 3, 3), weight("wide.weight", 1024, 32), weight("small.weight", 100, 1024))
    groups = (
        Group("conv", 32, ("conv.weight",)),
        Group("wide", 1024, ("wide.weight",)),
        Group("small", 100, ("small.weight",)),
    )
    return Plan("m", {}, (), (), groups, (), {}, {w.name: w for w in weights}, {}, ())


def settings(path: Path, **changes: Any) -> AdaptSettings:
    spec = ModelSpec(model="m", input_shape=(1, 3, 8, 8))
    return AdaptSettings(spec=spec, data="digits", budgets=(parse_budget("macs=0.5x"),), output=path, **changes)


def test_granularities_step_wide_linear_layers_by_64(tmp_path: Path) -> None:
    assert granularities(plan(), settings(tmp_path)) == {"conv": 8, "wide": 64, "small": 8}
    assert granularities(plan(), settings(tmp_path, linear_granularity=16)) == {"conv": 8, "wide": 16, "small": 16}


def test_granularities_take_single_groups(tmp_path: Path) -> None:
    chosen = settings(tmp_path, group_granularity={"conv": 4})
    assert granularities(plan(), chosen)["conv"] == 4
    with pytest.raises(SpecError, match="no channel group is named nope; groups: conv, wide, small"):
        granularities(plan(), settings(tmp_path, group_granularity={"nope": 4}))


def test_granularities_follow_the_tables_staircase(tmp_path: Path) -> None:
    found = granularities(plan(), settings(tmp_path), {"conv": 16, "wide": 16})
    assert found == {"conv": 16, "wide": 64, "small": 8}
    # What is asked for wins; so does a group's own.
    assert granularities(plan(), settings(tmp_path, granularity=4), {"conv": 16})["conv"] == 4
    assert granularities(plan(), settings(tmp_path, group_granularity={"conv": 2}), {"conv": 16})["conv"] == 2
    # A group of fewer than two steps could not shrink at all.
    assert granularities(plan(), settings(tmp_path), {"conv": 512})["conv"] == 8


def test_steps_of_channels_are_divided_by_units_of_several(tmp_path: Path) -> None:
    """Two channels a unit, as between grouped convolutions of two groups."""
    weight = Tensor("w", "float32", (Dim(0, (("pairs", 2),)), Dim(3), Dim(1), Dim(1)))
    plan = Plan("m", {}, (), (), (Group("pairs", 16, ("w",)),), (), {}, {"w": weight}, {}, ())
    usual = AdaptSettings(
        spec=ModelSpec(model="m:n", input_shape=(1, 3, 8, 8)),
        data="digits",
        budgets=(parse_budget("macs=0.5x"),),
        output=tmp_path,
    )

    assert granularities(plan, usual) == {"pairs": 4}
    # The table's sixteen channels are half of them; forty are none of two.
    assert granularities(plan, usual, {"pairs": 16}) == {"pairs": 8}
    assert granularities(plan, usual, {"pairs": 40}) == {"pairs": 4}
    assert granularities(plan, replace(usual, granularity=1)) == {"pairs": 1}
    assert granularities(plan, replace(usual, group_granularity={"pairs": 3})) == {"pairs": 3}
