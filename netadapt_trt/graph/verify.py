"""Cuts a copy of a network and compares it with the masked original before anybody relies on its channel groups.

An exported program shows what was computed, not how the network's code came by its sizes: a ``view`` with a number of
channels written out, or a functional convolution with a fixed number of groups, cuts well on paper and fails in life. What
fails here is frozen and listed, so that a wrong cut is never made.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from netadapt_trt.graph.surgery import cut, zero_consumers_in_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.graph.channels import Channels

__all__ = ["output_tensors", "verified"]

# Far above rounding in single precision, far below what one wrongly kept channel does.
_TOLERANCE = 1e-3


def verified(model: nn.Module, channels: Channels, example: torch.Tensor) -> Channels:
    """``channels`` without the groups whose cut the network's code does not follow.

    One cut of all groups at once settles the usual case; otherwise each is tried alone.
    """
    keep = _draw(channels)
    if not keep:
        return channels
    network = _stirred(model)
    if not _failure(network, channels, keep, example):
        return channels
    failures = {}
    for group, kept in keep.items():
        failure = _failure(network, channels, {group: kept}, example)
        if failure:
            failures[group] = failure
    rest = {group: kept for group, kept in keep.items() if group not in failures}
    together = _failure(network, channels, rest, example) if rest else ""
    if together:
        failures |= dict.fromkeys(rest, f"together with others: {together}")
    reasons = {group: f"the network's code does not follow its cut: {failure}" for group, failure in failures.items()}
    listed = [f"channels of {group}: {reason}" for group, reason in reasons.items()]
    return replace(channels.frozen(reasons), unsupported=(*channels.unsupported, *listed))


def output_tensors(output: object) -> list[torch.Tensor]:
    """The tensors in what a network returns: one, or those of a sequence or dictionary, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for value in values for tensor in output_tensors(value)]


def _draw(channels: Channels) -> dict[str, list[int]]:
    """About half of each group, scattered, and never a neat half that a fixed size could fit by chance."""
    generator = torch.Generator().manual_seed(0)
    keep = {}
    for group in channels.prunable:
        if group.size > 1:
            width = max(1, group.size // 2 - 1)
            keep[group.name] = sorted(torch.randperm(group.size, generator=generator)[:width].tolist())
    return keep


def _stirred(model: nn.Module) -> nn.Module:
    """A copy in which no batch norm is an identity or a zero, near its own statistics so that values stay in range."""
    network = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return torch.rand(tensor.shape, generator=generator).to(tensor)

    with torch.no_grad():
        for module in network.modules():
            if not isinstance(module, nn.modules.batchnorm._NormBase):
                continue
            if module.weight is not None:
                module.weight.copy_(torch.where(module.weight == 0, 0.5, module.weight) * (0.75 + noise(module.weight) / 2))
                module.bias.add_(0.1 * (noise(module.bias) - 0.5))
            if module.running_mean is not None and module.running_var is not None:
                spread = module.running_var.sqrt()
                module.running_mean.add_(0.2 * spread * (noise(spread) - 0.5))
                module.running_var.mul_(0.75 + noise(spread) / 2)
    return network


def _failure(network: nn.Module, channels: Channels, keep: Mapping[str, Sequence[int]], example: torch.Tensor) -> str:
    """What goes wrong when ``keep`` is cut; empty when nothing does."""
    with torch.no_grad():
        try:
            got = output_tensors(cut(network, channels, keep)(example))
        except Exception as error:  # whatever the network's own code raises
            return str(error).strip().partition("\n")[0] or type(error).__name__
        masked = copy.deepcopy(network)
        zero_consumers_in_place(masked, channels, keep)
        wanted = output_tensors(masked(example))
    for mine, theirs in zip(got, wanted, strict=False):
        if mine.shape != theirs.shape:
            return f"its output has the shape {tuple(mine.shape)} instead of {tuple(theirs.shape)}"
        scale = theirs.abs().max()
        # Without finite numbers (untrained networks without normalisation can overflow) there is nothing to compare.
        if torch.isfinite(scale) and not (mine - theirs).abs().max() <= _TOLERANCE * scale:
            return "the cut network computes something else"
    return ""
