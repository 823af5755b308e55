from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.errors import NetadaptError
from netadapt_trt.lut.surface import Grid, Line, Point, Scatter, Surface, surface

if TYPE_CHECKING:
    from collections.abc import Mapping


def at(found: Surface | None, *points: tuple[int, ...]) -> tuple[list[float], list[bool]]:
    assert found is not None
    values, outside = found(np.array(points, dtype=np.int64))
    return [round(float(value), 9) for value in values], [bool(flag) for flag in outside]


def of(points: Mapping[Any, float], parameters: int) -> Surface | None:
    where = np.array(list(points), dtype=np.int64).reshape(len(points), parameters)
    return surface(where, np.array(list(points.values()), dtype=float))


def test_surface_without_parameters_is_its_one_value() -> None:
    assert at(of({(): 3.0}, 0), ()) == ([3.0], [False])
    assert isinstance(of({(): 3.0}, 0), Point)
    assert of({}, 0) is None


def test_line_passes_through_points_that_are_not_monotone_and_extrapolates_straight_on() -> None:
    line = of({(32,): 2.0, (8,): 1.0, (16,): 4.0}, 1)
    assert isinstance(line, Line)
    values, outside = at(line, (8,), (12,), (16,), (24,), (32,), (40,))
    assert values == [1.0, 2.5, 4.0, 3.0, 2.0, 1.0]  # 40: 2 - 8 * (4 - 2) / 16
    assert outside == [False, False, False, False, False, True]


def test_line_extrapolated_stays_positive() -> None:
    values, outside = at(of({(8,): 1.0, (16,): 4.0}, 1), (1,))
    assert outside == [True]
    assert values == [0.01]  # straight on: 1 - 7 * 3 / 8 < 0


def test_one_point_is_no_line() -> None:
    assert of({(8,): 1.0}, 1) is None


def test_full_grid_is_bilinear() -> None:
    grid = of({(0, 0): 1.0, (0, 10): 2.0, (10, 0): 3.0, (10, 10): 8.0}, 2)
    assert isinstance(grid, Grid)
    # (5, 5): mean of the corners; (0, 4) on an edge; (10, 10) a corner; (20, 0) straight on along x: 1 + 2 * 2
    assert at(grid, (5, 5), (0, 4), (10, 10), (20, 0)) == ([3.5, 1.4, 8.0, 5.0], [False, False, False, True])


def test_scattered_points_are_linear_inside_and_flagged_outside() -> None:
    # z = 1 + 2x + 3y measured at five places that are no grid
    points = {(x, y): 1.0 + 2 * x + 3 * y for x, y in ((0, 0), (10, 0), (0, 10), (8, 7), (3, 4))}
    found = of(points, 2)
    assert isinstance(found, Scatter)
    assert at(found, (2, 2), (8, 7), (10, 10)) == ([11.0, 38.0, 51.0], [False, False, True])


def test_scattered_points_return_every_measured_value() -> None:
    draw = np.random.default_rng(0)
    points = {(int(x), int(y)): float(value) for x, y, value in draw.integers(1, 60, size=(40, 3))}
    values, outside = at(of(points, 2), *points)
    assert values == list(points.values())
    assert not any(outside)


def test_scattered_points_outside_follow_the_nearest_edge() -> None:
    # Two planes that meet at x = 10: flat on the left, rising by 1 per channel on the right; y changes nothing.
    points = {(x, y): 1.0 + max(0, x - 10) for x in (0, 10, 20) for y in (0, 20)}
    points[2, 10] = 1.0
    values, outside = at(of(points, 2), (-10, 10), (26, 10))
    assert (values, outside) == ([1.0, 17.0], [True, True])


@pytest.mark.parametrize("points", [[(1, 1)], [(1, 1), (2, 2)], [(1, 1), (2, 2), (3, 3)], [(1, 5), (2, 5), (9, 5)]])
def test_points_in_line_are_no_plane(points: list[tuple[int, int]]) -> None:
    assert of(dict.fromkeys(points, 1.0), 2) is None


def test_more_than_two_parameters_follow_the_diagonal_but_exact_cells_win() -> None:
    # Sums 3, 30: value = sum / 3; one cell off the diagonal of its own value.
    found = of({(1, 1, 1): 1.0, (10, 10, 10): 10.0, (1, 1, 10): 5.0}, 3)
    values, outside = at(found, (1, 1, 1), (1, 1, 10), (1, 10, 1), (7, 7, 7), (20, 10, 10))
    assert values[:3] == [1.0, 5.0, 5.0]
    assert values[3] == 7.5  # between sums 12 (5.0) and 30 (10.0): 5 + 5 * 9 / 18
    assert outside == [False, False, False, False, True]
    assert of({(1, 2, 3): 1.0, (3, 2, 1): 1.0}, 3) is None


def test_scatter_without_scipy_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(NetadaptError, match="needs scipy"):
        of({(0, 0): 1.0, (10, 0): 2.0, (0, 10): 3.0}, 2)
