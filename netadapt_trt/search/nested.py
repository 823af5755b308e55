"""The candidates of one place as parts of one block: what a path learns, all of them learn.

Blocks of one space are nested: a small kernel is the middle of a large one, fewer channels are the first of more, a grouped
convolution is the diagonal of a whole one. One block, as wide and with as large a kernel as any candidate, holds the weights
of all (as in once-for-all networks, Cai et al., ICLR 2020, and single-path NAS, Stamoulis et al., 2019). With a drawn path a
step, candidates with weights of their own see one step in nine, and hand the places behind them something else every time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.space.schema import SKIP
from netadapt_trt.zoo.block_network import draw_weights

if TYPE_CHECKING:
    from torch import Tensor

    from netadapt_trt.space.schema import Block, Place, Space

__all__ = ["NestedBlocks"]

_MIDDLE = 3


class NestedBlocks(nn.Module):
    """Every candidate of ``place``; call it with the input and a column of the space.

    Weights are [wide, in, 1, 1], [wide, 1, k, k] and [out, wide, 1, 1] of the largest width and kernel. Batch norms use the
    statistics of the batch; their scales and shifts are shared like the weights. Where the input is added to a block's
    output, the last scale begins at zero: every block begins as skipping (Goyal et al., 2017). Without batch norms the last
    convolution begins at zero there (Zhang et al., ICLR 2019), and sums over fewer channels are scaled up to the variance of
    those over all.
    """

    def __init__(self, space: Space, place: Place) -> None:
        super().__init__()
        self.blocks: dict[int, Block | None] = {
            column: None if space.columns[column] == SKIP else space.blocks[column] for column in place.candidates
        }
        blocks = [block for block in self.blocks.values() if block is not None]
        self.into, self.out = place.in_channels, place.out_channels
        self.stride, self.residual = place.stride, place.keeps_shape
        wide = self.into * max(block.expansion for block in blocks)
        self.kernel = max(block.kernel for block in blocks)
        bias = not space.batch_norm
        self.expand = draw_weights(nn.Conv2d(self.into, wide, 1, bias=bias))
        self.depthwise = draw_weights(nn.Conv2d(wide, wide, self.kernel, groups=wide, bias=bias))
        self.project = draw_weights(nn.Conv2d(wide, self.out, 1, bias=bias))
        widths = (wide, wide, self.out) if space.batch_norm else ()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, track_running_stats=False) for width in widths)
        with torch.no_grad():
            self.depthwise.weight *= _middle(self.kernel)
            if not space.batch_norm:
                self.depthwise.weight *= self.kernel / min(self.kernel, _MIDDLE)
            if self.residual:
                last = cast("nn.BatchNorm2d", self.norms[2]) if space.batch_norm else self.project
                last.weight.zero_()

    def forward(self, values: Tensor, column: int) -> Tensor:
        """[N, in channels, H, W] to [N, out channels, H / stride, W / stride], rounded up."""
        block = self.blocks[column]
        if block is None:
            return values
        groups, wide = block.groups, self.into * block.expansion
        origin = slice(wide) if groups == 1 else _shuffled(wide, groups).to(values.device)
        expand = _diagonal(self.expand.weight[:wide], groups) * self._gain(self.into // groups, self.into)
        bias = None if self.expand.bias is None else self.expand.bias[:wide]
        made = functional.relu(self._normed(0, functional.conv2d(values, expand, bias, groups=groups), slice(wide)))
        if groups > 1:
            made = made[:, origin]
        edge = (self.kernel - block.kernel) // 2
        kernels = self.depthwise.weight[origin][..., edge : edge + block.kernel, edge : edge + block.kernel]
        bias = None if self.depthwise.bias is None else self.depthwise.bias[origin]
        made = functional.conv2d(made, kernels, bias, self.stride, block.kernel // 2, groups=wide)
        made = functional.relu(self._normed(1, made, origin))
        # A group's inputs are those that stand in its range now: the columns of where they came from.
        project = _diagonal(self.project.weight[:, origin], groups) * self._gain(wide // groups, self.project.in_channels)
        made = self._normed(2, functional.conv2d(made, project, self.project.bias, groups=groups), slice(None))
        return values + made if self.residual else made

    def _normed(self, number: int, values: Tensor, channels: slice | Tensor) -> Tensor:
        if not len(self.norms):
            return values
        norm = cast("nn.BatchNorm2d", self.norms[number])
        return functional.batch_norm(values, None, None, norm.weight[channels], norm.bias[channels], True, 0.0, norm.eps)

    def _gain(self, inputs: int, drawn_for: int) -> float:
        """What keeps the variance where no batch norm does: weights are drawn for sums over all inputs."""
        return 1.0 if len(self.norms) else math.sqrt(drawn_for / inputs)


def _shuffled(wide: int, groups: int) -> Tensor:
    """Which channel stands in each place behind the shuffle of ``groups`` groups."""
    places = torch.arange(wide)
    return places % groups * (wide // groups) + places // groups


def _diagonal(weight: Tensor, groups: int) -> Tensor:
    """[out, in, 1, 1] to the [out, in / groups, 1, 1] of a grouped convolution: each group's outputs from its own inputs."""
    if groups == 1:
        return weight
    outputs = weight.chunk(groups, 0)
    return torch.cat([part.chunk(groups, 1)[group] for group, part in enumerate(outputs)])


def _middle(kernel: int) -> Tensor:
    """1 in the middle of a kernel [k, k], 0 around it: wide and narrow ones compute the same at the start."""
    edge = max(0, (kernel - _MIDDLE) // 2)
    found = torch.zeros(kernel, kernel)
    found[edge : kernel - edge, edge : kernel - edge] = 1
    return found
