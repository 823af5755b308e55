from __future__ import annotations

import numpy as np
import pytest

from netadapt_trt.adapt.width_search import candidate_widths, search_width
from netadapt_trt.errors import SpecError


def test_candidate_widths_are_multiples_below_the_current_width() -> None:
    assert candidate_widths(32, 8).tolist() == [8, 16, 24]
    assert candidate_widths(20, 8).tolist() == [8, 16]
    assert candidate_widths(8, 8).tolist() == []


def test_scan_takes_the_widest_that_fits_and_counts_looks() -> None:
    curve = np.array([1.0, 2.0, 1.5, 4.0])
    found = search_width(curve, 1.7, "scan")
    assert (found.index, found.evaluations) == (2, 2)


def test_search_reports_none_when_nothing_fits() -> None:
    curve = np.array([3.0, 4.0])
    for method in ("scan", "binary", "envelope"):
        assert search_width(curve, 2.0, method).index is None
    assert search_width(np.array([]), 2.0).index is None


def test_search_takes_a_value_equal_to_the_target() -> None:
    curve = np.array([0.1, 0.2, 0.30000000000000004])
    for method in ("scan", "binary", "envelope"):
        assert search_width(curve, 0.2, method).index == 1


def test_binary_finds_the_widest_on_a_monotone_curve_with_few_looks() -> None:
    curve = np.arange(1000, dtype=float)
    found = search_width(curve, 612.5, "binary")
    assert found.index == 612
    assert found.evaluations <= 6 + 16  # log2(1000 / 16) halvings, then a scan of at most 16


def test_binary_may_miss_where_envelope_does_not() -> None:
    curve = np.full(64, 10.0)
    curve[:8] = 1.0
    curve[60] = 1.0
    assert search_width(curve, 5.0, "envelope").index == 60
    assert search_width(curve, 5.0, "binary").index == 7


def test_envelope_equals_scan_on_any_table() -> None:
    draw = np.random.default_rng(7)
    for _ in range(2000):
        size = int(draw.integers(0, 40))
        curve = np.round(draw.uniform(0, 1, size), int(draw.integers(1, 4)))
        target = float(np.round(draw.uniform(-0.1, 1.1), 2))
        assert search_width(curve, target, "envelope").index == search_width(curve, target, "scan").index


def test_search_refuses_an_unknown_method() -> None:
    with pytest.raises(SpecError, match="unknown width search"):
        search_width(np.array([1.0]), 1.0, "guess")  # type: ignore[arg-type]
