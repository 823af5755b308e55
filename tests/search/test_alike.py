"""Candidates begin alike: nested kernels and widths, grouped ones the diagonal, residual ones as skipping."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from netadapt_trt.search.alike import start_alike
from netadapt_trt.search.steps import generator_of
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.zoo.block_network import InvertedResidual, make_block

if TYPE_CHECKING:
    from torch import nn

SPACE = Space(
    name="nested",
    input_shape=(3, 8, 8),
    num_classes=4,
    stem=Stem(channels=8),
    stages=(Stage(8, 1, 1), Stage(12, 1, 2)),
    blocks=(
        Block("k3_e1", 3, 1),
        Block("k3_e2_g2", 3, 2, 2),
        Block("k3_e4", 3, 4),
        Block("k5_e2", 5, 2),
        Block("k5_e4", 5, 4),
        Block("k7_e4_g4", 7, 4, 4),
    ),
    head_channels=16,
    skip=False,
)


@pytest.fixture
def candidates() -> list[nn.Module]:
    """Of the second place, whose shapes change."""
    torch.manual_seed(0)
    found = [make_block(SPACE, SPACE.places[1], column, statistics=False) for column in range(6)]
    start_alike(found)
    return found


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn(6, 8, 5, 5, generator=generator_of(1))


def weight(block: nn.Module, part: str) -> torch.Tensor:
    found = getattr(block, part).conv.weight.detach()
    assert isinstance(found, torch.Tensor)
    return found


def convolution(unit: nn.Module) -> torch.Tensor:
    """The weights themselves, to be written to."""
    return unit.get_parameter("conv.weight")


def test_kernels_of_all_sizes_compute_the_same(candidates: list[nn.Module], values: torch.Tensor) -> None:
    torch.testing.assert_close(candidates[2](values), candidates[4](values))
    assert weight(candidates[4], "depthwise")[:, :, 0].abs().max() == 0
    assert weight(candidates[5], "depthwise")[..., :2, :].abs().max() == 0
    assert weight(candidates[5], "depthwise")[..., 2:5, 2:5].abs().min() > 0


def test_fewer_channels_are_the_first_of_more(candidates: list[nn.Module]) -> None:
    for block in (candidates[0], candidates[3]):
        wide = weight(block, "expand").shape[0]
        torch.testing.assert_close(weight(block, "expand"), weight(candidates[4], "expand")[:wide])
        torch.testing.assert_close(weight(block, "project"), weight(candidates[4], "project")[:, :wide])


@pytest.mark.parametrize(("column", "groups"), [(1, 2), (5, 4)])
def test_grouped_ones_are_whole_ones_with_holes(
    candidates: list[nn.Module], values: torch.Tensor, column: int, groups: int
) -> None:
    """A whole block that sees only what the groups let through, channels in their order before the shuffle."""
    block = SPACE.blocks[column]
    whole = make_block(replace(SPACE, blocks=(replace(block, groups=1),)), SPACE.places[1], 0, statistics=False)
    assert isinstance(whole, InvertedResidual)
    wide, inner = 8 * block.expansion, 8 * block.expansion // groups
    shuffled = torch.arange(wide).view(groups, inner).T.flatten()  # what the project's groups see, one after the other
    with torch.no_grad():
        for part in ("expand", "depthwise", "project"):
            getattr(whole, part).conv.weight.zero_()
        largest = candidates[4]
        for group in range(groups):
            rows, into = slice(group * inner, (group + 1) * inner), slice(group * 8 // groups, (group + 1) * 8 // groups)
            convolution(whole.expand)[rows, into] = weight(largest, "expand")[rows, into]
            seen, out = shuffled[rows], slice(group * 12 // groups, (group + 1) * 12 // groups)
            convolution(whole.project)[out, seen] = weight(largest, "project")[out, seen]
        edge = (block.kernel - 3) // 2
        middle = slice(edge, edge + 3)
        convolution(whole.depthwise)[..., middle, middle] = weight(largest, "depthwise")[:wide, :, 1:4, 1:4]
    torch.testing.assert_close(candidates[column](values), whole(values))


def test_residual_ones_begin_as_skipping(values: torch.Tensor) -> None:
    blocks = [make_block(SPACE, SPACE.places[0], column, statistics=False) for column in range(6)]
    start_alike(blocks)
    for block in blocks:
        torch.testing.assert_close(block(values), values)


def test_what_has_no_whole_block_stays_as_it_was() -> None:
    space = replace(SPACE, blocks=(Block("k3_e2_g2", 3, 2, 2), Block("k5_e2_g2", 5, 2, 2)))
    blocks = [make_block(space, space.places[1], column, statistics=False) for column in range(2)]
    before = [weight(block, "expand").clone() for block in blocks]
    start_alike(blocks)
    assert all(torch.equal(weight(block, "expand"), old) for block, old in zip(blocks, before, strict=True))


def test_without_batch_norm_weights_are_cut_all_the_same() -> None:
    space = replace(SPACE, batch_norm=False)
    blocks = [make_block(space, space.places[0], column, statistics=False) for column in range(6)]
    start_alike(blocks)
    torch.testing.assert_close(weight(blocks[0], "expand"), weight(blocks[4], "expand")[:8])
