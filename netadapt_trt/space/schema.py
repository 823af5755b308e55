"""What a search space is: a fixed stem and head, and between them layers in each of which one of several blocks may stand.

The macro-architecture is that of FBNet (Wu et al., "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural
Architecture Search", CVPR 2019, table 1) with its numbers left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

__all__ = ["SKIP", "Block", "Place", "Space", "Stage", "Stem"]

SKIP = "skip"
"""The block that passes its input on; no layer may take it where shapes change, nor first in a stage."""


@dataclass(frozen=True, slots=True)
class Block:
    """A candidate: 1x1 convolution to ``expansion`` times the channels, depthwise ``kernel`` x ``kernel``, 1x1 back.

    ``groups`` of both 1x1 convolutions; with more than one, channels are shuffled between the first and the depthwise one.
    Batch norm after each convolution (if the space has it), ReLU after the first two, the input added where shapes allow.
    """

    name: str
    kernel: int
    expansion: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution, with batch norm and ReLU."""

    channels: int
    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """``repeats`` searchable layers of ``channels`` output channels; the first of them has ``stride``."""

    channels: int
    repeats: int
    stride: int


@dataclass(frozen=True, slots=True)
class Place:
    """One searchable layer. ``number`` counts from 1 as tables do; ``height`` and ``width`` are of its input.

    ``candidates`` are indices into the space's ``columns``, in their order.
    """

    number: int
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    height: int
    width: int
    candidates: tuple[int, ...]

    @property
    def keeps_shape(self) -> bool:
        """True where the input may be added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class Space:
    """A whole search space. ``input_shape`` is (channels, height, width) of one picture.

    ``skip``: whether passing the input on is offered, where shapes allow and never first in a stage. ``head_channels``: of
    the 1x1 convolution before the mean over the picture and the linear layer. ``batch_norm``: HANNA had none.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    stem: Stem
    stages: tuple[Stage, ...]
    blocks: tuple[Block, ...]
    head_channels: int
    skip: bool = True
    batch_norm: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all that may stand in a layer: the blocks, then :data:`SKIP` where it is offered."""
        return (*(block.name for block in self.blocks), *((SKIP,) if self.skip else ()))

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The searchable layers in order; the stem's and each stage's stride halve the picture, rounding up."""
        channels = self.stem.channels
        height, width = (-(-size // self.stem.stride) for size in self.input_shape[1:])
        found: list[Place] = []
        for stage_number, stage in enumerate(self.stages):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                may_skip = self.skip and repeat > 0 and stride == 1 and channels == stage.channels
                found.append(
                    Place(
                        number=len(found) + 1,
                        stage=stage_number,
                        in_channels=channels,
                        out_channels=stage.channels,
                        stride=stride,
                        height=height,
                        width=width,
                        candidates=tuple(range(len(self.blocks) + may_skip)),
                    )
                )
                channels = stage.channels
                height, width = -(-height // stride), -(-width // stride)
        return tuple(found)
