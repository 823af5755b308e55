from __future__ import annotations

from typing import Any

import pytest

from netadapt_trt.cli.result_table import budget_line


def budget(name: str, resource: str, achieved: float, limit: float, **more: Any) -> dict[str, Any]:
    return {"budget": name, "resource": resource, "achieved": achieved, "limit": limit, "met": achieved <= limit, **more}


@pytest.mark.parametrize(
    ("final", "told"),
    [
        ({"value": 0.1791, "limit": 0.1909, "met": True}, "final timing 0.179 of 0.191 ms, met"),
        ({"value": 0.1949, "limit": 0.1909, "met": False}, "final timing 0.195 of 0.191 ms, missed by 2.1 %"),
        ({"value": 0.19091, "limit": 0.1909, "met": False}, "final timing 0.191 of 0.191 ms, missed by 0.1 %"),
        ({"value": 0.5, "limit": 0.2, "met": False}, "final timing 0.500 of 0.200 ms, missed by 150 %"),
    ],
)
def test_budget_line_tells_both_timings(final: dict[str, Any], told: str) -> None:
    line = budget_line(budget("latency=0.6x", "latency", 0.1711, 0.1803, final=final))
    assert line == f"latency=0.6x: in the loop 0.171 of 0.180 ms, met; {told}"


@pytest.mark.parametrize("more", [{}, {"final": None}])  # a result of an older version; a resource that is counted
def test_budget_line_without_a_final_timing_tells_the_loop_s(more: dict[str, Any]) -> None:
    line = budget_line(budget("params=0.5x", "params", 1_302_000, 1_240_000, **more))
    assert line == "params=0.5x: 1.30 of 1.24 M parameters, missed by 5.0 %"
