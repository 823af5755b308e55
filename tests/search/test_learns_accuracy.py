"""Theta follows accuracy, with nothing but the cross-entropy in its loss."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from netadapt_trt.search.cost import ExpectedCost
from netadapt_trt.search.steps import generator_of, step_theta
from netadapt_trt.search.supernet import Supernet
from netadapt_trt.search.theta import Theta
from netadapt_trt.space.knobs import Knobs
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.table import SpaceTable

if TYPE_CHECKING:
    from netadapt_trt.search.settings import Paths

PLANTED = (2, 0, 1)
"""Of three blocks in each of three places; no place can be passed over, since all of them change the picture's size."""


@pytest.fixture(scope="module")
def space() -> Space:
    blocks = (Block("k3_e1", 3, 1), Block("k3_e2", 3, 2), Block("k5_e1", 5, 1))
    stages = tuple(Stage(channels, 1, 2) for channels in (8, 12, 16))
    return Space("planted", (1, 16, 16), 4, Stem(8, 3, 1), stages, blocks, head_channels=16, skip=False)


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes: which quarter of the picture is bright."""
    labels = torch.arange(64) % 4
    images = torch.randn(64, 1, 16, 16, generator=generator_of(1)) * 0.3
    for number, label in enumerate(labels.tolist()):
        images[number, 0, label // 2 * 8 : label // 2 * 8 + 8, label % 2 * 8 : label % 2 * 8 + 8] += 2
    return images, labels


def trained(space: Space, batch: tuple[torch.Tensor, torch.Tensor], paths: Paths) -> Supernet:
    """Only the planted path is trained: what the other blocks hand on is of the same size, and noise."""
    torch.manual_seed(0)
    found = Supernet(space, 4, nested=paths == "sampled")
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        loss = nn.functional.cross_entropy(found.path(batch[0], PLANTED), batch[1])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert float(loss.detach()) < 0.2  # guessing is 1.39
    with torch.no_grad():
        for parameter in found.places.parameters():
            if parameter.grad is not None:  # what was not trained: nested kernels begin with nothing around their middle
                parameter.add_(torch.randn_like(parameter) * (parameter.grad == 0))
        losses = {
            path: float(nn.functional.cross_entropy(found.path(batch[0], path), batch[1]))
            for path in itertools.product(range(3), repeat=3)
        }
    assert min(losses, key=losses.__getitem__) == PLANTED
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("paths", ["all", "sampled"])
def test_theta_finds_the_blocks_that_help_accuracy(
    space: Space, batch: tuple[torch.Tensor, torch.Tensor], paths: Paths, seed: int
) -> None:
    """Costs are alike and weigh nothing: only the cross-entropy can lead there."""
    supernet, theta = trained(space, batch, paths), Theta(space)
    optimizer = torch.optim.Adam([theta.values], lr=0.1)
    alike = SpaceTable(space, np.full((3, 3), 1.0), np.full((3, 3), np.nan))
    for step in range(120):
        step_theta(
            supernet, theta, optimizer, batch, paths=paths, temperature=1.0, generator=generator_of(seed, step),
            cost=ExpectedCost(alike), knobs=Knobs(alpha=0.0),
        )  # fmt: skip
    assert theta.argmax() == PLANTED
