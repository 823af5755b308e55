"""HANNA's tables: what the numbers become, and what is said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.blocks import read_block_table
from netadapt_trt.lut.importers.formats import import_tables
from netadapt_trt.lut.importers.hanna import BLOCKS
from netadapt_trt.lut.importers.hanna_checks import doubts
from netadapt_trt.lut.importers.table import Conditions
from netadapt_trt.lut.store import read_lut

if TYPE_CHECKING:
    from pathlib import Path

PI = Conditions(device="Pi")


def steady() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latency (s), power (W) and energy (J) that belong together: 22 layers of 20 to 90 ms at 3 to 4 W, a skip of 1 ms."""
    rows, columns = np.meshgrid(np.arange(22), np.arange(9), indexing="ij")
    latency = 0.02 + 0.001 * rows + 0.005 * columns + 0.0001 * (rows * columns % 7)
    latency[:, 8] = 0.001 + 0.00001 * np.arange(22)
    power = 3.0 + 0.1 * ((3 * rows + 2 * columns) % 11)
    return latency, power, latency * power


def written(path: Path, values: np.ndarray) -> Path:
    path.write_text("\n".join(" ".join(f"{value:.9g}" for value in row) for row in values) + "\n")
    return path


def said(latency: np.ndarray, energy: np.ndarray | None = None, power: np.ndarray | None = None) -> list[str]:
    in_mj, in_mw = (None if values is None else values * 1e3 for values in (energy, power))
    return doubts(latency * 1e3, in_mj, in_mw, BLOCKS)


def test_values_come_back_as_arrays_in_ms_and_mj(tmp_path: Path) -> None:
    latency, power, energy = steady()
    files = [written(tmp_path / name, values) for name, values in (("t", latency), ("e", energy), ("p", power))]
    out = tmp_path / "pi.lut.jsonl"
    imported, _ = import_tables([files[0]], out, PI, energy=files[1], power=files[2])
    assert imported.notices == ()
    lut = read_lut(out)
    table = read_block_table(lut)
    assert table.layers == tuple(range(1, 23))
    assert table.blocks == BLOCKS
    np.testing.assert_allclose(table.latency_ms, latency * 1e3, rtol=1e-6)
    np.testing.assert_allclose(table.energy_mj, energy * 1e3, rtol=1e-6)
    first = lut.cell("named block, no ONNX fragment: layer=1 block=k3_e1", ())
    assert first is not None
    assert first.latency_ms is not None
    assert (first.latency_ms.median, first.latency_ms.n, dict(first.power_mw)) == (20.0, 1, {"supply": 3000.0})
    (session,) = lut.sessions.values()
    assert session.settings["licence"] == "unknown"
    assert session.settings["imported_from"] == "t, e, p"


def test_unit_is_what_the_user_says(tmp_path: Path) -> None:
    latency, _, _ = steady()
    imported, lut = import_tables(
        [written(tmp_path / "t", latency * 1e3)], tmp_path / "o.lut.jsonl", Conditions(device="Pi", unit="ms")
    )
    assert imported.notices == ()
    np.testing.assert_allclose(read_block_table(lut).latency_ms, latency * 1e3, rtol=1e-6)


def test_tables_that_belong_together_give_no_doubt() -> None:
    latency, power, energy = steady()
    assert said(latency, energy, power) == []


@pytest.mark.parametrize("factor", [1e3, 1e-5])
def test_unit_of_latency_that_cannot_be_is_said(factor: float) -> None:
    latency, _, _ = steady()
    (text,) = said(latency * factor)
    assert text.startswith("The unit of latency looks wrong")


def test_unit_of_energy_that_cannot_be_is_said() -> None:
    latency, _, energy = steady()
    (text,) = said(latency, energy * 1e3)  # millijoules read as joules: 3.5 kW
    assert text.startswith("The unit of energy by latency looks wrong")


