"""Tables of blocks from text and from imported LUTs: HANNA's figures, and everything that can be wrong with such a file."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import CoverageError, FileFormatError, IdentityError, SpecError
from netadapt_trt.lut.importers.formats import import_tables
from netadapt_trt.lut.importers.table import Conditions
from netadapt_trt.space.knobs import Knobs, start
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import load_space
from netadapt_trt.space.table import SpaceTable, check_table, read_tables

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(__file__).parents[2] / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"
CIFAR = load_space("fbnet-cifar")
SMALL = Space(
    name="small",
    input_shape=(3, 8, 8),
    num_classes=4,
    stem=Stem(channels=4),
    stages=(Stage(4, 2, 1),),
    blocks=(Block("a", 3, 1), Block("b", 3, 2)),
    head_channels=8,
)
SECONDS = np.array([[0.10, 0.20, 0.0], [0.30, 0.50, 0.01]])
JOULES = np.array([[0.30, 0.80, 0.0], [1.10, 1.60, 0.0]])


def written(path: Path, values: np.ndarray) -> Path:
    path.write_text("\n".join(" ".join(repr(float(value)) for value in row) for row in values) + "\n")
    return path


@pytest.fixture
def lines() -> tuple[np.ndarray, np.ndarray]:
    """Tables of the CIFAR space that nothing is wrong with: seconds, joules [22, 9]."""
    rows, columns = np.meshgrid(np.arange(22), np.arange(9), indexing="ij")
    seconds = 0.02 + 0.001 * rows + 0.005 * columns + 0.0001 * (rows * columns % 7)
    seconds[:, 8] = 0.001
    return seconds, seconds * (3.0 + 0.1 * ((3 * rows + 2 * columns) % 11))


def test_hannas_start_from_the_shipped_table() -> None:
    """Its logs say 3.853 s and 18.699 J."""
    found = start(read_tables(CIFAR, [SHIPPED]), Knobs())
    assert round(found.lat_s, 3) == 3.853
    assert found.ener_j is not None
    assert round(found.ener_j, 3) == 18.699


def test_the_shipped_table_keeps_its_doubts_and_conditions() -> None:
    table = read_tables(CIFAR, [SHIPPED])
    assert table.identity is not None
    assert table.identity.device == "Raspberry Pi 3 Model B"
    assert any("A skip computes nothing" in notice for notice in table.notices)
    assert any("different runs" in notice for notice in table.notices)
    assert table.notices[0].startswith("LAT 3.853 s, ENER 18.7 J, mean power 4.854 W (all blocks alike): read as millisec")
    assert any("a child's whole latency and energy will be larger" in notice for notice in table.notices)
    assert (table.fixed_latency_ms, table.fixed_energy_mj) == (0.0, 0.0)


def test_text_by_hand(tmp_path: Path) -> None:
    """Skip is not offered in layer 1, so the 0 there is nothing; in layer 2 it costs 10 ms and 0 J."""
    table = read_tables(SMALL, [written(tmp_path / "speed.txt", SECONDS), written(tmp_path / "energy.txt", JOULES)])
    np.testing.assert_allclose(table.latency_ms, np.array([[100, 200, math.nan], [300, 500, 10]]))
    np.testing.assert_allclose(table.energy_mj, np.array([[300, 800, math.nan], [1100, 1600, 0]]))
    found = start(table, Knobs(alpha=1, beta=1, gamma=1, delta=1))
    assert found.lat_s == pytest.approx(0.15 + 0.27)
    assert found.ener_j == pytest.approx(0.55 + 0.9)
    assert table.latency((0, 2)) == pytest.approx(110)
    assert table.energy((0, 2)) == pytest.approx(300)


def test_every_child_is_the_tables_sum(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    seconds, joules = lines
    table = read_tables(CIFAR, [written(tmp_path / "l.txt", seconds), written(tmp_path / "e.txt", joules)])
    draw = np.random.default_rng(0)
    for _ in range(20):
        choice = [int(draw.choice(place.candidates)) for place in CIFAR.places]
        assert table.latency(choice) == pytest.approx(sum(seconds[row, column] for row, column in enumerate(choice)) * 1e3)
        assert table.energy(choice) == pytest.approx(sum(joules[row, column] for row, column in enumerate(choice)) * 1e3)


def test_clean_text_says_how_it_was_read_and_what_it_leaves_out(
    lines: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    table = read_tables(CIFAR, [written(tmp_path / "l.txt", lines[0]), written(tmp_path / "e.txt", lines[1])])
    read, left_out = table.notices
    assert read.startswith("LAT ")
    assert ": read as seconds and joules; " in read
    assert left_out.startswith(
        "What the first and the last layers cost is not in this table: a child's whole latency and en"
    )
    assert table.source == f"{tmp_path / 'l.txt'}, {tmp_path / 'e.txt'}"


def test_latency_alone_has_no_energy(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    table = read_tables(CIFAR, [written(tmp_path / "l.txt", lines[0])])
    assert not table.has_energy
    assert start(table, Knobs()).ener_j is None


def test_compressed_text_is_read(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    plain = read_tables(CIFAR, [written(tmp_path / "l.txt", lines[0])])
    (tmp_path / "l.gz").write_bytes(gzip.compress((tmp_path / "l.txt").read_bytes()))
    assert read_tables(CIFAR, [tmp_path / "l.gz"]).latency(plain_choice()) == plain.latency(plain_choice())


def plain_choice() -> list[int]:
    return [place.candidates[-1] for place in CIFAR.places]


def test_an_import_gives_the_same_table_as_the_text(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    speed, energy = written(tmp_path / "l.txt", lines[0]), written(tmp_path / "e.txt", lines[1])
    import_tables([speed], tmp_path / "i.lut.jsonl", Conditions(device="Pi"), format="hanna", energy=energy)
    text, imported = read_tables(CIFAR, [speed, energy]), read_tables(CIFAR, [tmp_path / "i.lut.jsonl"])
    np.testing.assert_allclose(imported.latency_ms, text.latency_ms, rtol=1e-9)
    np.testing.assert_allclose(imported.energy_mj, text.energy_mj, rtol=1e-9)


def test_a_second_lut_brings_the_energy(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    speed, energy = written(tmp_path / "l.txt", lines[0]), written(tmp_path / "e.txt", lines[1])
    import_tables([speed], tmp_path / "l.lut.jsonl", Conditions(device="Pi"), format="hanna")
    import_tables([speed], tmp_path / "e.lut.jsonl", Conditions(device="Pi"), format="hanna", energy=energy)
    import_tables([speed], tmp_path / "x.lut.jsonl", Conditions(device="Another"), format="hanna", energy=energy)
    both = read_tables(CIFAR, [tmp_path / "l.lut.jsonl", tmp_path / "e.lut.jsonl"])
    text = read_tables(CIFAR, [speed, energy])
    np.testing.assert_allclose(both.energy_mj, text.energy_mj, rtol=1e-9)
    # In either order: only one of them says anything of energy.
    swapped = read_tables(CIFAR, [tmp_path / "e.lut.jsonl", tmp_path / "l.lut.jsonl"])
    np.testing.assert_allclose(swapped.energy_mj, text.energy_mj, rtol=1e-9)
    with pytest.raises(IdentityError, match="device: 'Pi' and 'Another'"):
        read_tables(CIFAR, [tmp_path / "l.lut.jsonl", tmp_path / "x.lut.jsonl"])
    with pytest.raises(CoverageError, match="says anything of energy"):
        read_tables(CIFAR, [tmp_path / "l.lut.jsonl", tmp_path / "l.lut.jsonl"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("0.3 ", "nan ", 1), r"line 2, column 1 \(a\): nan cannot be a measurement"),
        (lambda text: text.replace("0.3 ", "-0.3 ", 1), r"line 2, column 1 \(a\): -0.3 cannot be a measurement"),
        (lambda text: text.replace("0.3 ", "inf ", 1), "cannot be a measurement"),
        (lambda text: text.replace("0.5 ", "0.0 ", 1), "a block that costs nothing was not measured"),
        (lambda text: text.replace("0.3 ", "", 1), "line 2: 2 columns; a line has 3, one for each of a, b, skip"),
        (lambda text: text.splitlines()[0], "the table has 1 rows; it needs 2"),
        (lambda text: text + "0.1 0.2 0.3\n", "the table has 3 rows; it needs 2"),
        (lambda text: text.replace("0.3 ", "x ", 1), "'x' is not a number"),
        (lambda _: "", "neither a LUT"),
        (lambda text: "hello " + text, "neither a LUT"),
        (lambda text: "\x00\x01" + text, "neither a LUT"),
        (lambda text: text.replace("0.3 ", "é ", 1), "line 2: not plain text"),
        (lambda _: '{"format": "netadapt-lut"', "is not a netadapt-lut file"),
        (lambda _: '{"format": "netadapt-space", "version": 1}\n', "netadapt-space"),
    ],
)
def test_text_that_is_no_table(spoil: Callable[[str], str], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "speed.txt", SECONDS)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(FileFormatError, match=words):
        read_tables(SMALL, [path])


def test_wrong_numbers_of_files(tmp_path: Path) -> None:
    path = written(tmp_path / "speed.txt", SECONDS)
    for files in ([], [path] * 3):
        with pytest.raises(SpecError, match="tables were named; name one"):
            read_tables(SMALL, files)
    with pytest.raises(FileFormatError, match="does not exist"):
        read_tables(SMALL, [tmp_path / "none.txt"])
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_tables(SMALL, [tmp_path])


@pytest.mark.parametrize(
    ("latency", "energy", "words"),
    [
        (1e3, 1e3, "unit of latency looks wrong: a network of average blocks would take 420 s"),
        (1e3, 1.0, "would take 420 s"),
        (1e2, 1e-2, "units of latency and energy do not go together: 0.0145 J in 42 s would be 0.000345 W"),
        (1e-3, 1.0, r"would be 3.45e\+03 W"),
        (1.0, 1e3, r"1.45e\+03 J in 0.42 s would be 3.45e\+03 W"),
        (1.0, 1e-3, "would be 0.00345 W"),
        (1e-5, 1e-5, "unit of latency looks wrong: a network of average blocks would take 4.2e-06 s"),
    ],
)
def test_units_off_by_a_thousand(latency: float, energy: float, words: str, tmp_path: Path) -> None:
    """The honest table takes 0.42 s and 1.45 J, which is 3.45 W."""
    files = [written(tmp_path / "speed.txt", SECONDS * latency), written(tmp_path / "energy.txt", JOULES * energy)]
    with pytest.raises(FileFormatError, match=words):
        read_tables(SMALL, files)


def test_a_table_that_may_be_in_milliseconds_is_said_and_not_changed(tmp_path: Path) -> None:
    """In milliseconds the numbers of a network of 0.42 ms are those of one of 0.42 s."""
    said = "If the file is in milliseconds that is 1000 times too much"
    table = read_tables(SMALL, [written(tmp_path / "speed.txt", SECONDS)])
    assert any(said in notice for notice in table.notices)
    assert table.latency((0, 0)) == pytest.approx(400)
    fast = read_tables(SMALL, [written(tmp_path / "fast.txt", SECONDS * 1e-1)])
    assert not any("milliseconds" in notice for notice in fast.notices)


def test_a_file_named_otherwise_is_said(tmp_path: Path) -> None:
    files = [written(tmp_path / "energy.txt", JOULES), written(tmp_path / "speed.txt", SECONDS)]
    said = read_tables(SMALL, files).notices
    assert any("energy.txt is read as the table of latency" in notice for notice in said)
    assert any("speed.txt is read as the table of energy" in notice for notice in said)


def test_doubts_of_the_importer_are_said_of_text_too(lines: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    seconds, joules = lines
    seconds[:, 8] = seconds[:, 0] * 0.6
    said = read_tables(CIFAR, [written(tmp_path / "l.txt", seconds), written(tmp_path / "e.txt", joules)]).notices
    assert any(notice.startswith("A skip computes nothing, but in 22 of 22 layers it costs 0.60 to 0.60") for notice in said)
    same = read_tables(CIFAR, [written(tmp_path / "l.txt", seconds), written(tmp_path / "e.txt", 3 * seconds)]).notices
    assert any("it is one measurement and no second one" in notice for notice in same)


def test_tables_of_another_space() -> None:
    with pytest.raises(CoverageError, match="is of another space: it has 22 layers, numbered up to 22; space small has 2"):
        read_tables(SMALL, [SHIPPED])
    renamed = replace(CIFAR, blocks=(*CIFAR.blocks[:-1], Block("k7_e6", 7, 6)))
    with pytest.raises(CoverageError, match="it lacks the blocks k7_e6 of space fbnet-cifar"):
        read_tables(renamed, [SHIPPED])


def test_columns_are_found_by_name() -> None:
    turned = replace(CIFAR, blocks=CIFAR.blocks[::-1])
    table, other = read_tables(CIFAR, [SHIPPED]), read_tables(turned, [SHIPPED])
    np.testing.assert_array_equal(other.latency_ms[:, :-1], table.latency_ms[:, -2::-1])
    fewer = read_tables(replace(CIFAR, blocks=CIFAR.blocks[:2], skip=False), [SHIPPED])
    np.testing.assert_array_equal(fewer.latency_ms, table.latency_ms[:, :2])


def test_a_cell_that_is_missing_is_named(tmp_path: Path) -> None:
    gone = "layer=3 block=k5_e6"
    kept = [line for line in SHIPPED.read_text().splitlines() if f'{gone}"' not in line]
    (tmp_path / "t.lut.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(CoverageError, match="lacks the latency of 1 of 191 blocks of space fbnet-cifar: k5_e6 in layer 3"):
        read_tables(CIFAR, [tmp_path / "t.lut.jsonl"])


def test_a_skip_that_nothing_is_said_of_is_free(tmp_path: Path) -> None:
    kept = [line for line in SHIPPED.read_text().splitlines() if "block=skip" not in line]
    (tmp_path / "t.lut.jsonl").write_text("\n".join(kept) + "\n")
    table = read_tables(CIFAR, [tmp_path / "t.lut.jsonl"])
    assert table.latency_ms[2, 8] == table.energy_mj[2, 8] == 0
    assert np.isnan(table.latency_ms[0, 8])
    assert any("says nothing of skip" in notice for notice in table.notices)


@pytest.mark.parametrize("value", [-1.0, math.inf])
def test_costs_that_cannot_be(value: float) -> None:
    costs = np.array([[100.0, 200.0, math.nan], [300.0, value, 1.0]])
    with pytest.raises(FileFormatError, match="the latency of b in layer 2 is"):
        check_table(SpaceTable(SMALL, costs, np.full((2, 3), math.nan), source="x"))


HANNA = Path(__file__).parents[3] / "shared" / "data" / "hanna-rpi3"


@pytest.mark.skipif(not HANNA.is_dir(), reason="HANNA's own files are not here")
def test_hannas_own_files_as_they_are() -> None:
    table = read_tables(CIFAR, [HANNA / "rpi_speed.txt", HANNA / "new_rpi_energy.txt"])
    found = start(table, Knobs())
    assert found.ener_j is not None
    assert (round(found.lat_s, 3), round(found.ener_j, 3)) == (3.853, 18.699)
    assert len(table.notices) == 4
    assert table.notices[0].startswith(
        "LAT 3.853 s, ENER 18.7 J, mean power 4.854 W (all blocks alike): read as seconds and"
    )
    for files in ([HANNA / "rpi_speed.txt"], [HANNA / "rpi_speed.txt", HANNA / "rpi_energy.txt"]):
        assert read_tables(CIFAR, files).notices
