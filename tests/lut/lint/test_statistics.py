from __future__ import annotations

from typing import Any

import pytest

from netadapt_trt.lut.lint.statistics import disagreeing_repeats, flags, scatter, too_few_runs


def test_scatter_names_the_worst_layer_first(table: Any) -> None:
    table.cell("conv", (8,), 1.0, spread=(0.0, 0.5))  # 1.5 x: not over the threshold
    table.cell("conv", (16,), 1.0, spread=(0.0, 0.6))
    table.cell("head", (8,), 1.0, spread=(0.2, 0.6))  # 1.6 / 0.8
    table.cell("head", (16,), 1.0, spread=(0.2, 9.0), flags=("noisy",))  # told by its flag
    (found,) = scatter(table.lut)
    assert (found.severity, found.rule) == ("warning", "spread")
    assert found.text == "2 of 3 cells scatter (p90 over 1.5 x p10)"
    assert [(place.layer, place.cells) for place in found.places] == [("head", ((8,),)), ("conv", ((16,),))]
    assert found.places[0].text == "at [8]: p90 is 2.00 x p10"
    assert "netadapt-trt profile PLAN --backend fake --precision fp32 --lut new.lut.jsonl" in found.action
    assert found.why


def test_scatter_and_runs_are_of_layers_timed_alone(table: Any) -> None:
    """Within networks profile writes shares of a median: no spread, and the number of profiled runs, however many."""
    for width in (8, 16, 24):
        table.cell("conv", (width,), 1.0, n=3, context="in_network", neighbours=("head",))
    assert scatter(table.lut) == too_few_runs(table.lut) == []
    table.cell("conv", (8,), 1.0, spread=(0.0, 0.6), n=4)
    assert [found.text for found in (*scatter(table.lut), *too_few_runs(table.lut))] == [
        "1 of 1 cells scatter (p90 over 1.5 x p10)",
        "1 of 1 cells rest on fewer than 5 runs",
    ]


def test_too_few_runs_forgives_what_takes_long(table: Any) -> None:
    table.cell("conv", (8,), 1.0, n=5)
    table.cell("conv", (16,), 500.0, n=4)  # two seconds
    assert too_few_runs(table.lut) == []
    table.cell("conv", (24,), 499.0, n=4)
    table.cell("head", (8,), 1.0, n=1)
    (found,) = too_few_runs(table.lut)
    assert found.text == "2 of 4 cells rest on fewer than 5 runs"
    assert [place.layer for place in found.places] == ["head", "conv"]
    assert "lut merge LUT again.lut.jsonl -o LUT" in found.action


def test_disagreeing_repeats_are_beyond_their_own_spread(table: Any) -> None:
    table.session("s2")
    for width, second, spread in ((8, 1.2, (0.11, 0.0)), (16, 1.2, (0.09, 0.0)), (24, 1.04, (0.0, 0.0))):
        table.cell("conv", (width,), 1.0, spread=(0.0, 0.1))
        table.cell("conv", (width,), second, spread=spread, session="s2")
    (found,) = disagreeing_repeats(table.lut)  # at 8 p10 1.09 lies below p90 1.1; at 24 there is nothing to quarrel about
    assert found.text.startswith("1 of 3 cells that were measured more than once disagree")
    assert found.places[0].cells == ((16,),)
    assert found.places[0].text == "1 of 3 cells, worst [16]: 1 ms in session s1, 1.2 ms in s2 (20 % more)"


def test_disagreeing_repeats_leave_flagged_lines_out(table: Any) -> None:
    table.cell("conv", (8,), 5.0, flags=("noisy",))
    table.cell("conv", (8,), 1.0)
    for ms in (1.0, 9.0):  # two places of one network
        table.cell("conv", (8,), ms, context="in_network")
    assert disagreeing_repeats(table.lut) == []


@pytest.mark.parametrize(
    ("flag", "severity", "words"),
    [
        ("modelled", "info", "the energy of 1 cell is modelled from measured ones; their latency is measured"),
        ("resolution_limited", "warning", "the energy of 1 cell is finer than the power source's step"),
        ("low_coverage", "warning", "the energy of 1 cell is left out"),
    ],
)
def test_flags_of_energy_speak_of_energy_alone(table: Any, flag: str, severity: str, words: str) -> None:
    table.cell("conv", (8,), 1.0, spread=(0.0, 1.0), mj=2.0, flags=(flag,))
    (found,) = flags(table.lut)
    assert (found.severity, found.text[: len(words)]) == (severity, words)
    assert len(scatter(table.lut)) == 1  # latency is judged all the same


def test_flags_of_regions_are_no_disturbance(table: Any) -> None:
    table.cell("conv", (8,), 1.0, context="in_network", flags=("region",))
    (found,) = flags(table.lut)
    assert (found.severity, found.text[:46]) == ("info", "1 cell within networks ran in one piece with n")


def test_flags_are_counted_with_whole_networks(table: Any) -> None:
    table.cell("conv", (8,), 1.0, flags=("noisy",))
    table.cell("conv", (16,), 2.0, flags=("noisy",))
    table.network(3.0, "s1", 8, "throttled")
    texts = [found.text for found in flags(table.lut)]
    assert texts == ["2 cells are flagged noisy", "1 whole network is flagged throttled"]
