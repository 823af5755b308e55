from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from netadapt_trt.progress import QuietProgress
from netadapt_trt.search.board import heat_map, search_board

if TYPE_CHECKING:
    from pathlib import Path


def test_heat_map_is_white_for_none_dark_for_all_and_grey_for_nothing() -> None:
    picture = heat_map(np.array([[0.0, 1.0], [0.5, np.nan]]), np.array([[True, True], [True, False]]))
    assert picture.shape == (3, 32, 32)
    assert picture[:, 0, 0].tolist() == [255, 255, 255]
    assert picture[:, 0, 16].tolist() == [8, 48, 107]
    assert len({tuple(picture[:, row, 20]) for row in range(16, 32)}) == 1
    assert picture[:, 31, 31].tolist() == [215, 215, 215]


def test_board_logs_every_figure_and_theta(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    line = {"epoch": 3, "phase": "search", "lat_s": 0.004, "ener_j": None, "entropy": 1.5}
    with search_board(tmp_path, 0) as log:
        log(line, np.array([[0.5, 0.5]]), np.array([[True, True]]))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"search/lat_s", "search/entropy"}
    assert events.Tags()["images"] == ["search/theta"]
    assert [event.step for event in events.Scalars("search/lat_s")] == [3]


def test_board_without_a_directory_writes_nothing() -> None:
    with search_board(None, 0) as log:
        log({"epoch": 1}, np.zeros((1, 1)), np.ones((1, 1), dtype=bool))


class Heard(QuietProgress):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.mark.usefixtures("no_tensorboard")
def test_board_says_once_that_tensorboard_is_missing(tmp_path: Path) -> None:
    said = Heard()
    with search_board(tmp_path / "board", 0, progress=said) as log:
        for epoch in (1, 2):
            log({"epoch": epoch}, np.zeros((1, 1)), np.ones((1, 1), dtype=bool))
    assert len(said.notices) == 1
    assert said.notices[0].startswith("tensorboard is not installed")
    assert not (tmp_path / "board").exists()


@pytest.mark.usefixtures("no_tensorboard")
def test_board_that_nobody_wants_says_nothing() -> None:
    said = Heard()
    with search_board(None, 0, progress=said):
        pass
    assert said.notices == []
