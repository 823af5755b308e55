"""What cannot be cut is frozen and listed, and what stands beside it still passes the mask test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.graph.channel_groups import find_channel_groups
from netadapt_trt.graph.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.graph.channels import Channels

SHAPE = (1, 3, 8, 8)


class Sandwich(nn.Module):
    """conv ``a`` -> something in the middle -> conv ``b`` -> ``fc``."""

    def __init__(self, between: nn.Module | None = None, out: int = 8) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(out, 6, 1), nn.Linear(6, 4)
        if between is not None:
            self.between = between

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.between(x)  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.middle(self.a(x))).relu().mean((2, 3)))  # type: ignore[no-any-return]


class OddShuffle(Sandwich):
    """The rows of the second shuffle are the positions of one channel of the first: all would be one channel."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unshuffled(Sandwich):
    """A shuffle and its inverse: here the first of the new dimensions is the one that shrinks."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).relu()
        return x.view(n, c // 2, 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class GroupedMaps(Sandwich):
    """The blocks of a grouped convolution would divide the maps of channels."""

    def __init__(self) -> None:
        super().__init__(out=32)
        self.grouped = nn.Conv2d(288, 32, 1, groups=16)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(x.flatten(1)[:, :, None, None])  # type: ignore[no-any-return]


class Split(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat([left.relu(), right], 1)


class Selected(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 2:5]


class Attention(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.softmax(1)


class SpatialGate(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean(1, keepdim=True).sigmoid()


class Unknown(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 2)


class MixedByIndex(Sandwich):
    """An unknown operator that reads channels, through a list of its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.rand(8, 8))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,dc->ndhw", x, self.mix)


class Reordered(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


class FlatWithChannelsLast(Sandwich):
    """Channels end up scattered over the flattened dimension."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]


class InPlaceOnPart(Sandwich):
    """Writes into some channels of a value that is read again: only the view shows it."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        x[:, :3].mul_(2)
        return x


class Constant(Sandwich):
    """A tensor of the code that is neither parameter nor buffer cannot be cut."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(8.0).view(1, 8, 1, 1)


class Unsaved(Sandwich):
    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.rand(8, 1, 1), persistent=False)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


class Product(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        return (flat @ flat.transpose(1, 2) @ flat).view_as(x)


class Normalised(Sandwich):
    """A weight computed from a parameter (weight standardisation)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 8, 1, 1))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight / self.weight.abs().mean())


class NoGradient(Sandwich):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            gate = x * 2
        return x + gate


CASES = [
    (OddShuffle(), "reshape (1, 8, 6, 6) -> (1, 2, 4, 6, 6) in"),
    (Unshuffled(), "reshape (1, 8, 6, 6) -> (1, 4, 2, 6, 6) in"),
    (Split(), "chunk of channels in"),
    (Selected(out=3), "slice of channels in"),
    (Attention(), "softmax over channels in"),
    (SpatialGate(), "mean over channels in"),
    (Unknown(), "operator cumsum in the network's forward has no rule"),
    (MixedByIndex(), "operator einsum in"),
    (Reordered(), "operator flip in"),
    (FlatWithChannelsLast(out=288), "reshape (1, 6, 6, 8) -> (1, 288) in"),
    (InPlaceOnPart(), "slice of channels in"),
    (Product(), "operator matmul in"),
    (Normalised(), "convolution with a computed weight"),
    (NoGradient(), "has no rule"),
    (Sandwich(nn.GroupNorm(2, 8)), "group_norm over channels in between"),
    (Sandwich(nn.LayerNorm([8, 6, 6])), "layer_norm over channels in between"),
    (Sandwich(nn.ConvTranspose2d(8, 8, 3)), "operator conv_transpose2d in between has no rule"),
    (Sandwich(nn.LocalResponseNorm(2)), "in between"),
]


