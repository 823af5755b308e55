from __future__ import annotations

import pytest

from netadapt_trt.plan.reshape import matched, relative_shape


def test_axes_are_matched_in_runs_of_equal_product() -> None:
    assert matched((2, 16, 8, 8), (2, 2, 8, 8, 8)) == [([0], [0]), ([1], [1, 2]), ([2], [3]), ([3], [4])]
    # Sizes of one hold nothing: the batch goes with the channels.
    assert matched((1, 6, 4, 4), (6, 16)) == [([1], [0]), ([2, 3], [1])]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # A shuffle's views: the row of channels is the rest, though maps are as high as a row is long.
        ((1, 16, 8, 8), (1, 2, 8, 8, 8), (0, 2, -1, 8, 8)),
        ((1, 8, 2, 8, 8), (1, 16, 8, 8), (0, -1, 8, 8)),
        ((1, 8, 2, 2, 2), (1, 16, 2, 2), (0, -1, 2, 2)),
        ((4, 12), (4, 3, 4), (0, 3, -1)),
        # One new size is the rest; nothing else is counted.
        ((1, 12, 8, 8), (1, 12, 64), (0, 0, -1)),
        ((1, 12, 1, 1), (1, 12), (0, 0)),
        ((1, 12), (1, 12, 1, 1), (0, 0, 1, 1)),
        # Pictures out of tokens: two sizes are new, neither of them channels.
        ((1, 12, 64), (1, 12, 8, 8), (0, 0, 8, 8)),
    ],
)
def test_target_counts_no_channels_where_it_need_not(
    before: tuple[int, ...], after: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert relative_shape(before, after) == expected
