"""Values between measured points, from arrays: along a line, on a full grid, among scattered points of a plane.

Every surface is built once and then evaluated for many points at a time. All return the values and a mask of the points
that lie outside what was measured. Measured values pass through unchanged; extrapolated ones stay positive.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from netadapt_trt.errors import NetadaptError

__all__ = ["Grid", "Line", "Point", "Scatter", "Surface", "surface"]

_FLOOR = 0.01
"""Extrapolation stops at this share of the smallest measured value: a straight line would cross zero somewhere."""


class Surface(Protocol):
    """Something that estimates between points."""

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``points`` [n, parameters] -> (values [n], True where outside the measured region [n])."""


class Point:
    """The one value of a layer that no width changes."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The value, for every point."""
        return np.full(len(points), self._value), np.zeros(len(points), dtype=bool)


class Line:
    """Piecewise linear over one coordinate [n]; beyond the ends straight on from the last two points."""

    def __init__(self, xs: np.ndarray, values: np.ndarray) -> None:
        order = np.argsort(xs, kind="stable")
        self._xs, self._values = xs[order].astype(float), values[order]
        self._floor = _FLOOR * values.min()

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes as :class:`Surface`; ``points`` may also be [n]."""
        x = points.reshape(len(points)).astype(float)
        xs, values = self._xs, self._values
        result = np.interp(x, xs, values)
        below, above = x < xs[0], x > xs[-1]
        outside: np.ndarray = below | above
        if len(xs) > 1 and outside.any():
            first = values[0] + (values[1] - values[0]) / (xs[1] - xs[0]) * (x - xs[0])
            last = values[-1] + (values[-1] - values[-2]) / (xs[-1] - xs[-2]) * (x - xs[-1])
            result = np.where(below, first, np.where(above, last, result))
            result = np.where(outside, np.maximum(result, self._floor), result)
        return result, outside


class Grid:
    """Bilinear on a full grid, ``values`` [len(xs), len(ys)]; beyond the edges the outer cells go straight on."""

    def __init__(self, xs: np.ndarray, ys: np.ndarray, values: np.ndarray) -> None:
        self._xs, self._ys, self._values = xs.astype(float), ys.astype(float), values
        self._floor = _FLOOR * values.min()

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes as :class:`Surface`."""
        i, t, out_x = _cell(self._xs, points[:, 0])
        j, u, out_y = _cell(self._ys, points[:, 1])
        v = self._values
        low = v[i, j] * (1 - u) + v[i, j + 1] * u
        high = v[i + 1, j] * (1 - u) + v[i + 1, j + 1] * u
        result = low * (1 - t) + high * t
        outside: np.ndarray = out_x | out_y
        return np.where(outside, np.maximum(result, self._floor), result), outside


def _cell(edges: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the interval of each x, the place in it (0 to 1 inside), and whether x is beyond the edges."""
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    place = (x - edges[index]) / (edges[index + 1] - edges[index])
    return index, place, (x < edges[0]) | (x > edges[-1])


class Scatter:
    """Linear on the triangles between scattered points [n, 2]; outside, the plane of the triangle at the nearest edge."""

    def __init__(self, points: np.ndarray, values: np.ndarray) -> None:
        try:
            from scipy.spatial import Delaunay
        except ImportError as error:
            raise NetadaptError(
                "this LUT holds an incomplete grid of widths, and estimating between scattered cells needs scipy; "
                "run profile to its end, or: pip install scipy"
            ) from error
        self._origin = points.min(axis=0).astype(float)
        self._span = np.maximum(points.max(axis=0) - self._origin, 1.0)
        at = self._scaled(points)
        self._triangles = Delaunay(at)
        corners = self._triangles.simplices
        matrix = np.concatenate([at[corners], np.ones((len(corners), 3, 1))], axis=2)
        # The pseudo-inverse survives the flat triangles that points on one edge can leave behind.
        self._planes = np.einsum("sij,sj->si", np.linalg.pinv(matrix), values[corners])
        owner, missing = np.nonzero(self._triangles.neighbors < 0)
        self._edge_owner = owner
        self._edge_start = at[corners[owner, (missing + 1) % 3]]
        self._edge = at[corners[owner, (missing + 2) % 3]] - self._edge_start
        self._floor = _FLOOR * values.min()
        self._exact = {(int(x), int(y)): float(value) for (x, y), value in zip(points, values, strict=True)}

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((points - self._origin) / self._span)

    def _nearest_edge(self, at: np.ndarray) -> np.ndarray:
        """The triangle whose outer edge is nearest to each point [n]."""
        offset = at[:, None, :] - self._edge_start
        length = np.maximum((self._edge**2).sum(axis=1), 1e-300)
        along = np.clip((offset * self._edge).sum(axis=2) / length, 0.0, 1.0)
        distance = ((offset - along[:, :, None] * self._edge) ** 2).sum(axis=2)
        return np.asarray(self._edge_owner[distance.argmin(axis=1)])

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes as :class:`Surface`."""
        at = self._scaled(points)
        triangle = np.asarray(self._triangles.find_simplex(at, tol=1e-9))
        outside = triangle < 0
        if outside.any():
            triangle = triangle.copy()
            triangle[outside] = self._nearest_edge(at[outside])
        plane = self._planes[triangle]
        result = plane[:, 0] * at[:, 0] + plane[:, 1] * at[:, 1] + plane[:, 2]
        result = np.maximum(result, self._floor)
        _put_exact(self._exact, points, result, outside)
        return result, outside


class _Diagonal:
    """More than two parameters: a line over the summed widths, that is over the fraction of the full widths.

    Each parameter weighs in with its size. Such layers are concatenations, whose cost follows the channels they move.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray) -> None:
        totals, place = np.unique(points.sum(axis=1), return_inverse=True)
        self._line = Line(totals, np.bincount(place, weights=values) / np.bincount(place))
        self._exact = {tuple(int(x) for x in point): float(value) for point, value in zip(points, values, strict=True)}

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes as :class:`Surface`."""
        result, outside = self._line(points.sum(axis=1))
        _put_exact(self._exact, points, result, outside)
        return result, outside


def _put_exact(
    exact: dict[tuple[int, int], float] | dict[tuple[int, ...], float],
    points: np.ndarray,
    values: np.ndarray,
    outside: np.ndarray,
) -> None:
    known: dict[tuple[int, ...], float] = exact  # type: ignore[assignment]
    for row, point in enumerate(points.tolist()):
        value = known.get(tuple(point))
        if value is not None:
            values[row], outside[row] = value, False


def surface(points: np.ndarray, values: np.ndarray) -> Surface | None:
    """The surface through integer ``points`` [n, parameters] with ``values`` [n]; None when they are too few for one.

    A line needs two points, a plane a full grid or three points that are not in line, more parameters two points of
    different size.
    """
    if not len(points):
        return None
    count = points.shape[1]
    if count == 0:
        return Point(float(values[-1]))
    if count == 1:
        return Line(points[:, 0], values) if len(points) > 1 else None
    if count > 2:
        return _Diagonal(points, values) if len(np.unique(points.sum(axis=1))) > 1 else None
    xs, ys = np.unique(points[:, 0]), np.unique(points[:, 1])
    if len(xs) < 2 or len(ys) < 2:
        return None
    if len(points) == len(xs) * len(ys):
        table = np.empty((len(xs), len(ys)))
        table[np.searchsorted(xs, points[:, 0]), np.searchsorted(ys, points[:, 1])] = values
        return Grid(xs, ys, table)
    spread = points - points[0]
    if np.linalg.matrix_rank(spread) < 2:
        return None
    return Scatter(points, values)