@pytest.mark.parametrize(("model", "listed"), CASES, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_operator_without_exact_rule_freezes_what_it_touches(
    model: nn.Module, listed: str, mask_test: Callable[..., Channels]
) -> None:
    channels = mask_test(model, SHAPE)

    assert not channels.groups["a"].prunable
    assert listed in channels.groups["a"].reason
    assert [group.name for group in channels.prunable] == ["b"]
    assert any(listed in text for text in channels.unsupported)


def test_grouped_convolution_over_parts_of_maps_freezes_what_it_reads(mask_test: Callable[..., Channels]) -> None:
    channels = mask_test(GroupedMaps(), SHAPE)

    assert "grouped convolution (groups=16) in grouped" in channels.groups["a"].reason
    # What it makes can be cut: two filters of each of its 16 groups.
    assert {group.name: group.size for group in channels.prunable} == {"grouped": 2, "b": 6}


@pytest.mark.parametrize("model", [Constant(), Unsaved()], ids=["constant", "unsaved buffer"])
def test_tensor_that_cannot_be_cut_freezes_what_it_is_added_to(model: nn.Module, mask_test: Callable[..., Channels]) -> None:
    channels = mask_test(model, SHAPE)

    assert "meets channels that are not cut" in channels.groups["a"].reason
    assert [group.name for group in channels.prunable] == ["b"]


def test_network_output_freezes_its_residual(groups_of: Callable[..., Channels]) -> None:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            x = self.a(x)
            return {"sum": x + self.c(self.b(x).relu())}

    channels = groups_of(Generator(), SHAPE)

    assert channels.groups["a"].reason == "network output"
    assert [group.name for group in channels.prunable] == ["b"]


def test_weight_used_transposed_is_not_cut(groups_of: Callable[..., Channels]) -> None:
    class Tied(nn.Module):
        """An autoencoder whose decoder is the encoder's transpose."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.code, self.fc = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.code(self.a(x).relu())
            return self.fc(functional.linear(hidden, self.code.weight.t()))  # type: ignore[no-any-return]

    channels = groups_of(Tied(), (1, 3))

    # Cutting either dimension of code.weight would change what the second use makes.
    assert channels.prunable == ()
    assert any("computed weight" in text for text in channels.unsupported)


def test_weight_used_on_the_picture_and_on_channels_keeps_both(groups_of: Callable[..., Channels]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc((self.b(x) + self.b(self.a(x))).mean((2, 3)))  # type: ignore[no-any-return]

    channels = groups_of(Twice(), SHAPE)

    assert [group.name for group in channels.prunable] == ["b"]


class Head(nn.Module):
    """A head that only training uses, under a name that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 7, 1)
        self.fc, self.helper = nn.Linear(7, 4), nn.Linear(6, 4)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.norm(self.a(x)))
        out: torch.Tensor = self.fc(self.c(x).mean((2, 3)))
        return out + self.helper(x.mean((2, 3))) if self.training else out


def test_head_that_only_training_reaches_freezes_what_feeds_it(mask_test: Callable[..., Channels]) -> None:
    model = Head()

    channels = mask_test(model, SHAPE)

    assert channels.unreached == ("helper.weight", "helper.bias")
    assert [group.name for group in channels.prunable] == ["a", "c"]
    assert channels.groups["b"].reason == "read by helper.weight, which only training reaches"


def test_tracing_leaves_statistics_and_mode_alone() -> None:
    model = Head()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    trace(model, SHAPE)

    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class WrittenOut(Sandwich):
    """A number of channels written into the code, which an exported program does not show."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x.view(-1, 8, 36)).reshape(x.shape)


class FixedGroups(Sandwich):
    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.rand(8, 1, 3, 3))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.depth, groups=8)


class Branches(Sandwich):
    """Computes something else, without failing, when its channels are fewer."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if x.shape[1] == 8 else x


@pytest.mark.parametrize("model", [WrittenOut(), FixedGroups(), Branches()], ids=["view", "groups", "branch"])
def test_code_that_does_not_follow_a_cut_is_found_by_trying(model: nn.Module) -> None:
    channels = find_channel_groups(trace(model, SHAPE))

    assert [group.name for group in channels.prunable] == ["b"]
    assert "does not follow its cut" in channels.groups["a"].reason
    assert any(text.startswith("channels of a:") for text in channels.unsupported)
