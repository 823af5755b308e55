from __future__ import annotations

from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.plan.schema import Dim, Group, Layer, Plan, Tensor
from netadapt_trt.plan.units import channels_per_unit, steps_in_units
from netadapt_trt.profile.grid import plan_cells


def plan_of(**filters: tuple[int, int]) -> Plan:
    """Groups of (size, filters of its only layer for each step of its width)."""
    weights = {
        f"{name}.weight": Tensor(f"{name}.weight", "float32", (Dim(0, ((name, factor),)), Dim(3), Dim(1), Dim(1)))
        for name, (_, factor) in filters.items()
    }
    groups = tuple(Group(name, size, (f"{name}.weight",)) for name, (size, _) in filters.items())
    return Plan("m", {}, (), (), groups, (), {}, weights, {}, ())


PLAN = plan_of(plain=(32, 1), pairs=(16, 2), fours=(12, 4), wide=(4, 16))


def test_units_are_read_off_the_filters_of_the_layers() -> None:
    assert [channels_per_unit(PLAN, group) for group in PLAN.groups] == [1, 2, 4, 16]
    lost = Group("lost", 8, ("no.such.weight",))
    assert channels_per_unit(PLAN, lost) == 1


def test_step_of_channels_is_divided_by_the_unit() -> None:
    # Eight channels are eight, four or two units; a unit of sixteen is more already.
    assert steps_in_units(PLAN, 8) == {"plain": 8, "pairs": 4, "fours": 2, "wide": 1}


def test_random_networks_keep_to_steps_of_channels() -> None:
    for widths in anchor_widths(PLAN)[1:]:
        assert widths["plain"] % 8 == 0
        assert widths["pairs"] % 4 == 0
        assert widths["fours"] % 2 == 0
    assert len({widths["wide"] for widths in anchor_widths(PLAN)}) > 1


def test_cells_of_units_are_as_fine_as_those_of_channels() -> None:
    """A layer of 32 filters has the same cells, however many of them are a unit."""
    plain = Layer("conv", (Dim(0, (("plain", 1),)),), ())
    pairs = Layer("conv", (Dim(0, (("pairs", 2),)),), ())

    assert [cell.widths for cell in plan_cells(plan_of(plain=(32, 1)), [plain])] == [
        cell.widths for cell in plan_cells(plan_of(pairs=(16, 2)), [pairs])
    ]
