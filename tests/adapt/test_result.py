"""What result.json says of each budget in the last measurement."""

from __future__ import annotations

from typing import Any

import pytest

from netadapt_trt.adapt.result import _final_budget
from netadapt_trt.spec import parse_budget


def final(initial_ms: float, adapted_ms: float, initial_mj: float | None = None, adapted_mj: float | None = None) -> Any:
    def network(latency: float, energy: float | None) -> dict[str, Any]:
        return {"latency_ms": {"median": latency}, "energy_mj": None if energy is None else {"total": energy}}

    return {"networks": {"initial": network(initial_ms, initial_mj), "adapted": network(adapted_ms, adapted_mj)}}


@pytest.mark.parametrize(
    ("budget", "found", "told"),
    [
        # 0.5 x of 8 ms, not of what the LUT or the loop had
        ("latency=0.5x", final(8.0, 4.5), {"value": 4.5, "limit": 4.0, "met": False}),
        ("latency=0.5x", final(10.0, 4.5), {"value": 4.5, "limit": 5.0, "met": True}),
        ("latency=4.5ms", final(8.0, 4.5), {"value": 4.5, "limit": 4.5, "met": True}),
        ("energy=0.5x", final(8.0, 4.5, 20.0, 11.0), {"value": 11.0, "limit": 10.0, "met": False}),
        ("energy=0.5x", final(8.0, 4.5), None),
        ("params=0.5x", final(8.0, 4.5), None),
        ("latency=0.5x", None, None),
    ],
)
def test_budget_in_the_final_timing(budget: str, found: Any, told: dict[str, Any] | None) -> None:
    assert _final_budget(parse_budget(budget), found) == told
