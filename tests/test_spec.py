"""What is said to budgets that are almost right."""

from __future__ import annotations

import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import parse_budget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latancy=0.5x", r"unknown resource 'latancy'.*did you mean latency=0\.5x\? Known: latency, energy"),
        ("Params=1.5M", r"did you mean params=1\.5M\?"),
        ("speed=2", r"unknown resource 'speed' in budget 'speed=2'; known: latency"),
        ("latency=0.6", r"did you mean latency=0\.6x\?"),
        ("latency=4", r"did you mean latency=4ms\?"),
        ("memory=8", r"did you mean memory=8MiB\?"),
        ("macs=0.5", r"no network has less than 1; did you mean macs=0\.5x"),
        ("latency=5h", r"one of: s, ms, us$"),
    ],
)
def test_parse_budget_names_what_was_probably_meant(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_budget(text)


def test_parse_budget_takes_a_part_of_a_thousand() -> None:
    assert parse_budget("macs=0.5k").value == 500
