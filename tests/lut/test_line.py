from __future__ import annotations

import numpy as np
import pytest

from netadapt_trt.lut.line import Line


def at(line: Line, total: float) -> float:
    return float(line.values(np.array([total]))[0])


def test_first_measurement_scales_all_sums() -> None:
    line = Line()
    line.follow(10.0, 5.0)
    assert (line.scale, line.offset) == (0.5, 0.0)
    assert at(line, 8.0) == 4.0


def test_line_goes_through_the_newest_and_leans_towards_what_steps_saved() -> None:
    line = Line()
    line.follow(10.0, 10.0)
    # A step of 0.5, as much as the table's slope counts for, saved 1.0: halfway between slopes 1 and 2.
    line.follow(9.5, 9.0)
    assert line.scale == pytest.approx(1.5)
    assert at(line, 9.5) == pytest.approx(9.0)
    assert at(line, 9.0) == pytest.approx(8.25)
    # The next saved as its slope said; the older step counts 0.7: (0.25 + 0.7 * 0.5 + 0.375) / (0.25 + 0.7 * 0.25 + 0.25).
    line.follow(9.0, 8.25)
    assert line.scale == pytest.approx(0.975 / 0.675)
    assert at(line, 9.0) == pytest.approx(8.25)


def test_measuring_the_same_network_again_moves_the_line_only() -> None:
    line = Line()
    line.follow(10.0, 10.0)
    line.follow(10.0, 11.0)
    assert line.scale == pytest.approx(1.0)
    assert at(line, 9.0) == pytest.approx(10.0)


@pytest.mark.parametrize(("measured", "scale"), [(-20.0, 3.0), (30.0, 1 / 3)])
def test_slopes_beyond_belief_are_noise(measured: float, scale: float) -> None:
    line = Line()
    line.follow(10.0, 10.0)
    line.follow(8.0, measured)
    assert line.scale == pytest.approx(scale)


def test_fit_takes_off_what_lone_calls_cost() -> None:
    line = Line()
    sums = np.array([20.0, 16.0, 12.0, 8.0])
    line.fit(sums, 2.0 * (sums - 4.0))
    assert line.offset == pytest.approx(-4.0)
    line.follow(20.0, 32.0)
    assert line.scale == pytest.approx(2.0)
    assert at(line, 10.0) == pytest.approx(12.0)


def test_values_never_cross_zero() -> None:
    line = Line()
    sums = np.array([20.0, 18.0, 16.0, 15.0])
    line.fit(sums, sums - 14.0)
    line.follow(20.0, 6.0)
    assert at(line, 10.0) == pytest.approx(0.02 * 10.0)
