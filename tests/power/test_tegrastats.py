"""The 34 sample lines against a table written by hand, and a hundred thousand damaged ones."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

import pytest

from netadapt_trt.power.rails import match_board, total_mw
from netadapt_trt.power.tegrastats import Clock, RailReading, TegrastatsLine, parse_line

HERE = Path(__file__).parent
SAMPLES = [line for line in (HERE / "tegrastats-samples.txt").read_text().split("\n") if line and line[0] != "#"]
EXPECTED = [line for line in (HERE / "tegrastats-expected.txt").read_text().split("\n") if line and line[0] != "#"]

MUTATIONS = 100_000


def _clock(text: str) -> Clock | None:
    if text == "-":
        return None
    load, _, clocks = text.partition(":")
    return Clock(int(load) if load else None, tuple(int(clock) for clock in clocks.split(",") if clock))


def _pairs(text: str) -> list[tuple[str, str]]:
    return [] if text == "-" else [(pair.split("=")[0], pair.split("=")[1]) for pair in text.split()]


def _rail(text: str) -> RailReading:
    current, average, *maximum = (int(value) for value in text.split(","))
    return RailReading(current, average, *maximum)


def test_parse_line_has_an_expectation_for_each_of_34_samples() -> None:
    assert len(SAMPLES) == len(EXPECTED) == 34


@pytest.mark.parametrize(
    ("text", "expected"), list(zip(SAMPLES, EXPECTED, strict=True)), ids=[line[:4] for line in EXPECTED]
)
def test_parse_line_finds_what_a_reader_finds(text: str, expected: str) -> None:
    _, stamp, rails, gpu, emc, cores, temperatures = expected.split(" ; ")
    line = parse_line(text)
    assert list(line.rails.items()) == [(name, _rail(values)) for name, values in _pairs(rails)]
    assert line.stamp == (None if stamp == "-" else datetime.fromisoformat(stamp))
    assert line.gpu == _clock(gpu)
    assert line.emc == _clock(emc)
    assert len(line.cpu) == int(cores)
    assert dict(line.temperatures_c) == {name: float(value) for name, value in _pairs(temperatures)}


def test_parse_line_reads_cores_that_are_off_and_shared_clocks() -> None:
    assert parse_line("CPU [90%@2601,off,7%@1190]").cpu == (Clock(90, (2601,)), None, Clock(7, (1190,)))
    assert parse_line("CPU [0%,5%,off]@2601").cpu == (Clock(0, (2601,)), Clock(5, (2601,)), None)


def test_parse_line_reads_memory() -> None:
    assert parse_line(SAMPLES[0]).ram_mb == (1655, 3956)


def test_parse_line_running_means_of_case_20_are_those_of_its_currents() -> None:
    # 8710 then 7953: their mean, 8331.5, is printed as 8332, and the larger one is the maximum
    rails = parse_line(SAMPLES[26]).rails
    assert rails["VDD_CPU_SOC_MSS"] == RailReading(7953, 8332, 8710)


@pytest.mark.parametrize(
    ("index", "total"),
    [
        (0, 2132),  # POM_5V_IN
        (3, None),  # swapped labels: the GPU above the input
        (4, 14703),  # VDD_IN
        (6, None),  # no rails
        (7, 3140),  # VDD_IN, fourth in its line
        (9, 463 + 618 + 2936 + 0 + 309 + 3306),
        (11, 2390 + 796 + 3522),  # without VDDQ_VDD2_1V8AO, which VIN_SYS_5V0 feeds
        (13, 2412 + 1607 + 4707),
        (22, 16802),  # VIN
        (24, 0 + 4923 + 4327),  # Thor without VIN
        (29, None),  # abridged: no board has VDD_GPU and VIN alone
        (30, 15004),
    ],
)
def test_parse_line_and_rail_table_give_the_board_total(index: int, total: int | None) -> None:
    assert total_mw({name: float(rail.current) for name, rail in parse_line(SAMPLES[index]).rails.items()}) == total


def test_parse_line_every_sample_with_rails_is_a_known_board_but_the_abridged_one() -> None:
    unknown = [number for number, text in enumerate(SAMPLES) if (r := parse_line(text).rails) and match_board(r) is None]
    assert unknown == [29]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "RAM",
        "\x00\xff",
        "VDD_IN 4761mW",
        "VDD_IN 4761mW/",
        "VDD_IN /4761mW",
        "VDD_IN  4761mW/4778mW",  # two blanks
        "VDD_IN 4761mW/4778mWx",
        "VDD_IN 4761uW/4778uW",
        "VDD_IN 4761.5mW/4778mW",
        "VDD_IN 4761mW/4778mW/4779mW/4780mW",
        "xVDD-IN 1/2",
        "VDD_IN " + "9" * 5000 + "/1",
        "VDD_IN \u0664\u0665/\u0664\u0665",  # digits, but not ours
        "SWAP 0/1978MB IRAM 0/252kB RAM 1655/3956MB",
        "NC 5mW/5mW",
    ],
)
def test_parse_line_without_a_whole_rail_has_no_power_data(text: str) -> None:
    assert parse_line(text).rails == {}


@pytest.mark.parametrize(
    "stamp", ["13-45-2026 10:00:00", "01-01-0000 10:00:00", "01-01-2026 25:00:00", "02-30-2026 01:01:01"]
)
def test_parse_line_an_impossible_date_is_no_stamp(stamp: str) -> None:
    line = parse_line(f"{stamp} VDD_IN 1mW/2mW")
    assert line.stamp is None
    assert line.rails == {"VDD_IN": RailReading(1, 2)}


def test_parse_line_the_first_of_two_equal_names_counts() -> None:
    assert parse_line("VDD_IN 1/1 VDD_IN 2/2").rails == {"VDD_IN": RailReading(1, 1)}


def _mutated(text: str, draw: random.Random) -> str:
    """One to four random damages: a character replaced, cut, doubled, a stretch moved or lost, the line torn or joined."""
    alphabet = "0123456789abcXYZ_%@[]()/,.-: \t\n\x00\u20ac\u0664mWC"
    for _ in range(draw.randint(1, 4)):
        at, to = sorted((draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)))
        kind = draw.randrange(6)
        if kind == 0:
            text = text[:at] + draw.choice(alphabet) + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at + draw.randint(1, 9) :]
        elif kind == 2:
            text = text[:at] + draw.choice(alphabet) * draw.randint(1, 20) + text[at:]
        elif kind == 3:
            text = text[at:to] + text[:at] + text[to:]
        elif kind == 4:
            text = text[:at]
        else:
            text = text[:at] + draw.choice(SAMPLES)[draw.randrange(200) :]
    return text


def _is_sound(line: TegrastatsLine) -> bool:
    clocks = [clock for clock in (line.gpu, line.emc, *line.cpu) if clock is not None]
    return (
        "NC" not in line.rails
        and all(abs(rail.current) < 10**9 and abs(rail.average) < 10**9 for rail in line.rails.values())
        and all(-256.0 < celsius < 10_000.0 for celsius in line.temperatures_c.values())
        and all(clock.load_percent is None or 0 <= clock.load_percent <= 999 for clock in clocks)
    )


@pytest.mark.slow
def test_parse_line_survives_a_hundred_thousand_damaged_lines() -> None:
    draw = random.Random(20260727)
    with_rails = 0
    for number in range(MUTATIONS):
        text = _mutated(SAMPLES[number % len(SAMPLES)], draw)
        line = parse_line(text)
        assert _is_sound(line), text
        # A rail is never made up: its name and its value stand in the text as they are.
        for name, rail in line.rails.items():
            assert f"{name} {rail.current}" in text or f"{name} -0" in text or f"{name} 0" in text, (name, text)
        with_rails += bool(line.rails)
    # The damage must leave both kinds, or this test looks at one of them only.
    assert MUTATIONS // 4 < with_rails < MUTATIONS * 9 // 10
