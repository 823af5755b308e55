"""Grouped convolutions and channel shuffles: a group's channel is a unit of one channel of each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.export import export_onnx
from netadapt_trt.graph.importance import importance
from netadapt_trt.graph.network import open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.graph.surgery import cut, cut_to_widths
from netadapt_trt.graph.trace import trace
from netadapt_trt.plan.write import op_shapes, write_network
from netadapt_trt.space.store import load_space
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

    MaskTest = Callable[..., Channels]

SHAPE = (1, 3, 8, 8)


def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    """As ShuffleNet's authors write it."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Sandwich(nn.Module):
    """conv ``a`` of 16 channels -> something in the middle -> conv ``b`` -> ``fc``."""

    def __init__(self, between: nn.Module, out: int = 16) -> None:
        super().__init__()
        self.a, self.between = nn.Conv2d(3, 16, 3), between
        self.b, self.fc = nn.Conv2d(out, 6, 1), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.between(self.a(x))).relu().mean((2, 3)))  # type: ignore[no-any-return]


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return shuffled(x, self.groups)


class Block(nn.Module):
    """FBNet's block: 1x1, shuffle where grouped, depthwise, 1x1, residual."""

    def __init__(self, channels: int, expansion: int, groups: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.up = nn.Sequential(nn.Conv2d(channels, wide, 1, groups=groups, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.shuffle = Shuffle(groups) if groups > 1 else nn.Identity()
        self.depth = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(wide, channels, 1, groups=groups, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.depth(self.shuffle(self.up(x))))  # type: ignore[no-any-return]


class Blocks(nn.Sequential):
    def __init__(self, *blocks: tuple[int, int]) -> None:
        """(expansion, groups) of each block."""
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(Block(16, expansion, groups) for expansion, groups in blocks),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )


def sizes(channels: Channels) -> dict[str, int]:
    return {group.name: group.size for group in channels.prunable}


def segments(channels: Channels) -> dict[tuple[str, int], list[tuple[str | None, int, int]]]:
    return {(s.parameter, s.dim): [(p.group, p.channels, p.inner) for p in s.layout] for s in channels.slices}


def test_grouped_convolution_reads_and_makes_units_of_one_channel_of_each_group(mask_test: MaskTest) -> None:
    channels = mask_test(Sandwich(nn.Conv2d(16, 12, 3, groups=2), out=12), SHAPE)

    assert sizes(channels) == {"a": 8, "between": 6, "b": 6}
    assert channels.unsupported == ()
    found = segments(channels)
    assert found["a.weight", 0] == [("a", 8, 1), ("a", 8, 1)]
    assert found["between.weight", 0] == found["between.bias", 0] == [("between", 6, 1), ("between", 6, 1)]
    assert found["between.weight", 1] == [("a", 8, 1)]
    assert found["b.weight", 1] == [("between", 6, 1), ("between", 6, 1)]
    assert {s.parameter: s.role for s in channels.slices if s.dim == 1}["between.weight"] == "consume"


def test_cut_keeps_the_same_channels_of_each_group(groups_of: Callable[..., Channels]) -> None:
    model = Sandwich(nn.Conv2d(16, 12, 3, groups=2), out=12)
    channels = groups_of(model, SHAPE)

    small = cut(model, channels, {"a": [1, 6], "between": [0, 2, 5]})

    grouped = small.get_submodule("between")
    assert isinstance(grouped, nn.Conv2d)
    assert (grouped.groups, grouped.in_channels, grouped.out_channels) == (2, 4, 6)
    whole = model.get_parameter("between.weight")
    assert torch.equal(grouped.weight, whole[[0, 2, 5, 6, 8, 11]][:, [1, 6]])
    assert torch.equal(small.get_parameter("a.weight"), model.a.weight[[1, 6, 9, 14]])


def test_grouped_convolution_of_one_channel_a_group_is_no_depthwise_one(groups_of: Callable[..., Channels]) -> None:
    """Its weight looks like one, but its filters are still cut group by group, twice over."""
    model = Sandwich(nn.Conv2d(16, 12, 3, groups=2), out=12)
    channels = groups_of(model, SHAPE)

    once = cut(model, channels, {"a": [3]})
    twice = cut(once, channels.resized({"a": 1}), {"between": [1, 4]})

    grouped = twice.get_submodule("between")
    assert isinstance(grouped, nn.Conv2d)
    assert (grouped.groups, grouped.in_channels, grouped.out_channels) == (2, 2, 4)
    at_once = cut(model, channels, {"a": [3], "between": [1, 4]})
    picture = torch.randn(2, *SHAPE[1:])
    assert torch.equal(twice(picture), at_once(picture))


@pytest.mark.parametrize("groups", [4, 8])
def test_cardinality_stays_where_bottlenecks_shrink(groups: int, mask_test: MaskTest) -> None:
    """ResNeXt: as many groups as before, each narrower."""
    channels = mask_test(Sandwich(nn.Conv2d(16, 16, 3, padding=1, groups=groups, bias=False)), SHAPE)

    assert sizes(channels) == {"a": 16 // groups, "between": 16 // groups, "b": 6}


def test_thousands_of_groups_are_no_deep_nest(groups_of: Callable[..., Channels]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4096, 1), nn.Conv2d(4096, 4096, 1, groups=2048), nn.ReLU(), nn.Conv2d(4096, 4, 1))

    assert sizes(groups_of(model, SHAPE)) == {"0": 2, "1": 2}


def test_shuffle_makes_pairs(mask_test: MaskTest) -> None:
    channels = mask_test(Sandwich(Shuffle(2)), SHAPE)

    assert sizes(channels) == {"a": 8, "b": 6}
    assert channels.unsupported == ()
    # Channel i of the first half and of the second lie side by side afterwards.
    assert segments(channels)["b.weight", 1] == [("a", 8, 2)]


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_shuffle_operator_is_cut_like_the_views(groups: int, mask_test: MaskTest) -> None:
    model = Sandwich(nn.ChannelShuffle(groups))

    channels = mask_test(model, SHAPE)

    assert sizes(channels) == {"a": 16 // groups, "b": 6}
    assert find_channel_groups(trace(model, SHAPE)).unsupported == ()


def test_shuffle_twice_makes_units_of_four(mask_test: MaskTest) -> None:
    channels = mask_test(Sandwich(nn.Sequential(Shuffle(2), nn.ReLU(), Shuffle(2))), SHAPE)

    assert sizes(channels) == {"a": 4, "b": 6}
    # 0 8 1 9 2 10 ... after the first; halves of those, interleaved, put channels 0, 4, 8 and 12 next to each other.
    assert segments(channels)["b.weight", 1] == [("a", 4, 4)]


def test_residual_around_a_shuffle_cannot_be_cut(mask_test: MaskTest) -> None:
    class Around(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + shuffled(x, 2)

    channels = mask_test(Sandwich(Around()), SHAPE)

    # Channel 1 meets channel 8, that channel 4, that channel 2, that channel 1 again: what is left is no block.
    assert "a" not in sizes(channels)
    assert sizes(channels)["b"] == 6


def test_convolution_behind_a_shuffle_reads_units_of_each_group(mask_test: MaskTest) -> None:
    """Two grouped convolutions with a shuffle between them: a half of a half of each, so units of four."""
    between = nn.Sequential(nn.Conv2d(16, 24, 1, groups=2), Shuffle(2), nn.Conv2d(24, 12, 1, groups=2))

    channels = mask_test(Sandwich(between, out=12), SHAPE)

    assert sizes(channels) == {"a": 8, "between.0": 6, "between.2": 6, "b": 6}
    found = segments(channels)
    assert found["between.0.weight", 0] == [("between.0", 6, 1)] * 4
    assert found["between.2.weight", 1] == [("between.0", 6, 2)]


def test_groups_that_do_not_divide_the_shuffled_pairs_are_refused(mask_test: MaskTest) -> None:
    between = nn.Sequential(nn.Conv2d(16, 6, 1, groups=2), Shuffle(2), nn.Conv2d(6, 12, 1, groups=2))

    channels = mask_test(Sandwich(between, out=12), SHAPE)

    # Three filters a group, in pairs after the shuffle: half of them is one pair and a half.
    assert "grouped convolution (groups=2) in between.2" in channels.groups["between.0"].reason
    assert any("between.2" in text for text in channels.unsupported)
    assert sizes(channels) == {"a": 8, "between.2": 6, "b": 6}


def test_blocks_of_fbnet_share_the_units_of_their_residuals(mask_test: MaskTest) -> None:
    model = Blocks((1, 2), (3, 1), (6, 2))

    channels = mask_test(model, SHAPE)

    assert sizes(channels) == {"0.0": 8, "1.up.0": 4, "2.up.0": 48, "3.up.0": 24}
    assert channels.unsupported == ()
    found = segments(channels)
    assert found["2.up.0.weight", 1] == [("0.0", 8, 1)] * 2
    assert found["3.up.0.weight", 1] == [("0.0", 8, 1)]
    assert found["3.depth.0.weight", 0] == [("3.up.0", 24, 2)] * 2
    assert found["3.down.0.weight", 1] == [("3.up.0", 24, 2)]
    # All but the scores, which are the network's output, can shrink: 4 biases.
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert channels.prunable_share(model) == pytest.approx(1 - 4 / parameters)


def test_random_rows_of_blocks_pass_the_mask_test(mask_test: MaskTest) -> None:
    generator = torch.Generator().manual_seed(1)
    for seed in range(6):
        drawn = torch.randint(0, 4, (4,), generator=generator).tolist()
        mask_test(Blocks(*([(1, 1), (1, 2), (3, 2), (2, 4)][kind] for kind in drawn)), SHAPE, seed=seed)


def test_shared_grouped_weight_is_cut_once(mask_test: MaskTest) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.grouped(self.grouped(x).relu())  # type: ignore[no-any-return]

    channels = mask_test(Sandwich(Twice()), SHAPE)

    # What it makes, it reads: one set of channels.
    assert sizes(channels) == {"a": 8, "b": 6}


def test_importance_adds_over_the_channels_of_a_unit(groups_of: Callable[..., Channels]) -> None:
    model = Sandwich(nn.Conv2d(16, 12, 3, groups=2), out=12)
    channels = groups_of(model, SHAPE)

    scores = importance(model, channels, "a", "l2")

    squares = model.a.weight.detach().double().square().sum((1, 2, 3))
    assert torch.allclose(scores, (squares[:8] + squares[8:]).sqrt())
    absolute = model.a.weight.detach().double().abs().sum((1, 2, 3))
    assert torch.allclose(importance(model, channels, "a", "l1"), absolute[:8] + absolute[8:])


class NumbersInCode(nn.Module):
    """Views whose numbers of channels are written out, which only the trial cut shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, 2, 8, 6, 6).transpose(1, 2).reshape(-1, 16, 6, 6)


class RowsOfPairs(nn.Module):
    """The number of rows follows the channels, not their length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return functional.relu(x.view(n, c // 2, 2, h, w).transpose(1, 2)).reshape(n, c, h, w)


@pytest.mark.parametrize("between", [NumbersInCode(), RowsOfPairs()], ids=["numbers", "rows"])
def test_shuffle_whose_code_does_not_follow_is_found_by_trying(between: nn.Module) -> None:
    channels = find_channel_groups(trace(Sandwich(between), SHAPE))

    assert sizes(channels) == {"b": 6}
    assert "does not follow its cut" in channels.groups["a"].reason


@pytest.mark.parametrize(
    "blocks", [["k3_e1_g2"] * 7, ["k5_e3", "k3_e1_g2", "k5_e1_g2", "k3_e6", "skip", "k5_e1_g2", "k3_e1_g2"]]
)
def test_children_of_a_space_are_prunable_and_their_plans_agree(blocks: list[str]) -> None:
    space = load_space("fbnet-small")
    names = [blocks[index % len(blocks)] for index in range(len(space.places))]
    offered = [{space.columns[column] for column in place.candidates} for place in space.places]
    names = [name if name in known else "k3_e1_g2" for name, known in zip(names, offered, strict=True)]
    args = {"space": "fbnet-small", "blocks": "+".join(names)}
    spec = ModelSpec(model="zoo:block_network", input_shape=(1, *space.input_shape), args=args)

    network = open_network(spec)
    plan = make_plan(network)

    assert network.channels.unsupported == ()
    assert {group.reason for group in network.channels.groups.values() if not group.prunable} == {"network output"}
    assert network.channels.prunable_share(network.model) > 0.99
    widths = {group.name: max(1, group.size // 3) for group in plan.groups}
    small = cut_to_widths(network.model, network.channels, widths)
    written = onnx.load_from_string(write_network(plan, widths, opset=20, ir_version=9))
    onnx.checker.check_model(written, full_check=True)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.uniform_(0.5, 1.5)
    assert op_shapes(written) == op_shapes(export_onnx(small, spec.input_shape))
