"""All rules together, as a user meets them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.store import read_lut

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.lut.store import Lut

LUTS = sorted((Path(__file__).parents[3] / "luts").rglob("*.lut.jsonl"))


def test_check_names_everything_doubtful(empty: Callable[[], Any]) -> None:
    table = empty()
    table.session("s1", clocks={"governor": "powersave"}, machine={"other_load": 0.9})
    table.cell("conv", (3, 8), 0.9)  # slower than 16
    table.cell("conv", (3, 16), 0.5, n=3)
    table.cell("conv", (3, 24), 0.6, spread=(0.0, 0.6))
    table.cell("conv", (3, 32), 0.7, spread=(0.0, 1.4), flags=("noisy",))
    table.references([1.0, 1.3])
    table.lut.torn = True
    found = check(table.lut)
    assert [(finding.rule, finding.severity) for finding in found] == [
        ("torn", "warning"),
        ("load", "warning"),
        ("drift", "warning"),
        ("noisy", "warning"),
        ("spread", "warning"),
        ("few-runs", "warning"),
        ("bad-cells", "warning"),
        ("governor", "info"),
    ]
    assert all(finding.why and finding.action for finding in found)


def test_check_of_a_sound_table_is_silent(make_lut: Callable[..., Lut]) -> None:
    assert check(make_lut({"conv": {(3, 8): 1.0, (3, 16): 2.0}})) == []


def test_check_of_an_empty_table_is_an_error(make_lut: Callable[..., Lut]) -> None:
    (found,) = check(make_lut({}))
    assert found.severity == "error"
    assert found.action == "run: netadapt-trt profile PLAN --backend fake --precision fp32 --lut LUT"


@pytest.mark.parametrize("path", LUTS, ids=lambda path: path.stem)
def test_check_of_a_committed_table_says_each_thing_once(path: Path) -> None:
    found = check(read_lut(path))
    assert len({finding.rule for finding in found}) == len(found) < 10
    assert all(len(finding.text) < 200 and finding.severity != "error" for finding in found)


def test_check_copes_with_many_cells_from_within_networks(table: Any) -> None:
    key = "x0[1,a,8,8] Conv(x0 [b,a,1,1] [b])=y0"
    for index in range(600):
        widths = (1 + index * 37 % 251, 1 + index * 53 % 241)
        ms = 0.01 + 1e-6 * widths[0] * widths[1] * (1 + index % 7 / 10)
        table.cell(key, widths, ms, spread=(ms / 20, ms / 10), n=30, context="in_network", neighbours=("conv",))
    assert check(table.lut) == []
