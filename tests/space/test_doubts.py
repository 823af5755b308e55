"""What is said of a table: how it was read, what is a thousand times off, what it leaves out. Nothing is ever changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import FileFormatError
from netadapt_trt.space.doubts import doubts_of
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.table import SpaceTable, read_tables

if TYPE_CHECKING:
    from pathlib import Path

# Four places in two stages; skip only in the stages' second ones.
SPACE = Space(
    name="four",
    input_shape=(3, 16, 16),
    num_classes=4,
    stem=Stem(channels=4),
    stages=(Stage(4, 2, 1), Stage(8, 2, 2)),
    blocks=(Block("a", 3, 1), Block("b", 3, 3), Block("c", 5, 6)),
    head_channels=8,
)
MS = np.array([[1.0, 3.0, 5.0, 0.0], [2.0, 4.0, 10.0, 0.0], [3.0, 6.0, 9.0, 0.0], [4.0, 8.0, 16.0, 0.0]])
BY_HAND_MS = 9 / 3 + 16 / 4 + 18 / 3 + 28 / 4
"""20 ms: the mean of the three blocks in layers 1 and 3, of three blocks and a free skip in layers 2 and 4."""
LOUD = "A UNIT MAY BE WRONG BY A THOUSAND"


def said(tmp_path: Path, milliseconds: np.ndarray, watts: float | None, *, joules: np.ndarray | None = None) -> list[str]:
    """Notices of text tables in seconds and joules: these latencies, and energies at ``watts``."""
    files = [tmp_path / "latency.txt"]
    np.savetxt(files[0], milliseconds / 1e3, fmt="%.9g")
    if watts is not None:
        files.append(tmp_path / "energy.txt")
        np.savetxt(files[1], milliseconds / 1e3 * watts if joules is None else joules, fmt="%.9g")
    return list(read_tables(SPACE, files).notices)


def loud(notices: list[str]) -> list[str]:
    return [text for text in notices if text.startswith(LOUD)]


def far_off(notices: list[str]) -> list[str]:
    return [text for text in notices if "is far off in" in text]


def test_a_right_table_says_how_it_was_read(tmp_path: Path) -> None:
    assert BY_HAND_MS == 20
    found = said(tmp_path, MS, 65.0)
    assert found[0] == (
        "LAT 0.02 s, ENER 1.3 J, mean power 65 W (all blocks alike): read as seconds and joules; "
        "compare them with your device"
    )
    assert not loud(found)
    assert not far_off(found)


def test_latency_alone_says_how_it_was_read(tmp_path: Path) -> None:
    found = said(tmp_path, MS, None)
    assert found[0] == "LAT 0.02 s (all blocks alike): read as seconds; compare it with your device"
    assert not far_off(found)


@pytest.mark.parametrize(
    ("watts", "latency", "energy", "power"),
    [
        (65.0, 1.0, 1e-3, "0.065 W is less than"),  # a processor's energies in kilojoules
        (65.0, 1e3, 1.0, "0.065 W is less than"),  # its latencies in milliseconds
        (1.0, 1.0, 1e3, "1000 W is more than"),  # a board's energies in millijoules
        (1.0, 1e-3, 1.0, "1000 W is more than"),
    ],
)
def test_a_unit_off_by_a_thousand_is_said_on_ordinary_devices(
    watts: float, latency: float, energy: float, power: str, tmp_path: Path
) -> None:
    found = said(tmp_path, MS * latency, watts, joules=MS / 1e3 * watts * energy)
    (text,) = loud(found)
    assert f"a mean power of {power}" in text
    assert found.index(text) == 1
    assert f"LAT {0.02 * latency:.4g} s, ENER {0.02 * watts * energy:.4g} J" in found[0]


def test_the_numbers_are_not_changed(tmp_path: Path) -> None:
    said(tmp_path, MS, 65.0, joules=MS / 1e3 * 65.0 / 1e3)
    table = read_tables(SPACE, [tmp_path / "latency.txt", tmp_path / "energy.txt"])
    assert table.energy((0, 0, 0, 0)) == pytest.approx((1 + 2 + 3 + 4) * 0.065)


def test_what_no_device_draws_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"would be 0.001 W"):
        said(tmp_path, MS * 1e3, 1.0, joules=MS / 1e3)
    with pytest.raises(FileFormatError, match=r"would be 6.5e\+04 W"):
        said(tmp_path, MS, 65.0, joules=MS * 65.0)


def test_one_row_in_another_unit_is_named(tmp_path: Path) -> None:
    """Medians of the blocks by layer: 3, 4, 6, 8 ms; layer 2 becomes 0.004 against a median of 6 of the others."""
    spoilt = MS.copy()
    spoilt[1] /= 1e3
    (text,) = far_off(said(tmp_path, spoilt, 5.0, joules=MS / 1e3 * 5.0))
    assert text.startswith("The latency is far off in layer 2 (1500 times below the other layers): a unit or a digit may be")


def test_one_cell_of_the_energy_is_named(tmp_path: Path) -> None:
    """6 J for 6 mJ: against 3 and 9 mJ in its layer, whose middle is 5.2 (of logarithms), 3, 4 and 8 in its column."""
    joules = MS / 1e3
    joules[2, 1] *= 1e3
    (text,) = far_off(said(tmp_path, MS, 1.0, joules=joules))
    times = 6000 / math.sqrt(3 * 9)
    assert f"The energy is far off in b in layer 3 ({times:.0f} times above the rest of its row or column): a unit" in text


def test_one_column_in_another_unit_is_named(tmp_path: Path) -> None:
    spoilt = MS.copy()
    spoilt[:, 0] *= 1e3
    found = far_off(said(tmp_path, spoilt, 5.0))
    assert all("block a (" in text and "in layer" not in text for text in found)
    assert [text.split()[1] for text in found] == ["latency", "energy"]


def test_where_nobody_knows_which_half_is_right_both_are_named(tmp_path: Path) -> None:
    spoilt = MS.copy()
    spoilt[:2] /= 1e3
    (text,) = far_off(said(tmp_path, spoilt, None))
    assert all(f"layer {number} (" in text for number in (1, 2, 3, 4))


def test_a_cheap_skip_is_nothing_far_off(tmp_path: Path) -> None:
    with_skip = MS.copy()
    with_skip[:, 3] = 0.0001
    assert not far_off(said(tmp_path, with_skip, 5.0))


def of(latency: float, energy: float, *, has_energy: bool = True) -> SpaceTable:
    costs = np.where(MS > 0, MS, np.nan)
    costs[[1, 3], 3] = 0.0
    energies = costs * 5.0 if has_energy else np.full(costs.shape, np.nan)
    return SpaceTable(SPACE, costs, energies, fixed_latency_ms=latency, fixed_energy_mj=energy, source="by hand")


def test_what_is_left_out_is_said() -> None:
    def left_out(table: SpaceTable) -> list[str]:
        return [text for text in doubts_of(table, "measured", "measured") if text.startswith("What the first and the last")]

    assert left_out(of(1.0, 1.0)) == []
    assert left_out(of(1.0, 0.0, has_energy=False)) == []
    assert "whole latency and energy will be larger" in left_out(of(0.0, 0.0))[0]
    assert "whole latency will be larger" in left_out(of(0.0, 0.0, has_energy=False))[0]
    assert "whole energy will be larger" in left_out(of(1.0, 0.0))[0]


def test_a_measured_table_without_energy_needs_no_word_on_units() -> None:
    assert doubts_of(of(1.0, 0.0, has_energy=False), "measured", "measured") == ()
    (text,) = doubts_of(of(1.0, 5.0), "measured", "measured")
    assert "ENER 0.105 J, mean power 5 W (all blocks alike): read as milliseconds and millijoules;" in text


def test_a_space_of_one_layer_or_one_block_has_nobody_to_compare_with() -> None:
    single = Space("one", (3, 8, 8), 4, Stem(4, 3, 1), (Stage(4, 1, 1),), (Block("a", 3, 1),), 8, skip=False)
    table = SpaceTable(single, np.array([[5.0]]), np.array([[np.nan]]), fixed_latency_ms=1.0)
    assert doubts_of(table, "measured", "measured") == ()
    three = Space("three", (3, 8, 8), 4, Stem(4, 3, 1), (Stage(4, 1, 1),), SPACE.blocks, 8, skip=False)
    table = SpaceTable(three, np.array([[1.0, 2.0, 3000.0]]), np.full((1, 3), np.nan), fixed_latency_ms=1.0)
    (text,) = doubts_of(table, "measured", "measured")
    assert "block c (2121 times above the other blocks)" in text
