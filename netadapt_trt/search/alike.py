"""Candidates of one place begin alike, so that any of them can stand in for another from the first step on.

A path that is drawn anew at every step hands each place the output of another candidate each time; while these have nothing
in common, nothing after them can learn. Blocks of one space are nested: a small kernel is the middle of a large one, fewer
channels are the first of more, a grouped convolution is the diagonal of a whole one. So they are cut out of the largest at
the start, as once-for-all networks keep them all along (Cai et al., ICLR 2020); from then on each learns by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from netadapt_trt.zoo.block_network import InvertedResidual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

__all__ = ["start_alike"]

_MIDDLE = 3


def start_alike(candidates: Sequence[nn.Module]) -> None:
    """Cut the weights of all blocks among ``candidates`` out of those of the largest one without groups, in place.

    Kernels begin with nothing outside of their middle 3x3: so wide and narrow ones compute the same. Where the input is
    added to a block's output, its last batch norm begins at zero: the block begins as skipping (Goyal et al., 2017).
    """
    blocks = [block for block in candidates if isinstance(block, InvertedResidual)]
    whole = [block for block in blocks if block.groups == 1]
    with torch.no_grad():
        if whole:
            largest = max(whole, key=_size)
            expand, depthwise, project = (_weight(largest, name).clone() for name in _PARTS)
            depthwise *= _middle(depthwise)
            for block in blocks:
                _cut(block, expand, depthwise, project)
        for block in blocks:
            norm = getattr(block.project, "norm", None)
            if block.residual and norm is not None:
                norm.weight.zero_()


_PARTS = ("expand", "depthwise", "project")


def _weight(block: InvertedResidual, part: str) -> Tensor:
    weight: Tensor = getattr(block, part).conv.weight
    return weight


def _size(block: InvertedResidual) -> tuple[int, int]:
    """Inner channels and kernel."""
    depthwise = _weight(block, "depthwise")
    return depthwise.shape[0], depthwise.shape[-1]


def _middle(weight: Tensor) -> Tensor:
    """1 in the middle of a kernel [.., .., k, k], 0 around it."""
    kernel = weight.shape[-1]
    edge = max(0, (kernel - _MIDDLE) // 2)
    found = torch.zeros(kernel, kernel)
    found[edge : kernel - edge, edge : kernel - edge] = 1
    return found


def _cut(block: InvertedResidual, expand: Tensor, depthwise: Tensor, project: Tensor) -> None:
    """Fill ``block`` from the whole convolutions of the largest one: [wide, in, 1, 1], [wide, 1, k, k], [out, wide, 1, 1].

    Behind the shuffle of a grouped block, place p holds what was channel ``p % groups * (wide / groups) + p // groups``.
    """
    wide, kernel = _size(block)
    groups = block.groups
    places = torch.arange(wide)
    origin = places % groups * (wide // groups) + places // groups
    _weight(block, "depthwise").copy_(_resized(depthwise[origin], kernel))
    up, down = _weight(block, "expand"), _weight(block, "project")
    into, inner, out = up.shape[1], wide // groups, down.shape[0] // groups
    for group in range(groups):
        rows = slice(group * inner, (group + 1) * inner)
        up[rows] = expand[rows, group * into : (group + 1) * into]
        outputs = slice(group * out, (group + 1) * out)
        down[outputs] = project[outputs][:, origin[rows]]


def _resized(weight: Tensor, kernel: int) -> Tensor:
    """The middle ``kernel`` x ``kernel`` of [n, 1, k, k], or that with zeros around it."""
    edge = (weight.shape[-1] - kernel) // 2
    if edge >= 0:
        return weight[..., edge : edge + kernel, edge : edge + kernel]
    return torch.nn.functional.pad(weight, (-edge,) * 4)
