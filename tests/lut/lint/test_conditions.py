from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.conditions import foreign_runtime, mixed_sessions, split_energy, unquiet_machine

if TYPE_CHECKING:
    from collections.abc import Callable


def _two(empty: Callable[[], Any], first: dict[str, Any], second: dict[str, Any]) -> Any:
    table = empty()
    table.session("s1", **first)
    table.session("s2", **second)
    table.cell("conv", (8,), 1.0, session="s1")
    table.cell("conv", (16,), 1.0, session="s2")
    return table


def test_unquiet_machine_names_governor_and_load(empty: Callable[[], Any]) -> None:
    table = _two(
        empty, {"clocks": {"governor": "powersave"}, "machine": {"other_load": 0.9}}, {"machine": {"other_load": 0.2}}
    )
    governor, load = unquiet_machine(table.lut)
    assert (governor.severity, governor.text) == ("info", "clocks were not locked (governor powersave)")
    assert load.text == "1 of 2 sessions began while other programs were running (up to 0.9 cores)"
    quiet = _two(
        empty, {"clocks": {"governor": "performance"}}, {"clocks": {"governor": None}, "machine": {"other_load": 0.1}}
    )
    assert unquiet_machine(quiet.lut) == []


@pytest.mark.parametrize(
    ("first", "second", "rule", "words"),
    [
        ({"machine": {"model": "A"}}, {"machine": {"model": "B"}}, "mixed-conditions", "machine model A (1 sessions), B"),
        ({"settings": {"threads": 1}}, {"settings": {"threads": 2}}, "mixed-conditions", "settings threads 1"),
        ({"versions": {"formula": "1"}}, {"versions": {"formula": "2"}}, "mixed-conditions", "versions formula 1"),
        ({"clocks": {"governor": "a"}}, {"clocks": {"governor": "b"}}, "mixed-conditions", "clocks governor a"),
        ({"power_source": "ina"}, {"power_source": "rapl"}, "mixed-conditions", "power source ina"),
        ({"versions": {"python": "3.10"}}, {"versions": {"python": "3.11"}}, "mixed-versions", "versions python 3.10"),
    ],
)
def test_mixed_sessions_name_what_differs(
    empty: Callable[[], Any], first: dict[str, Any], second: dict[str, Any], rule: str, words: str
) -> None:
    (found,) = mixed_sessions(_two(empty, first, second).lut)
    assert found.rule == rule
    assert words in found.text


def test_mixed_sessions_of_one_state_are_none(empty: Callable[[], Any]) -> None:
    state = {"machine": {"model": "A", "load_average": 1.0}, "clocks": {"frequency_mhz": 2000}}
    other = {"machine": {"model": "A", "load_average": 2.0}, "clocks": {"frequency_mhz": 2100}}
    assert mixed_sessions(_two(empty, state, other).lut) == []
    assert mixed_sessions(_two(empty, state, {}).lut) == []  # what is not known does not differ
    table = _two(empty, state, other)
    table.session("s3", machine={"model": "B"})  # nothing in the table is from there
    assert mixed_sessions(table.lut) == []


def test_foreign_runtime_is_told(empty: Callable[[], Any]) -> None:
    assert foreign_runtime(_two(empty, {"versions": {"formula": "1"}}, {}).lut) == []
    (found,) = foreign_runtime(_two(empty, {"versions": {"formula": "2"}}, {}).lut)
    assert found.text == "the table is of formula 1, but its sessions say 2 in 1"


def test_split_energy_matters_where_the_device_was_in_another_state(empty: Callable[[], Any]) -> None:
    def split(first: str, second: str) -> Any:
        table = _two(empty, {"power_mode": first}, {"power_mode": second})
        table.cell("conv", (8,), None, mj=1.0, session="s2")
        table.cell("conv", (16,), None, mj=2.0, session="s2")  # its latency is from there, too
        table.cell("conv", (24,), None, mj=2.0, session="s2")  # no latency at all
        return table

    (found,) = split_energy(split("MAXN", "MAXN").lut)
    assert (found.severity, found.text) == ("info", "latency and energy of 1 of 2 cells are from different sessions")
    (found,) = split_energy(split("MAXN", "15W").lut)
    assert found.severity == "warning"
    assert found.text.endswith("for 1 of them in another power mode or at other clocks")


def test_split_energy_leaves_modelled_ones_alone(empty: Callable[[], Any]) -> None:
    table = _two(empty, {}, {})
    table.cell("conv", (8,), None, mj=1.0, session="s2", flags=("modelled",))
    assert split_energy(table.lut) == []
