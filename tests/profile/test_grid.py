from __future__ import annotations

import itertools

import pytest

from netadapt_trt.plan.schema import Dim, Group, Layer, Plan
from netadapt_trt.profile.grid import full_grid, levels, plan_cells, spread


def _plan(**groups: int) -> Plan:
    return Plan("m", {}, (), (), tuple(Group(name, size, ()) for name, size in groups.items()), (), {}, {}, {}, ())


def _layer(key: str, *axes: int | str) -> Layer:
    return Layer(key, tuple(Dim(axis) if isinstance(axis, int) else Dim(0, ((axis, 1),)) for axis in axes), ())


def test_spread_mixes_even_and_geometric_steps() -> None:
    # Between 8 and 512 in six parts: even 92, 176, 260, 344, 428, geometric 16, 32, 64, 128, 256; halfway
    # 54, 104, 162, 236, 342, to multiples of 8.
    assert spread(8, 512, 8) == (8, 56, 104, 160, 240, 344, 512)


@pytest.mark.parametrize(
    ("low", "full", "step", "expected"),
    [
        (8, 8, 8, (8,)),
        (8, 24, 8, (8, 16, 24)),
        (8, 20, 8, (8, 16, 20)),
        (1, 6, 8, (1, 6)),
        (8, 56, 8, (8, 16, 24, 32, 40, 48, 56)),
        (64, 128, 64, (64, 128)),
    ],
)
def test_spread_takes_all_multiples_where_they_are_few(low: int, full: int, step: int, expected: tuple[int, ...]) -> None:
    assert spread(low, full, step) == expected


@pytest.mark.parametrize("full", [57, 64, 100, 333, 4096])
def test_spread_stays_on_the_grid_and_ascends(full: int) -> None:
    values = spread(8, full, 8)
    assert list(values) == sorted(set(values))
    assert len(values) <= 7
    assert (values[0], values[-1]) == (8, full)
    assert all(value % 8 == 0 for value in values[:-1])
    gaps = [b - a for a, b in itertools.pairwise(values)]
    assert gaps[0] <= gaps[-1] + 8


def test_levels_halve() -> None:
    assert levels(7) == [0, 2, 3, 1, 2, 3, 0]
    assert levels(1) == [0]
    assert levels(2) == [0, 0]


def test_fixed_sizes_are_not_varied_and_tied_ones_vary_together() -> None:
    plan = _plan(a=24)
    cells = plan_cells(plan, [_layer("stem", 3, "a"), _layer("depthwise", "a", "a"), _layer("pool", 10)])
    assert [(cell.layer.key, cell.widths) for cell in cells] == [
        ("stem", (3, 24)),
        ("depthwise", (24, 24)),
        ("pool", (10,)),
        ("stem", (3, 8)),
        ("depthwise", (8, 8)),
        ("stem", (3, 16)),
        ("depthwise", (16, 16)),
    ]
    assert [cell.level for cell in cells] == [-1, -1, -1, 0, 0, 1, 1]


def test_two_free_sizes_give_the_product_corners_first() -> None:
    cells = plan_cells(_plan(a=512, b=512), [_layer("conv", "a", "b")])
    assert len(cells) == 49
    assert [cell.widths for cell in cells[:4]] == [(512, 512), (512, 8), (8, 512), (8, 8)]


def test_more_than_two_free_sizes_follow_the_diagonal() -> None:
    plan = _plan(a=512, b=64, c=8)
    cells = plan_cells(plan, [_layer("concat", "a", "b", "c")])
    assert {cell.widths[0] for cell in cells} == set(spread(8, 512, 8))
    assert [cell.widths for cell in cells[:2]] == [(512, 64, 8), (8, 8, 1)]
    # share (240 - 8) / 504: b = 8 + 0.46 * 56 = 33.8 -> 32
    assert next(cell.widths for cell in cells if cell.widths[0] == 240)[1] == 32


def test_cells_of_layers_that_are_alike_are_measured_once() -> None:
    plan = _plan(a=64, b=64, c=64)
    one = plan_cells(plan, [_layer("conv", "a", "b")])
    assert len(plan_cells(plan, [_layer("conv", "a", "b"), _layer("conv", "b", "c"), _layer("conv", "c", "a")])) == len(one)


def test_many_layers_of_one_key_share_the_largest_grid() -> None:
    plan = _plan(**{f"g{size}": size for size in range(64, 64 + 32 * 10, 32)}, out=128)
    cells = plan_cells(plan, [_layer("conv", f"g{size}", "out") for size in range(64, 64 + 32 * 10, 32)])
    # The 7 x 7 grid of (352, 128), and the full widths of nine more, (224, 128) among them on no grid line.
    assert len(cells) == 49 + 9 - len(set(spread(8, 352, 8)) & set(range(64, 352, 32)))
    assert [cell.level for cell in cells[:10]] == [-1] * 10


def test_sum_of_groups_is_one_size() -> None:
    axis = Dim(0, (("a", 4), ("b", 4)))
    cells = plan_cells(_plan(a=16, b=16), [Layer("flat", (axis,), ())])
    # a + b from 16 to 32 in steps of 8, times 4
    assert sorted(cell.widths for cell in cells) == [(64,), (96,), (128,)]


def test_group_no_larger_than_a_granule_is_measured_at_one_channel() -> None:
    assert [cell.widths for cell in plan_cells(_plan(a=8), [_layer("squeeze", "a")])] == [(8,), (1,)]
    assert [cell.widths for cell in plan_cells(_plan(a=1), [_layer("squeeze", "a")])] == [(1,)]


def test_mobilenet_v1_needs_about_520_cells() -> None:
    sizes = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    side = (112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7)
    groups = {f"g{index}": size for index, size in enumerate(sizes)}
    layers = [_layer("stem", 3, "g0"), _layer("pool", "g13"), _layer("head", "g13", 1000)]
    for index in range(13):
        layers.append(_layer(f"depthwise {side[index]}>{side[index + 1]}", f"g{index}", f"g{index}"))
        layers.append(_layer(f"pointwise {side[index + 1]}", f"g{index}", f"g{index + 1}"))
    assert 400 <= len(plan_cells(_plan(**groups), layers)) <= 560


def test_full_grid_counts_every_setting_of_every_key_once() -> None:
    """Widths 8 to 32 and 8 to 64 in steps of 8 are 4 and 8; both together 32; the tied one 4; the fixed one 1."""
    plan = _plan(a=32, b=64)
    layers = [_layer("stem", 3, "a"), _layer("point", "a", "b"), _layer("point", "a", "b"), _layer("deep", "a", "a")]
    layers += [_layer("last", "b", 10), _layer("edge", 3)]
    assert full_grid(plan, layers) == 4 + 32 + 4 + 8 + 1
    assert full_grid(plan, layers, granularity=16) == 2 + 8 + 2 + 4 + 1
