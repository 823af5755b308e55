"""Networks made of a search space's blocks: between a fixed stem and head, one block in each place (FBNet, CVPR 2019).

Layers are named ``stem.conv``, ``places.N.expand.conv``, ``places.N.depthwise.conv``, ``places.N.project.conv`` (N counts
from 1, as rows of tables do), ``head.conv`` and ``classifier``.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.space.plan import choice_of
from netadapt_trt.space.schema import SKIP
from netadapt_trt.space.store import load_space, space_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from netadapt_trt.space.schema import Block, Place, Space

__all__ = [
    "BlockNetwork",
    "InvertedResidual",
    "Shuffle",
    "block_network",
    "draw_weights",
    "make_block",
    "make_head",
    "make_stem",
]

_SEPARATOR = "+"
_Module = TypeVar("_Module", bound=nn.Module)


class Shuffle(nn.Module):
    """Channels of ``groups`` groups interleaved, so that the next grouped convolution sees some of each (ShuffleNet)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, values: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape: channel ``g * C / groups + i`` goes to place ``i * groups + g``."""
        count, channels, height, width = values.shape
        grouped = values.view(count, self.groups, channels // self.groups, height, width)
        return grouped.transpose(1, 2).reshape(count, channels, height, width)


def _unit(
    in_channels: int,
    out_channels: int,
    *,
    batch_norm: bool,
    statistics: bool,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=not batch_norm)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=convolution)
    if batch_norm:
        parts["norm"] = nn.BatchNorm2d(out_channels, track_running_stats=statistics)
    if activation:
        parts["activation"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


class InvertedResidual(nn.Module):
    """One block of a space: 1x1 up, shuffle where grouped, depthwise, 1x1 down, the input added where shapes allow.

    A block of expansion 1 keeps its first 1x1 convolution, as in FBNet.
    """

    def __init__(self, space: Space, place: Place, block: Block, *, statistics: bool = True) -> None:
        super().__init__()
        common = {"batch_norm": space.batch_norm, "statistics": statistics}
        wide = place.in_channels * block.expansion
        self.expand = _unit(place.in_channels, wide, groups=block.groups, **common)
        self.shuffle = Shuffle(block.groups) if block.groups > 1 else nn.Identity()
        self.depthwise = _unit(wide, wide, kernel=block.kernel, stride=place.stride, groups=wide, **common)
        self.project = _unit(wide, place.out_channels, groups=block.groups, activation=False, **common)
        self.groups = block.groups
        self.residual = place.keeps_shape

    def forward(self, values: Tensor) -> Tensor:
        """[N, in channels, H, W] to [N, out channels, H / stride, W / stride], rounded up."""
        made = cast("Tensor", self.project(self.depthwise(self.shuffle(self.expand(values)))))
        return values + made if self.residual else made


def make_block(space: Space, place: Place, column: int, *, statistics: bool = True) -> nn.Module:
    """What stands in ``place`` when column ``column`` of the space is chosen; its weights are drawn from torch's generator.

    ``statistics``: whether batch norms keep running statistics. Without them they use those of the batch, always.
    """
    if space.columns[column] == SKIP:
        return nn.Identity()
    return draw_weights(InvertedResidual(space, place, space.blocks[column], statistics=statistics))


def make_stem(space: Space, *, statistics: bool = True) -> nn.Sequential:
    """The first convolution with batch norm and ReLU."""
    stem = space.stem
    return draw_weights(
        _unit(
            space.input_shape[0],
            stem.channels,
            kernel=stem.kernel,
            stride=stem.stride,
            batch_norm=space.batch_norm,
            statistics=statistics,
        )
    )


def make_head(space: Space, *, statistics: bool = True) -> nn.Sequential:
    """The last 1x1 convolution with batch norm and ReLU; mean and linear layer follow it."""
    last = space.places[-1].out_channels
    return draw_weights(_unit(last, space.head_channels, batch_norm=space.batch_norm, statistics=statistics))


def draw_weights(module: _Module) -> _Module:
    """Draw the weights of all convolutions in ``module`` anew, in place, from torch's generator; biases become 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            # By fan in: fan out is counted without groups, which makes depthwise kernels far too small.
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


class BlockNetwork(nn.Module):
    """Images [N, C, H, W] to scores [N, num_classes]; see :func:`block_network`. ``columns``: one for each place."""

    def __init__(self, space: Space, columns: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem = make_stem(space)
        self.places = nn.Sequential(
            OrderedDict(
                (str(place.number), make_block(space, place, column))
                for place, column in zip(space.places, columns, strict=True)
            )
        )
        self.head = make_head(space)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(space.head_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores before the softmax."""
        return cast("Tensor", self.classifier(self.flatten(self.pool(self.head(self.places(self.stem(images)))))))


def block_network(
    space: str | Mapping[str, Any] = "fbnet-cifar", blocks: str | None = None, num_classes: int | None = None
) -> BlockNetwork:
    """The network of a ``space`` (a preset, a JSON file, or the content of one) with these ``blocks``, joined by "+".

    ``num_classes`` default: the space's.

    Raises:
        SpecError: a space that is not known, with the nearest name; a block that its place does not offer, with what does.
        FileFormatError: a file that is not a space.
    """
    opened = _space(space)
    if not isinstance(blocks, str) or not blocks:
        example = _SEPARATOR.join([opened.columns[0], opened.columns[1 % len(opened.columns)], "..."])
        raise SpecError(
            f"block_network needs blocks: one for each of the {len(opened.places)} places of {opened.name}, as "
            f"blocks={example} of {', '.join(opened.columns)}"
        )
    classes = opened.num_classes if num_classes is None else num_classes
    if not isinstance(classes, int) or classes < 1:
        raise SpecError(f"block_network: num_classes must be a positive whole number, not {num_classes!r}")
    return BlockNetwork(opened, choice_of(opened, blocks.split(_SEPARATOR)), classes)


def _space(space: str | Mapping[str, Any]) -> Space:
    """A network's record carries the space itself where it is no preset, so that it can be built on any machine."""
    if not isinstance(space, str):
        return space_from_json(space)
    if not space.lstrip().startswith("{"):
        return load_space(space)
    try:
        return space_from_json(json.loads(space))
    except ValueError as error:
        raise SpecError(f"block_network: the space is neither a name, a file nor JSON: {error}") from error
