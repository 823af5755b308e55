"""Cuts channels out of real PyTorch weights.

Every function returns a new network and leaves the one it was given alone. Only prunable groups are cut; one index set per
group, however many layers are tied to it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.graph.channels import Channels, ParameterSlice

__all__ = ["cut", "cut_to_widths", "zero_consumers", "zero_consumers_in_place"]


def cut(model: nn.Module, channels: Channels, keep: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of ``model`` that has only the channels ``keep`` names of each group (groups that are missing stay whole).

    Raises SpecError for an unknown or frozen group, an empty set or an index out of range.
    """
    _check(channels, keep)
    network = copy.deepcopy(model)
    tensors = _names_by_tensor(network)
    tied = {piece.parameter for piece in channels.slices if piece.dim == 0 and piece.role == "tie"}
    for name, slices in _by_parameter(channels, keep).items():
        owner, leaf = _owner(network, name)
        tensor = getattr(owner, leaf)
        selected = _selected(tensor, slices, keep)
        # A tensor that several modules share is one tensor again afterwards.
        for other in tensors[id(tensor)]:
            holder, last = _owner(network, other)
            _replace(holder, last, selected)
            _resize(holder, depthwise=last == "weight" and name in tied)
    return network


def cut_to_widths(model: nn.Module, channels: Channels, widths: Mapping[str, int]) -> nn.Module:
    """A copy that has the first ``widths`` channels of each group: right shapes, for weights that are loaded next."""
    return cut(model, channels, {name: range(width) for name, width in widths.items()})


def zero_consumers(model: nn.Module, channels: Channels, keep: Mapping[str, Sequence[int]]) -> nn.Module:
    """The whole network with every consumer's weights for the channels that ``keep`` drops set to zero.

    It computes what :func:`cut` computes: the reference of the mask test.
    """
    network = copy.deepcopy(model)
    zero_consumers_in_place(network, channels, keep)
    return network


def zero_consumers_in_place(network: nn.Module, channels: Channels, keep: Mapping[str, Sequence[int]]) -> None:
    """As :func:`zero_consumers`, on ``network`` itself."""
    _check(channels, keep)
    with torch.no_grad():
        for name, slices in _by_parameter(channels, keep).items():
            owner, leaf = _owner(network, name)
            tensor = getattr(owner, leaf)
            for piece in slices:
                if piece.role == "consume":
                    kept = _positions(piece, keep)
                    gone = torch.ones(tensor.shape[piece.dim], dtype=torch.bool)
                    gone[kept] = False
                    tensor.index_fill_(piece.dim, gone.nonzero().flatten().to(tensor.device), 0.0)


def _check(channels: Channels, keep: Mapping[str, Sequence[int]]) -> None:
    for name, kept in keep.items():
        group = channels.groups.get(name)
        if group is None:
            raise SpecError(f"the network has no channel group {name!r}")
        if not group.prunable and len(kept) != group.size:
            raise SpecError(f"channel group {name} cannot be cut: {group.reason}")
        if not kept or min(kept) < 0 or max(kept) >= group.size or len(set(kept)) != len(kept):
            raise SpecError(f"channels to keep of {name} must be distinct, between 0 and {group.size - 1}, at least one")


def _by_parameter(channels: Channels, keep: Mapping[str, Sequence[int]]) -> dict[str, list[ParameterSlice]]:
    found: dict[str, list[ParameterSlice]] = {}
    for piece in channels.slices:
        if any(segment.group in keep for segment in piece.layout):
            found.setdefault(piece.parameter, []).append(piece)
    return found


def _positions(piece: ParameterSlice, keep: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """Positions along the dimension that stay."""
    parts, offset = [], 0
    for segment in piece.layout:
        kept = torch.arange(segment.channels)
        if segment.group is not None and segment.group in keep:
            kept = torch.tensor(sorted(keep[segment.group]))
        inner = torch.arange(segment.inner)
        parts.append((offset + kept[:, None] * segment.inner + inner[None, :]).flatten())
        offset += segment.channels * segment.inner
    return torch.cat(parts)


def _selected(tensor: torch.Tensor, slices: Sequence[ParameterSlice], keep: Mapping[str, Sequence[int]]) -> torch.Tensor:
    values = tensor.detach()
    for piece in slices:
        values = values.index_select(piece.dim, _positions(piece, keep).to(values.device))
    values = values.clone(memory_format=torch.contiguous_format)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return network.get_submodule(path), leaf


def _names_by_tensor(network: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, tensor in (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)):
        names.setdefault(id(tensor), []).append(name)
    return names


def _replace(owner: nn.Module, leaf: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor, persistent=leaf not in owner._non_persistent_buffers_set)


def _resize(module: nn.Module, *, depthwise: bool) -> None:
    """Let a module's own record of its sizes agree with its tensors.

    ``depthwise``: the weight's filters go along with the channels they read. A grouped convolution that was cut to one
    channel a group has a weight of the same form, and keeps its number of groups.
    """
    if isinstance(module, nn.modules.conv._ConvNd) and not module.transposed:
        if module.groups > 1 and depthwise:
            # Filters per input channel are what a depthwise convolution keeps; asked twice it must not change again.
            multiplier = module.out_channels // module.groups
            module.groups = module.weight.shape[0] // multiplier
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        sized = next((tensor for tensor in (module.weight, module.running_mean) if tensor is not None), None)
        module.num_features = module.num_features if sized is None else sized.shape[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.shape[0]
