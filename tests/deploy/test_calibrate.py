from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest

from netadapt_trt.deploy.calibrate import activation_ranges, entropy_threshold, percentile_threshold
from netadapt_trt.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("onnxruntime")

MODEL = onnx.parser.parse_model(
    """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3] x) => (float[2,3] y) <float two = {2}>
    { d = Mul (x, two)  r = Relu (d)  y = Neg (r) }
    """
)
TENSORS = ["x", "d", "r", "y"]


class Batches:
    """The same arrays each time they are asked for; counts how often."""

    def __init__(self, *arrays: list[list[float]]) -> None:
        self.arrays = [np.array(array, np.float32) for array in arrays]
        self.passes = 0

    def __call__(self) -> Iterator[np.ndarray]:
        self.passes += 1
        yield from self.arrays


def test_minmax_covers_all_batches_by_hand() -> None:
    batches = Batches([[1, 2, 3], [0, 0, 0]], [[-5, 0, 0], [0, 0, 1]])
    ranges = activation_ranges(MODEL, TENSORS, batches)
    assert ranges == {"x": (-5, 3), "d": (-10, 6), "r": (0, 6), "y": (-6, 0)}
    assert batches.passes == 1


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_wild_value_saturates(method: str) -> None:
    values = np.random.default_rng(0).standard_normal((4000, 2, 3)).astype(np.float32)
    values[17, 0, 0] = 100.0
    batches = Batches()
    batches.arrays = list(values)
    ranges = activation_ranges(MODEL, TENSORS, batches, method=method)  # type: ignore[arg-type]
    assert batches.passes == 2
    low, high = ranges["x"]
    # 2048 bins over 0 to 100: the threshold is a bin's end within what a normal distribution reaches, for both signs.
    assert 2.0 < high < 8.0
    assert low == pytest.approx(values.min()) or low == -high
    assert ranges["r"][0] == 0
    assert ranges["r"][1] == pytest.approx(2 * high, rel=0.5)


def test_percentile_counts_bins_by_hand() -> None:
    histogram = np.zeros(10, np.int64)
    histogram[[0, 3, 9]] = [9000, 999, 1]
    assert percentile_threshold(histogram, 0.9) == 1  # 9000 of 10000 lie in the first bin
    assert percentile_threshold(histogram, 0.95) == 4
    assert percentile_threshold(histogram, 0.9999) == 4
    assert percentile_threshold(histogram, 1.0) == 10
    assert percentile_threshold(np.zeros(10, np.int64)) == 10


def test_entropy_keeps_an_even_spread_whole() -> None:
    assert entropy_threshold(np.full(2048, 50)) == 2048
    assert entropy_threshold(np.zeros(2048, np.int64)) == 2048


def test_entropy_cuts_off_a_far_value() -> None:
    """A normal distribution of 200 bins deviation, which ends near bin 960 (4.8 deviations), and one value far out."""
    histogram = np.round(1e5 * np.exp(-((np.arange(2048) / 200) ** 2) / 2)).astype(np.int64)
    histogram[2047] = 1
    assert 600 <= entropy_threshold(histogram) <= 1000


def test_entropy_does_not_hide_the_tail_in_a_spike() -> None:
    """A spike that takes in everything beyond it changes little in relation to itself."""
    histogram = np.zeros(2048, np.int64)
    histogram[:200] = 100
    histogram[200] = 100_000
    histogram[201:1800] = 12
    assert entropy_threshold(histogram) >= 1790


def test_activations_of_zeros_have_a_range_of_zero() -> None:
    for method in ("minmax", "percentile", "entropy"):
        ranges = activation_ranges(MODEL, TENSORS, Batches([[0, 0, 0], [0, 0, 0]]), method=method)
        assert set(ranges.values()) == {(0.0, 0.0)}


def test_calibration_refuses_what_says_nothing() -> None:
    with pytest.raises(SpecError, match="unknown calibration 'mean'; known: minmax, percentile, entropy"):
        activation_ranges(MODEL, TENSORS, Batches([[0] * 3] * 2), method="mean")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no calibration data"):
        activation_ranges(MODEL, TENSORS, Batches())
    with pytest.raises(DataError, match="x is not finite"):
        activation_ranges(MODEL, TENSORS, Batches([[float("nan"), 0, 0], [0, 0, 0]]))
    with pytest.raises(DataError, match="d is not finite"):
        activation_ranges(MODEL, TENSORS, Batches([[3e38, 0, 0], [0, 0, 0]]))
