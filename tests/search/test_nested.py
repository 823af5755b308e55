"""One block holds all candidates of a place: kernels in kernels, fewer channels first, groups the diagonal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from netadapt_trt.search.nested import NestedBlocks
from netadapt_trt.search.steps import generator_of
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.zoo.block_network import InvertedResidual, make_block

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


@pytest.fixture(params=[True, False], ids=["norms", "no-norms"])
def space(request: pytest.FixtureRequest) -> Space:
    return replace(SPACE, batch_norm=request.param)


def stirred(space: Space, place: int) -> NestedBlocks:
    """As if it had learnt: no number is 0 or 1 any more."""
    torch.manual_seed(0)
    found = NestedBlocks(space, space.places[place]).double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return found


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn(6, 8, 5, 5, dtype=torch.float64, generator=generator_of(1))


def child(nested: NestedBlocks, space: Space, place: int, column: int) -> InvertedResidual:
    """The candidate as a block of its own, without groups: what groups do not let through is zero, channel by channel."""
    block = space.blocks[column]
    whole = replace(space, blocks=(replace(block, groups=1),))
    found = make_block(whole, whole.places[place], 0, statistics=False).double()
    assert isinstance(found, InvertedResidual)
    into, out = space.places[place].in_channels, space.places[place].out_channels
    wide, groups = into * block.expansion, block.groups
    inner = wide // groups
    edge = (nested.kernel - block.kernel) // 2
    middle = slice(edge, edge + block.kernel)
    with torch.no_grad():
        units = (found.expand, found.depthwise, found.project)
        for unit in units:
            unit.get_parameter("conv.weight").zero_()
        for channel in range(wide):
            of = channel // inner  # the group it comes from
            for source in range(of * into // groups, (of + 1) * into // groups):
                found.expand.get_parameter("conv.weight")[channel, source] = nested.expand.weight[channel, source]
            # Dealt out like cards: the shuffle moves it behind those that come from the groups before.
            seen_by = (channel % inner * groups + of) // inner
            for target in range(seen_by * out // groups, (seen_by + 1) * out // groups):
                found.project.get_parameter("conv.weight")[target, channel] = nested.project.weight[target, channel]
            if not space.batch_norm:  # sums over fewer channels, scaled up to those over all
                found.expand.get_parameter("conv.weight")[channel] *= groups**0.5
            found.depthwise.get_parameter("conv.weight")[channel] = nested.depthwise.weight[channel, :, middle, middle]
        if not space.batch_norm:
            found.project.get_parameter("conv.weight").mul_((32 / (wide / groups)) ** 0.5)  # 8 channels, at most 4 times
        for number, (unit, convolution) in enumerate(
            zip(units, (nested.expand, nested.depthwise, nested.project), strict=True)
        ):
            size = out if number == 2 else wide
            if space.batch_norm:
                unit.get_parameter("norm.weight").copy_(nested.norms[number].get_parameter("weight")[:size])
                unit.get_parameter("norm.bias").copy_(nested.norms[number].get_parameter("bias")[:size])
            else:
                assert convolution.bias is not None
                unit.get_parameter("conv.bias").copy_(convolution.bias[:size])
    return found


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("column", range(len(SPACE.blocks)))
def test_each_candidate_is_the_block_that_its_part_of_the_weights_makes(
    space: Space, values: torch.Tensor, place: int, column: int
) -> None:
    nested = stirred(space, place)
    torch.testing.assert_close(nested(values, column), child(nested, space, place, column)(values))


def test_what_one_candidate_learns_all_of_them_learn(values: torch.Tensor) -> None:
    nested = stirred(SPACE, 1)
    torch.autograd.backward(nested(values, 0).square().sum())  # 3x3, expansion 1: the first 8 channels, the middle
    gradient = nested.depthwise.weight.grad
    assert gradient is not None
    assert torch.count_nonzero(gradient) == 8 * 3 * 3
    assert torch.count_nonzero(gradient[:8, :, 2:5, 2:5]) == 8 * 3 * 3


def test_kernels_of_all_sizes_begin_with_computing_the_same(values: torch.Tensor) -> None:
    nested = NestedBlocks(SPACE, SPACE.places[1]).double()
    torch.testing.assert_close(nested(values, 2), nested(values, 4))


def test_residual_ones_begin_as_skipping(space: Space, values: torch.Tensor) -> None:
    nested = NestedBlocks(space, space.places[0]).double()
    for column in range(len(SPACE.blocks)):
        torch.testing.assert_close(nested(values, column), values)


def test_skip_hands_on_its_input(values: torch.Tensor) -> None:
    space = replace(SPACE, skip=True, stages=(Stage(8, 2, 1),))
    nested = NestedBlocks(space, space.places[1])
    assert nested(values, len(space.blocks)) is values


def test_without_norms_no_candidate_fades_or_explodes() -> None:
    """Six layers that change the number of channels. Weights drawn for a ReLU behind them double the variance: 2^6."""
    torch.manual_seed(0)
    stages = tuple(Stage(channels, 1, 1) for channels in (16, 24, 16, 24, 16, 24))
    space = replace(SPACE, batch_norm=False, stages=stages)
    places = [NestedBlocks(space, place) for place in space.places]
    for column in range(len(space.blocks)):
        values = torch.randn(4, 8, 8, 8, generator=generator_of(2))
        for place in places:
            values = place(values, column)
        assert 8 / 5 < float(values.detach().std()) < 8 * 5
