from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netadapt_trt.lut.layer_model import Evidence
from netadapt_trt.lut.trend import Trend, nonnegative, padded


def sizes(points: Any) -> Any:
    """A pointwise convolution on 8x8: multiply-accumulates, elements read, written, weights."""
    i, o = points[:, 0], points[:, 1]
    return np.stack([64 * i * o, 64 * i, 64 * o, i * o + o], axis=1).astype(float)


def made(points: Any, values: Any, alone: Any = None) -> Evidence:
    points = np.array(points, dtype=np.int64)
    alone = np.zeros(len(points), bool) if alone is None else np.array(alone)
    return Evidence(points=points, values=np.array(values, float), alone=alone, counts=np.ones(len(points), np.int64))


def test_padded_rounds_up_to_whole_blocks_but_leaves_images_alone() -> None:
    points = np.array([[1, 3], [4, 15], [16, 17], [24, 33]])
    assert padded(points, 16).tolist() == [[1, 3], [16, 16], [16, 32], [32, 48]]
    assert padded(points, 8).tolist() == [[1, 3], [8, 16], [16, 24], [24, 40]]
    assert padded(points, 1) is points


@pytest.mark.parametrize(
    ("matrix", "wanted", "x"),
    [
        ([[1, 0], [0, 1]], [2, -1], [2, 0]),
        ([[1, 1], [1, 2], [1, 3]], [1, 2, 3], [0, 1]),
        # Falling values: a rising line helps nobody, so their mean is left (its squares are 2, those of the best x2 6.9).
        ([[1, 1], [1, 2], [1, 3]], [3, 2, 1], [2, 0]),
        ([[1, 0], [0, 1]], [-1, -2], [0, 0]),
    ],
)
def test_nonnegative_by_hand(matrix: Any, wanted: Any, x: Any) -> None:
    np.testing.assert_allclose(nonnegative(np.array(matrix, float), np.array(wanted, float)), x, atol=1e-9)


def test_nonnegative_is_as_near_as_scipy_gets() -> None:
    nnls = pytest.importorskip("scipy.optimize").nnls
    draw = np.random.default_rng(4)
    for _ in range(30):
        matrix, wanted = draw.normal(size=(20, 7)), draw.normal(size=20)
        matrix[:, 3] = matrix[:, 2] * 1.5 if draw.random() < 0.3 else matrix[:, 3]  # two sizes that never differ
        found = nonnegative(matrix, wanted)
        assert (found >= 0).all()
        assert np.linalg.norm(matrix @ found - wanted) == pytest.approx(nnls(matrix, wanted)[1], rel=1e-6)


def test_trend_finds_prices_and_is_right_far_away() -> None:
    def cost(points: Any, alone: Any) -> Any:
        macs, read, written, _ = sizes(points).T
        return 0.02 + 1e-6 * macs + 3e-6 * read + alone * (0.05 + 2e-6 * (read + written))

    points = np.array([[i, o] for i in (8, 16, 32, 64) for o in (8, 24, 64)])
    alone = np.arange(len(points)) % 3 == 0
    trend = Trend(made(points, cost(points, alone), alone), sizes, 1)
    far = np.array([[4, 4], [512, 640], [8, 1024]])
    for flags in (np.zeros(3, bool), np.ones(3, bool)):
        np.testing.assert_allclose(trend.values(far, flags), cost(far, flags), rtol=1e-5)


def test_trend_counts_whole_blocks() -> None:
    points = np.array([[8 * i, 8 * o] for i in range(1, 9) for o in (2, 3, 5, 8)])
    values = 0.01 + 1e-6 * sizes(-(-points // 16) * 16)[:, 0]
    trend = Trend(made(points, values), sizes, 16)
    new = np.array([[17, 40], [32, 48], [72, 72]])
    np.testing.assert_allclose(trend.values(new, np.zeros(3, bool)), 0.01 + 64e-6 * np.array([32 * 48, 32 * 48, 80 * 80]))


def test_trend_never_falls_with_a_size() -> None:
    draw = np.random.default_rng(2)
    points = np.array([[i, o] for i in (8, 32, 64) for o in (8, 32, 64)])
    trend = Trend(made(points, draw.uniform(0.5, 2.0, size=9)), sizes, 1)  # noise and nothing else
    line = np.array([[width, 32] for width in range(1, 200)])
    values = trend.values(line, np.zeros(len(line), bool))
    assert (values > 0).all()
    assert (np.diff(values) >= 0).all()