def test_dear_skip_is_said() -> None:
    latency, _, _ = steady()
    latency[:, 8] = latency[:, 0] * np.linspace(0.1, 1.0, 22)
    (text,) = said(latency)
    # 0.1 + 0.9 / 21 * index > 0.25 from index 4 on: 18 layers, the first at 0.271.
    assert "in 18 of 22 layers it costs 0.27 to 1.00 times the cheapest block" in text


def test_energy_that_is_power_times_a_constant_is_said() -> None:
    latency, power, _ = steady()
    assert any("The table of power is that of energy times 3.407" in text for text in said(latency, power / 3.407, power))


def test_column_that_is_another_times_a_constant_is_said() -> None:
    latency, _, _ = steady()
    latency[:, 3] = 1.5 * latency[:, 1]
    (text,) = said(latency)
    assert text.startswith("The latency of k3_e6 is that of k3_e1_g2 times 1.5 in every layer")


def test_energy_of_another_run_is_said() -> None:
    latency, power, energy = steady()
    shuffled = energy * np.where((np.arange(22) % 2)[:, None] == 0, 5.0, 0.2)
    texts = said(latency, shuffled, power)
    assert any(text.startswith("Energy and latency are of different runs") for text in texts)
    assert any(text.startswith("Power does not belong to energy and latency: in 176 of 176 cells") for text in texts)


def test_skip_of_no_energy_has_none_and_is_said(tmp_path: Path) -> None:
    latency, _, energy = steady()
    energy[[0, 5], 8] = 0
    files = [written(tmp_path / "t", latency), written(tmp_path / "e", energy)]
    imported, lut = import_tables([files[0]], tmp_path / "o.lut.jsonl", PI, energy=files[1])
    assert any("The energy of skip is 0 in layers 1, 6:" in text for text in imported.notices)
    missing = np.argwhere(np.isnan(read_block_table(lut).energy_mj))
    assert missing.tolist() == [[0, 8], [5, 8]]


@pytest.mark.parametrize(
    ("row", "column", "word", "complaint"),
    [
        (3, 2, "nan", r"line 4, column 3 \(k3_e3\): nan cannot be"),
        (0, 0, "-0.1", r"line 1, column 1 \(k3_e1\): -0.1 cannot be"),
        (21, 7, "inf", r"line 22, column 8 \(k5_e6\): inf cannot be"),
        (5, 4, "0", r"line 6, column 5 \(k5_e1\): a block that costs nothing"),
        (5, 4, "fast", r"line 6, column 5 \(k5_e1\): 'fast' is not a number"),
        (7, 8, "", r"line 8: 8 columns; a line has 9"),
        (7, 8, "1 1", r"line 8: 10 columns; a line has 9"),
    ],
)
def test_bad_cell_is_an_error_that_names_the_line(tmp_path: Path, row: int, column: int, word: str, complaint: str) -> None:
    words = [[f"{value:.9g}" for value in line] for line in steady()[0]]
    words[row][column] = word
    path = tmp_path / "t.txt"
    path.write_text("\n".join(" ".join(line) for line in words))
    with pytest.raises(FileFormatError, match=complaint):
        import_tables([path], tmp_path / "o.lut.jsonl", PI, format="hanna")
    assert not (tmp_path / "o.lut.jsonl").exists()


@pytest.mark.parametrize(("rows", "complaint"), [(21, "line 21: the table has 21 rows; it needs 22"), (0, "0 rows")])
def test_missing_row_is_an_error(tmp_path: Path, rows: int, complaint: str) -> None:
    path = written(tmp_path / "t.txt", steady()[0][:rows])
    with pytest.raises(FileFormatError, match=complaint):
        import_tables([path], tmp_path / "o.lut.jsonl", PI, format="hanna")


def test_second_table_without_its_option_is_refused(tmp_path: Path) -> None:
    latency, _, energy = steady()
    files = [written(tmp_path / "t", latency), written(tmp_path / "e", energy)]
    with pytest.raises(FileFormatError, match="--energy FILE"):
        import_tables(files, tmp_path / "o.lut.jsonl", PI)
