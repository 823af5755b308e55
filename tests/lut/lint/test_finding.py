"""What to do: the command that measures again, or that it cannot be done here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.lint.coverage import coverage
from netadapt_trt.lut.lint.finding import ELSEWHERE, again, anew, measurable
from netadapt_trt.lut.schema import Session
from netadapt_trt.lut.store import Lut

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Identity

COMMAND = "netadapt-trt profile PLAN --backend fake --precision fp32 --lut"


def _session(name: str, source: str | None) -> Session:
    return Session(id=name, date="2026-01-01T00:00:00+00:00", settings={} if source is None else {"imported_from": source})


def test_command_measures_into_a_table_of_its_own(table: Any) -> None:
    assert anew(table.lut, "lock the clocks, then") == f"lock the clocks, then: {COMMAND} new.lut.jsonl"
    assert anew(table.lut, "run", "my table", power=True) == f"run: {COMMAND} 'my table' --power auto"
    assert again(table.lut, "again") == (
        f"again: {COMMAND} again.lut.jsonl && netadapt-trt lut merge LUT again.lut.jsonl -o LUT"
    )


@pytest.mark.parametrize(
    ("backend", "sources", "here"),
    [
        ("fake", [None], True),
        ("fake", [], True),
        ("fake", ["a.txt", None], True),  # some of it was measured with the backend that the table names
        ("fake", ["a.txt", "b.txt"], False),
        ("pytorch", [None], False),
        ("pytorch", [], False),
    ],
)
def test_measurable_where_a_backend_of_ours_measured(
    identity: Identity, backend: str, sources: list[str | None], here: bool
) -> None:
    lut = Lut(replace(identity, backend=backend))
    for number, source in enumerate(sources):
        lut.add(_session(f"s{number}", source))
    assert measurable(lut) == here
    assert (anew(lut, "x") == ELSEWHERE) == (again(lut, "x") == ELSEWHERE) == (not here)


def test_no_rule_sends_a_reader_of_an_imported_table_to_profile_here(identity: Identity, empty: Callable[[], Any]) -> None:
    table = empty()
    table.lut.identity = replace(identity, backend="pytorch")
    table.lut.add(_session("s1", "theirs.txt"))
    for width in range(8, 88, 8):
        table.cell("conv", (3, width), 1.0 / width, spread=(0.0, 1.0), n=1, mj=2.0 / width)  # slower than wider ones
        table.cell("flat", (width,), 1.0, n=50, power_mw={"board": 0.0})
    for width, pace in ((8, 1.0), (16, 2.0)):
        table.network(1.0, "s1", width, pace=pace, odd_even=1.2)
    table.references([1.0, 1.3, 1.0, 0.8, 1.0])
    found = {finding.rule: finding.action for finding in check(table.lut)}
    assert {"proportional-columns", "zero-power", "constant-cells", "drift", "spread", "few-runs", "bad-cells"} < set(found)
    assert {"pace", "odd-even"} < set(found)
    assert not [action for action in found.values() if "netadapt-trt profile" in action]
    assert found["spread"] == found["few-runs"] == found["pace"] == found["drift"] == ELSEWHERE
    assert found["proportional-columns"] == f"take a budget in one of them only; {ELSEWHERE}"


def test_coverage_of_an_imported_table_names_no_command(
    identity: Identity, make_plan: Callable[..., Plan], make_layer: Callable[..., Layer]
) -> None:
    lut = Lut(replace(identity, backend="trt"))
    lut.add(_session("s1", "theirs.txt"))
    found = coverage(lut, make_plan(a=16), [make_layer("conv", 3, "a")])
    assert [finding.action for finding in found] == [ELSEWHERE, ELSEWHERE]
