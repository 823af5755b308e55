"""A space small enough to search in a second, with a table whose numbers can be added up by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from netadapt_trt.search.settings import SearchSettings
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import save_space
from netadapt_trt.space.table import SpaceTable

if TYPE_CHECKING:
    from pathlib import Path

LATENCY_MS = [[1.0, 1.5, 3.0, 0.0], [1.25, 2.0, 4.5, 0.0], [0.5, 0.75, 2.0, 0.125]]
ENERGY_MJ = [[2.0, 4.0, 5.0, 0.0], [3.0, 3.5, 8.0, 0.0], [1.0, 2.5, 6.0, 0.25]]
"""Of the three places; the last column is skip, which only the third offers."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Space:
    return Space(
        name="tiny",
        input_shape=(1, 8, 8),
        num_classes=10,
        stem=Stem(channels=8, stride=1),
        stages=(Stage(8, 1, 2), Stage(12, 2, 1)),
        blocks=(Block("k3_e1", 3, 1), Block("k3_e2_g2", 3, 2, 2), Block("k5_e3", 5, 3)),
        head_channels=16,
    )


@pytest.fixture(scope="session")
def table(tiny: Space) -> SpaceTable:
    offered = np.zeros((3, 4), dtype=bool)
    for row, place in enumerate(tiny.places):
        offered[row, list(place.candidates)] = True
    return SpaceTable(
        space=tiny,
        latency_ms=np.where(offered, LATENCY_MS, np.nan),
        energy_mj=np.where(offered, ENERGY_MJ, np.nan),
        fixed_latency_ms=0.5,
        fixed_energy_mj=0.25,
        source="by hand",
    )


@pytest.fixture(scope="session")
def files(tiny: Space, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``space.json``, ``latency.txt`` in seconds and ``energy.txt`` in joules, as HANNA writes them."""
    folder = tmp_path_factory.mktemp("space")
    save_space(tiny, folder / "space.json")
    for name, rows in (("latency.txt", LATENCY_MS), ("energy.txt", ENERGY_MJ)):
        (folder / name).write_text("".join(" ".join(str(value / 1e3) for value in row) + "\n" for row in rows))
    return folder


@pytest.fixture
def settings(files: Path, tmp_path: Path) -> SearchSettings:
    """A search of seconds."""
    return SearchSettings(
        space=str(files / "space.json"),
        tables=(files / "latency.txt", files / "energy.txt"),
        data="digits",
        output=tmp_path / "run",
        alpha=1.0,
        paths="sampled",
        epochs=3,
        warmup_epochs=1,
        batch_size=128,
        theta_learning_rate=0.05,
        tensorboard=False,
        seed=3,
    )
