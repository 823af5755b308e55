from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.search.grid import DOMINANCE, POWERS, SHARES, checked_grid, default_grid, product_grid, read_grid
from netadapt_trt.space.knobs import Knobs, start

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.space.table import SpaceTable


def test_usual_grid_is_thirty_half_of_each_kind(table: SpaceTable) -> None:
    grid = default_grid(table, 10)

    begun = [start(table, knobs) for knobs in grid]
    assert len(grid) == len(set(grid)) == 30
    assert [one.latency_dominance for one in begun[:15]] == pytest.approx([DOMINANCE] * 15, rel=0.02)
    assert [one.energy_dominance for one in begun[15:]] == pytest.approx([DOMINANCE] * 15, rel=0.02)
    # The stronger term begins at these shares of the cross-entropy of guessing one of ten classes.
    wanted = [share * math.log(10) for _ in POWERS for share in SHARES]
    assert [one.vlat for one in begun[:15]] == pytest.approx(wanted, rel=0.01)
    assert [one.vener for one in begun[15:]] == pytest.approx(wanted, rel=0.01)


def test_usual_grid_without_energy_has_its_latency_half(table: SpaceTable) -> None:
    grid = default_grid(replace(table, energy_mj=np.full_like(table.energy_mj, np.nan)), 10)

    assert len(grid) == 15
    assert {knobs.gamma for knobs in grid} == {0.0}


def test_product_of_lists_keeps_defaults_of_what_is_not_named() -> None:
    grid = product_grid(alpha=[1.0, 2.0], delta=[0.3, 0.5])

    usual = Knobs()
    assert [(k.alpha, k.beta, k.gamma, k.delta) for k in grid] == [
        (alpha, usual.beta, usual.gamma, delta) for alpha in (1.0, 2.0) for delta in (0.3, 0.5)
    ]


def test_product_that_is_a_slip_is_refused() -> None:
    with pytest.raises(SpecError, match="625 combinations"):
        product_grid(*([[0.1, 0.2, 0.3, 0.4, 0.5]] * 4))


def test_grid_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    path.write_text('[{"alpha": 0.5, "beta": 1}, {"gamma": 2}]')

    assert read_grid(path) == (Knobs(alpha=0.5, beta=1), Knobs(gamma=2))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[]", FileFormatError, "not a JSON list of knobs"),
        ("{", FileFormatError, "not a JSON list of knobs"),
        ('{"alpha": 1}', FileFormatError, "not a JSON list of knobs"),
        ('[{"alpha": 1}, 3]', FileFormatError, "entry 2"),
        ('[{"alfa": 1}]', FileFormatError, "entry 1"),
        ('[{"beta": -1}]', SpecError, "entry 1: beta is -1"),
        ('[{"alpha": "1"}]', SpecError, "alpha must be a number"),
    ],
)
def test_grid_that_cannot_be_read_says_which_entry(text: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    path.write_text(text)

    with pytest.raises(error, match=said):
        read_grid(path)


def test_grid_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        read_grid(tmp_path / "grid.json")


def test_checked_grid_names_each_point_once_and_what_overflows(table: SpaceTable) -> None:
    twice = [Knobs(alpha=1), Knobs(alpha=2), Knobs(alpha=1)]

    assert [knobs.alpha for knobs, _ in checked_grid(table, twice)] == [1, 2]
    with pytest.raises(SpecError, match="needs knobs"):
        checked_grid(table, [])
    with pytest.raises(SpecError, match="no search can learn"):
        checked_grid(table, [Knobs(alpha=1e40)])
    assert json.dumps(checked_grid(table, twice)[0][0].to_json())
