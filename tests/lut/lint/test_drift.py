from __future__ import annotations

from typing import Any

import pytest

from netadapt_trt.lut.lint.drift import drifting_networks, drifting_references, movement


def test_movement_tells_a_trend_from_scatter() -> None:
    rising = movement([1.00, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06])
    assert rising.drifts
    assert rising.trend == pytest.approx(0.06 / 1.03)
    # The same values shuffled: nothing moves in one direction, and none is far from the middle.
    assert not movement([1.03, 1.00, 1.06, 1.01, 1.05, 1.02, 1.04]).remarkable
    # One bad value at the end is no trend.
    spiked = movement([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5])
    assert (spiked.drifts, spiked.off) == (False, 1)
    assert spiked.scatter == pytest.approx(0.5)


def test_movement_of_two_values_is_their_ratio() -> None:
    assert movement([1.0, 1.3]).scatter == pytest.approx(0.3)
    assert not movement([1.0, 1.09]).remarkable


def test_movement_of_a_long_series_is_bounded_work() -> None:
    found = movement([1.0 + 0.0001 * step for step in range(20000)])
    assert (found.drifts, found.n) == (True, 20000)
    assert found.trend == pytest.approx(2.0 / 2.0, rel=1e-3)


def test_drifting_references_say_drifts_or_scatters(table: Any) -> None:
    table.references([1.0, 1.02, 1.04, 1.06, 1.08, 1.1])
    (found,) = drifting_references(table.lut)
    assert found.text == "the reference layer drifts by 10 % over the session (to slower, 6 measurements), in session s1"
    assert found.places[0].layer == "conv"
    assert "lock the clocks" in found.action
    table.session("s2")
    table.references([1.1, 1.1, 1.1, 1.1, 1.1, 1.4], "s2")
    table.session("s3")
    table.references([1.1, 1.0, 1.1, 1.1, 1.15], "s3")  # 9 % at most
    (found,) = drifting_references(table.lut)
    assert "; it also moved in 1 more of 3 sessions" in found.text


def test_drifting_references_say_scatters(table: Any) -> None:
    table.references([1.0, 1.3, 1.0, 0.8, 1.0])
    (found,) = drifting_references(table.lut)
    words = "scatters by 30 % (2 of 5 measurements are more than 10 % off their median)"
    assert found.text == f"the reference layer {words}, in session s1"


def test_drifting_references_compare_sessions(table: Any) -> None:
    table.session("s2")
    table.references([1.0, 1.0])
    table.references([1.09, 1.09], "s2")
    assert drifting_references(table.lut) == []
    table.session("s3")
    table.references([1.2, 1.2], "s3")
    (found,) = drifting_references(table.lut)
    assert found.rule == "session-drift"
    assert found.text == "the reference layer takes 1 ms in session s1 and 1.2 ms in s3: 20 % more"


def test_drifting_networks_compare_the_same_widths(table: Any) -> None:
    table.session("s2")
    table.network(2.0, "s1")
    table.network(9.0, "s2", 16)  # other widths
    table.network(2.1, "s2")
    table.network(5.0, "s2", 8, "throttled")  # told by its flag
    assert drifting_networks(table.lut) == []
    table.session("s3")
    table.network(2.5, "s3")
    (found,) = drifting_networks(table.lut)
    assert found.text.startswith("1 of 1 whole networks that were measured in several sessions moved; worst: plan h")
    assert found.text.endswith("takes 2 ms in session s1 and 2.5 ms in s3: 25 % more")


def test_drifting_networks_name_a_trend(table: Any) -> None:
    for day in range(2, 7):
        table.session(f"s{day}")
    for day in range(1, 7):
        table.network(2.0 + 0.03 * day, f"s{day}")
    (found,) = drifting_networks(table.lut)
    assert "drifts by 7 % over the sessions (to slower, 6 measurements)" in found.text  # 0.15 of 2.105
