"""tools/bench_table_curve.py and the models that hear kindred layers, on a table of a known function."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netadapt_trt.lut.layer_model import Evidence, Kin, LayerModel, Manner
from netadapt_trt.lut.trend import Trend


def _load() -> Any:
    path = Path(__file__).parents[2] / "tools" / "bench_table_curve.py"
    spec = importlib.util.spec_from_file_location("bench_table_curve", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tool = _load()
POINTS = np.array([(a, b) for a in (8, 16, 32, 64) for b in (8, 32, 128)])


def _key(picture: int) -> str:
    return f"x0[1,a,{picture},{picture}] Conv(x0 [b,a,1,1] [b])=y0"


def _milliseconds(picture: int, points: np.ndarray) -> np.ndarray:
    """A call of 0.01 ms, 1e-6 ms a multiply-accumulate, and kernels that take half as long from 64 channels on."""
    macs = picture**2 * points[:, 0] * points[:, 1]
    return np.asarray((0.01 + 1e-6 * macs) * np.where(points[:, 1] > 64, 0.5, 1.0))


def _cells(picture: int) -> Any:
    return tool.Cells(_key(picture), POINTS, _milliseconds(picture, POINTS))


def _evidence(picture: int, used: slice) -> Evidence:
    points = POINTS[used]
    return Evidence(
        points=points,
        values=_milliseconds(picture, points),
        alone=np.ones(len(points), dtype=bool),
        counts=np.ones(len(points), dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("key", "widths", "expected"),
    [
        # 2 x 4 x 4 results of 3 x 9 products, 5 times, and the residual sum reads as many as it writes.
        (
            "x0[2,a,8,8] x1[2,b,4,4] Conv(x0 [b,a,3,3] [b] pads=1,1,1,1 strides=2,2)=y0 Add(y0 x1)=y1",
            (3, 5),
            (4320, 384 + 160, 160, 140),
        ),
        # Depthwise: 4 x 4 results of 9 products, 4 times.
        ("x0[1,a,6,6] Conv(x0 [a,1,3,3] [a] group=a)=y0", (4,), (576, 144, 64, 40)),
    ],
)
def test_sizes_are_read_off_the_key(key: str, widths: tuple[int, ...], expected: tuple[int, ...]) -> None:
    cells = tool.Cells(key, np.array([widths]), np.ones(1))
    assert cells.sizes(np.array([widths])).tolist() == [list(expected)]


def test_family_leaves_the_picture_out_and_nothing_else() -> None:
    assert _cells(7).family == _cells(14).family == "x0[1,a] Conv(x0 [b,a,1,1] [b])=y0"
    assert (_cells(7).picture, _cells(14).picture) == (7, 14)
    assert tool.Cells(_key(7).replace("1,1]", "3,3]"), POINTS, np.ones(12)).family != _cells(7).family


@pytest.mark.parametrize(("fraction", "count"), [(0.05, 4), (0.5, 6), (0.99, 10)])
def test_used_cells_are_a_share_and_the_same_for_a_seed(fraction: float, count: int) -> None:
    used = tool.used_of(_cells(7), fraction, 1)
    assert used.sum() == count
    assert (used == tool.used_of(_cells(7), fraction, 1)).all()
    assert any((used != tool.used_of(_cells(7), fraction, seed)).any() for seed in range(2, 6))


def test_linear_is_exact_on_a_plane_and_takes_the_nearest_outside() -> None:
    corners = np.array([(0, 0), (0, 10), (10, 0), (10, 10)])
    values = 1.0 + 2 * corners[:, 0] + 3 * corners[:, 1]
    said = tool.linear(corners, values, np.array([(4, 5), (30, 11)]))
    assert said == pytest.approx([24, 51])
    assert tool.linear(np.array([(1,), (3,)]), np.array([1.0, 5.0]), np.array([(2,), (9,)])) == pytest.approx([3, 5])


def test_cubic_goes_through_the_cells_and_stays_positive() -> None:
    values = _milliseconds(7, POINTS)
    for options in ({}, {"logarithms": True}, {"plane": True}, {"logarithms": True, "plane": True}):
        assert tool.cubic(POINTS, values, POINTS, **options) == pytest.approx(values, rel=1e-6)
    far = tool.cubic(POINTS, values, np.array([(1, 4000), (4000, 1)]))
    assert (far >= 0.01 * values.min()).all()


def test_points_on_one_line_are_no_obstacle() -> None:
    line = np.array([(8, 8), (16, 16), (32, 32), (64, 64)])
    for method in tool.INTERPOLATIONS.values():
        assert np.isfinite(method(line, np.array([1.0, 2.0, 3.0, 4.0]), np.array([(8, 64)]))).all()


def test_figures_average_over_layers() -> None:
    # Means .2, .5, .4; all cells in order .1 .1 .2 .3 .5 .9.
    errors = [np.array([0.1, 0.3]), np.array([0.5]), np.array([0.9, 0.1, 0.2])]
    assert tool.figures(errors) == {"mean": 0.36667, "median": 0.4, "cell": 0.25}


def test_kin_tell_of_a_kernel_that_a_layer_has_not_shown() -> None:
    """The layer has cells below 64 channels only; its kin know that kernels change above."""
    own = Evidence(
        points=POINTS[POINTS[:, 1] < 64],
        values=_milliseconds(14, POINTS[POINTS[:, 1] < 64]),
        alone=np.ones(8, dtype=bool),
        counts=np.ones(8, dtype=np.int64),
    )
    kin = [
        Kin(evidence=_evidence(size, slice(None)), sizes=_cells(size).sizes, away=float(np.log2(size / 14)))
        for size in (7, 28)
    ]
    manner, asked = Manner(spread=0.4, noise=0.01, reach=1.0), POINTS[POINTS[:, 1] > 64]
    errors = [
        np.abs(
            LayerModel(own, Trend(own, _cells(14).sizes, 1, heard), manner, heard).values(asked) / _milliseconds(14, asked)
            - 1
        ).mean()
        for heard in ([], kin)
    ]
    assert errors[0] > 0.5
    assert errors[1] < 0.25


def test_kin_far_away_change_nothing() -> None:
    own, far = _evidence(14, slice(0, 8)), Kin(evidence=_evidence(28, slice(None)), sizes=_cells(28).sizes, away=60.0)
    manner = Manner(spread=0.4, noise=0.01)
    without = LayerModel(own, Trend(own, _cells(14).sizes, 1), manner)
    beside = LayerModel(own, Trend(own, _cells(14).sizes, 1, [far]), manner, [far])
    assert beside.values(POINTS) == pytest.approx(without.values(POINTS), rel=1e-6)
    assert beside.uncertainty(POINTS) == pytest.approx(without.uncertainty(POINTS), rel=1e-6)
    assert beside.without_each() == pytest.approx(without.without_each(), rel=1e-6)


def test_curve_of_a_small_table(tmp_path: Path) -> None:
    identity = {"backend": "trt", "device": "d", "runtime": "tensorrt", "runtime_version": "1", "provider": "gpu"}
    identity |= {"precision": "fp16", "recipe": "none"}
    lines: list[dict[str, Any]] = [
        {"format": "netadapt-lut", "version": 1, "identity": {**identity, "batch": 1, "threads": 1}},
        {"type": "session", "id": "s", "date": "2026-01-01", "settings": {}},
    ]
    for picture in (7, 14, 28):
        for point, value in zip(POINTS.tolist(), _milliseconds(picture, POINTS).tolist(), strict=True):
            told = {"median": value, "p10": value, "p90": value, "n": 1}
            lines.append({
                "type": "cell", "layer": _key(picture), "widths": point, "context": "isolated", "latency_ms": told,
                "flags": [], "session": "s",
            })  # fmt: skip
    table = tmp_path / "small.lut.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    taken = tool.take(table, (0.5, 0.8), (1,))
    assert [(entry["layers"], entry["cells"], entry["fraction"]) for entry in taken] == [(3, 36, 0.5), (3, 36, 0.8)]
    curves = tool.averaged(taken, "mean")
    assert curves["layer model"][0.5] < min(curves[name][0.5] for name in tool.INTERPOLATIONS)
    assert curves["layer model"][0.8] < min(curves["linear"][0.8], curves["cubic RBF (reference)"][0.8])
    assert curves["linear"][0.5] == taken[0]["methods"]["linear"]["mean"]
    shown = tool.markdown(taken)
    assert "50 % used | 80 % used" in shown
    assert f"**{100 * curves['layer model'][0.5]:.1f}**" in shown
    assert tool.svg(curves).count("<polyline") == len(tool.SHOWN)
