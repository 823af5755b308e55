from __future__ import annotations

import math

import pytest

from netadapt_trt.measure.stats import latency_stats, mape, odd_even_medians, quiet_median, repeatability, spearman


def test_latency_stats_interpolates_percentiles_between_samples() -> None:
    # Eleven samples 0, 10, ..., 100 out of order: rank p/100 * 10 falls on a sample.
    stats = latency_stats([50, 0, 100, 10, 90, 20, 80, 30, 70, 40, 60])
    assert (stats.median, stats.p10, stats.p90, stats.n) == (50, 10, 90, 11)
    # Four samples: rank of p10 is 0.3, so 1 + 0.3 * (2 - 1); of p90 2.7, so 3 + 0.7 * (10 - 3).
    stats = latency_stats([1, 2, 3, 10])
    assert stats.median == 2.5
    assert stats.p10 == pytest.approx(1.3)
    assert stats.p90 == pytest.approx(7.9)


def test_latency_stats_of_one_sample_is_that_sample() -> None:
    stats = latency_stats([0.25])
    assert (stats.median, stats.p10, stats.p90, stats.n) == (0.25, 0.25, 0.25, 1)


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf], [-0.1]])
def test_latency_stats_refuses_what_is_no_latency(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        latency_stats(samples)


def test_mape_is_the_mean_of_relative_errors() -> None:
    # 10 % too long and 30 % too short.
    assert mape([1.1, 1.4], [1.0, 2.0]) == pytest.approx(0.2)


@pytest.mark.parametrize(("estimates", "references"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_mape_refuses_lists_that_cannot_be_compared(estimates: list[float], references: list[float]) -> None:
    with pytest.raises(ValueError, match="reference"):
        mape(estimates, references)


def test_odd_even_medians_splits_first_third_fifth_from_second_fourth() -> None:
    # Of the odd rounds 1, 3, 2 the two quietest, 1 and 2; of the even ones both.
    assert odd_even_medians([1.0, 10.0, 3.0, 20.0, 2.0]) == (1.5, 15.0)
    with pytest.raises(ValueError, match="two rounds"):
        odd_even_medians([1.0])


def test_repeatability_averages_over_networks() -> None:
    # Odd over even: 1.1 and 0.96.
    assert repeatability([[1.1, 1.0, 1.1, 1.0], [2.4, 2.5]]) == pytest.approx((0.1 + 0.04) / 2)


def test_quiet_median_takes_the_quietest_third() -> None:
    # Nine rounds, half of them 1.3 times as slow: the third that counts is 1.0, 1.0, 1.1.
    assert quiet_median([1.3, 1.0, 1.35, 1.3, 1.1, 1.3, 1.0, 1.4, 1.2]) == 1.0
    # Two at least; of one round that one.
    assert quiet_median([2.0, 4.0, 1.0]) == 1.5
    assert quiet_median([3.0]) == 3.0
    with pytest.raises(ValueError, match="no rounds"):
        quiet_median([])


def test_spearman_compares_ranks_alone() -> None:
    assert spearman([1.0, 2.0, 3.0], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * (16 - 1)).
    assert spearman([1.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.2, 0.4]) == pytest.approx(0.8)
    # Two equal values share rank 1.5: deviations -0.5 -0.5 1 against -1 0 1 give 1.5 / sqrt(1.5 * 2).
    assert spearman([5.0, 5.0, 9.0], [1.0, 2.0, 3.0]) == pytest.approx(0.75**0.5)


def test_spearman_says_where_it_is_not_defined() -> None:
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 2.0], [3.0, 3.0]) is None
    with pytest.raises(ValueError, match="against"):
        spearman([1.0, 2.0], [1.0])
