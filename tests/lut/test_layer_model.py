from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netadapt_trt.lut.layer_model import Evidence, LayerModel, Manner
from netadapt_trt.lut.trend import Trend

NOISE, SURE, SPREAD = 0.01, 0.002, 0.2
MANNER = Manner(reach=1.5, spread=SPREAD, noise=NOISE, kinship=0.5, block=1, apart=0.3)


class Flat:
    """A trend of one millisecond anywhere, so that what is measured is the deviation."""

    def values(self, points: Any, _: Any) -> Any:
        return np.ones(len(points))


def sizes(points: Any) -> Any:
    (i,) = points.T
    return np.stack([640 * i, 64 * i, 0 * i + 640, 10 * i], axis=1).astype(float)


def made(points: list[int], values: Any, alone: Any = None, counts: Any = None) -> Evidence:
    n = len(points)
    return Evidence(
        points=np.array(points, dtype=np.int64).reshape(n, 1),
        values=np.array(values, float),
        alone=np.zeros(n, bool) if alone is None else np.array(alone, bool),
        counts=np.ones(n, np.int64) if counts is None else np.array(counts, np.int64),
    )


def model(evidence: Evidence, manner: Manner = MANNER, trend: Any = None) -> LayerModel:
    flat: Any = Flat()
    return LayerModel(evidence, trend or flat, manner)


def at(*widths: int) -> Any:
    return np.array(widths, dtype=np.int64).reshape(-1, 1)


def matern(doublings: float, reach: float = 1.5) -> float:
    distance = np.sqrt(3.0) * doublings / reach
    return float((1 + distance) * np.exp(-distance))


def test_one_measurement_by_hand() -> None:
    one = model(made([32], [1.3]))
    variance = SPREAD**2 + NOISE**2 + SURE**2
    for width, doublings in ((32, 0), (64, 1), (8, 2)):
        heard = SPREAD**2 * matern(doublings)
        assert one.values(at(width))[0] == pytest.approx(1.3 ** (heard / variance))
        assert one.uncertainty(at(width))[0] == pytest.approx(np.sqrt(SPREAD**2 - heard**2 / variance + SURE**2))
    # Density of one normal deviate.
    wanted = -0.5 * np.log(1.3) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    assert one.log_likelihood == pytest.approx(wanted)


def test_often_measured_points_are_believed_more() -> None:
    wild = Manner(reach=1.0, spread=0.1, noise=0.1)
    once, often = (model(made([32], [1.3], counts=[count]), wild).values(at(32))[0] for count in (1, 50))
    assert once < 1.15 < 1.29 < often < 1.3


def test_dense_measurements_are_followed_and_far_away_the_trend_is_left() -> None:
    points = list(range(8, 129, 4))
    values = [(0.1 + width / 100) * (1 + 0.15 * np.sin(3 * np.log2(width))) for width in points]
    evidence = made(points, values)
    trend = Trend(evidence, sizes, 1)
    found = model(evidence, trend=trend)
    assert np.abs(trend.values(evidence.points, evidence.alone) / values - 1).max() > 0.1
    np.testing.assert_allclose(found.values(at(*points)), values, rtol=0.02)
    far = at(1 << 14, 1 << 18)
    np.testing.assert_allclose(found.values(far), trend.values(far, np.zeros(2, bool)), rtol=0.01)
    np.testing.assert_allclose(found.uncertainty(far), SPREAD, rtol=0.01)
    unsure = found.uncertainty(at(128, 160, 192, 256, 512, 2048, 1 << 14))
    assert (np.diff(unsure) > 0).all()
    assert unsure[0] < 0.05


def test_without_each_is_a_refit_without_that_point() -> None:
    draw = np.random.default_rng(1)
    points, alone = [8, 16, 24, 32, 48, 64, 96, 8, 64], [False] * 7 + [True] * 2
    evidence = made(points, draw.lognormal(0, 0.1, size=9), alone)
    trend = Trend(evidence, sizes, 1)
    manner = Manner(reach=1.0, spread=0.1, noise=0.03, kinship=0.6, block=16, apart=0.7)
    said = model(evidence, manner, trend).without_each()
    for index in range(7):
        keep = np.arange(9) != index
        rest = Evidence(
            points=evidence.points[keep],
            values=evidence.values[keep],
            alone=evidence.alone[keep],
            counts=evidence.counts[keep],
        )
        assert said[index] == pytest.approx(model(rest, manner, trend).values(at(points[index]))[0], rel=1e-9)


def test_without_each_keeps_only_what_was_measured_often() -> None:
    evidence = made([8, 64, 512], [1.3, 0.9, 1.1], counts=[5, 1, 4])
    found = model(evidence)
    said = found.without_each()
    assert said[0] == pytest.approx(found.values(at(8))[0])
    assert said[1] == pytest.approx(model(made([8, 512], [1.3, 1.1], counts=[5, 4])).values(at(64))[0])
    # Four repetitions are left out together: each has a quarter of their mean.
    assert said[2] == pytest.approx(model(made([8, 64], [1.3, 0.9], counts=[5, 1])).values(at(512))[0])


def test_layers_alone_pay_a_call_of_their_own() -> None:
    def inside(width: int) -> float:
        return 0.05 + 0.002 * width

    seen, lone = [16, 32, 64, 96, 128], [8, 24, 48, 128]
    values = [inside(width) for width in seen] + [inside(width) + 0.2 + 64e-5 * (width + 10) for width in lone]
    evidence = made(seen + lone, values, [False] * 5 + [True] * 4)
    found = model(evidence, trend=Trend(evidence, sizes, 1))
    assert found.values(at(8, 24, 80))[:3] == pytest.approx([inside(8), inside(24), inside(80)], rel=1e-3)
    # Never seen inside a network, what it costs alone is what can be said.
    only = made(lone, values[5:], [True] * 4)
    assert only.only_alone
    assert model(only, trend=Trend(only, sizes, 1)).values(at(24))[0] == pytest.approx(values[6], rel=1e-3)


def test_a_deviation_alone_counts_less_inside() -> None:
    # The trend is right inside; alone the layer is 30 % above it at 32. Kinship 0.5 halves what is heard of it.
    evidence = made([4096, 32], [1.0, 1.3], [False, True])
    variance = SPREAD**2 + NOISE**2 + SURE**2
    assert model(evidence).values(at(32))[0] == pytest.approx(1.3 ** (0.5 * SPREAD**2 / variance), rel=1e-3)


def test_whole_blocks_and_others_are_kept_apart() -> None:
    blocks = Manner(reach=1.5, spread=SPREAD, noise=NOISE, block=16, apart=0.3)
    plain, apart = (np.log(model(made([32], [1.3]), manner).values(at(48, 40, 33, 8))) for manner in (MANNER, blocks))
    # 48 is of whole blocks as 32 is; 40 and 33 are not; 8 is below one.
    np.testing.assert_allclose(apart / plain, [1.0, 0.3, 0.3, 0.3])
    others = np.log(model(made([40], [1.3]), blocks).values(at(56, 48, 8)))
    free = np.log(model(made([40], [1.3])).values(at(56, 48, 8)))
    np.testing.assert_allclose(others / free, [1.0, 0.3, 0.3])


def test_outside_is_beyond_what_was_measured() -> None:
    found = model(made([16, 64], [1.0, 1.0]))
    assert found.outside(at(8, 16, 40, 64, 65)).tolist() == [True, False, False, False, True]
