"""What the lines of whole networks say of their own measurement."""

from __future__ import annotations

from typing import Any

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.lint.networks import changing_pace, unmapped_time, unrepeated


def test_changing_pace_says_by_how_much(table: Any) -> None:
    table.network(1.0, "s1", 8)  # the first portion: what the others are compared with
    for width, pace in ((16, 0.96), (24, 0.96), (32, 1.1)):  # 1.1 / 0.96 is 1.146
        table.network(1.0, "s1", width, pace=pace)
    assert changing_pace(table.lut) == []
    table.network(1.0, "s1", 40, "throttled", pace=3.0)  # told by its flag
    table.network(1.0, "s1", 40, plan="other", pace=0.7)  # one portion of its own
    assert changing_pace(table.lut) == []
    table.network(1.0, "s1", 48, pace=1.2)
    (found,) = changing_pace(table.lut)
    assert (found.severity, found.rule) == ("warning", "pace")
    assert found.text == (
        "the machine changed its speed by 25 % while whole networks were measured "
        "(pace 0.96 to 1.20 in 4 portions of plan 'h')"
    )
    assert "divide the pace out" in found.why
    assert found.action.startswith(
        "stop what runs beside it (netadapt-trt doctor names it), lock the clocks, then: netadapt"
    )


def test_changing_pace_counts_the_first_portion_and_other_plans(table: Any) -> None:
    for plan, pace in (("h", 1.2), ("other", 0.5), ("still", 1.1)):
        table.network(1.0, "s1", 8, plan=plan)
        table.network(1.0, "s1", 16, plan=plan, pace=pace)
    (found,) = changing_pace(table.lut)
    assert found.text.startswith("the machine changed its speed by 100 %")
    assert found.text.endswith("in 2 portions of plan 'other'); by over 15 % for 1 more of 3 plans")


def test_unrepeated_names_the_worst_either_way(table: Any) -> None:
    table.network(1.0, "s1", 8)  # not asked: no rounds
    table.network(1.0, "s1", 16, rounds=10, odd_even=1.049)
    table.network(1.0, "s1", 24, rounds=10, odd_even=0.953)  # 1 / 0.953 is 1.049
    table.network(1.0, "s1", 32, "throttled", rounds=10, odd_even=2.0)
    assert unrepeated(table.lut) == []
    table.network(1.0, "s1", 40, rounds=40, odd_even=1.06)
    table.network(1.0, "s1", 48, rounds=31, odd_even=0.8)
    (found,) = unrepeated(table.lut)
    assert (found.severity, found.rule) == ("warning", "odd-even")
    assert found.text == (
        "odd and even rounds of 2 of 4 whole networks disagree by over 5 %; "
        "worst: plan 'h' at 48 channels, 25 % after 31 rounds"
    )
    assert found.why
    assert "netadapt-trt profile PLAN" in found.action


def test_unmapped_time_names_what_was_not_told(table: Any) -> None:
    table.network(1.0, "s1", 8)
    table.network(1.0, "s1", 16, mapped_share=0.98)
    table.network(1.0, "s1", 24, "throttled", mapped_share=0.1)
    assert unmapped_time(table.lut) == []
    table.network(1.0, "s1", 32, mapped_share=0.97)
    table.network(1.0, "s1", 40, mapped_share=0.9, unmapped='["Copy", "' + "x" * 200 + '"]')
    (found,) = unmapped_time(table.lut)
    assert (found.severity, found.rule) == ("warning", "unmapped")
    words = (
        "of 2 of 3 whole networks less than 98 % of the time could be told by layer; least: plan 'h' at 40 channels, 90.0%"
    )
    assert found.text.startswith(f'{words} (not told: ["Copy", "xxx')
    assert found.text.endswith("x...)")
    assert len(found.text) < 260
    assert "shared out to all layers" in found.why
    assert "netadapt-trt doctor" in found.action


def test_check_asks_all_of_them(table: Any) -> None:
    table.cell("conv", (8,), 1.0)
    table.network(1.0, "s1", 8, pace=1.0, odd_even=1.0, mapped_share=1.0)
    assert check(table.lut) == []
    table.network(1.0, "s1", 16, pace=2.0, odd_even=1.2, mapped_share=0.5)
    assert [finding.rule for finding in check(table.lut)] == ["pace", "odd-even", "unmapped"]


def test_details_that_are_no_measurement_are_left_alone(table: Any) -> None:
    table.network(1.0, "s1", 8, pace="fast", odd_even=0.0, mapped_share="all", unmapped=3.0)
    table.network(1.0, "s1", 16, pace=1e-309, odd_even=-1.0, mapped_share=-1.0, rounds="many")
    assert changing_pace(table.lut) == unrepeated(table.lut) == unmapped_time(table.lut) == []
