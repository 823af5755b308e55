"""Traces hold whole rows of finite numbers at rising times, or they are not made."""

from __future__ import annotations

import numpy as np
import pytest

from netadapt_trt.power.trace import Trace

TIMES = np.array([0.0, 1.0, 2.0])


def test_trace_gives_rails_totals_and_windows() -> None:
    power = np.array([[9000.0, 100.0, 50.0], [9100.0, 200.0, 50.0], [9200.0, 300.0, 50.0]])
    trace = Trace(TIMES, ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), power)
    assert len(trace) == 3
    assert trace.rail("VDD_CPU_GPU_CV").tolist() == [100.0, 200.0, 300.0]
    total = trace.total_mw()
    assert total is not None
    assert total.tolist() == [9000.0, 9100.0, 9200.0]
    part = trace.window(0.5, 2.0)  # both ends belong to it
    assert part.times_s.tolist() == [1.0, 2.0]
    assert part.power_mw.tolist() == power[1:].tolist()
    assert len(trace.window(5.0, 6.0)) == 0


def test_trace_of_unknown_rails_has_no_total() -> None:
    assert Trace(TIMES, ("x",), np.ones((3, 1))).total_mw() is None


def test_trace_a_rail_that_was_not_recorded_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="VDD_Y"):
        Trace(TIMES, ("x",), np.ones((3, 1))).rail("VDD_Y")


@pytest.mark.parametrize(
    ("times", "rails", "power", "words"),
    [
        ([0.0, 1.0, 1.0], ("x",), np.ones((3, 1)), "rise"),
        ([0.0, 1.0, 2.0], ("x",), np.ones((3, 2)), "shape"),
        ([0.0, 1.0, 2.0], ("x", "x"), np.ones((3, 2)), "twice"),
        ([0.0, 1.0, np.nan], ("x",), np.ones((3, 1)), "finite"),
        ([0.0, 1.0, 2.0], ("x",), np.array([[1.0], [np.inf], [1.0]]), "finite"),
        ([[0.0]], ("x",), np.ones((1, 1)), "shape"),
    ],
)
def test_trace_refuses_what_nobody_could_integrate(times: object, rails: tuple[str, ...], power: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Trace(np.array(times), rails, np.array(power))
