"""Makes the plan of a network: the ONNX view of the same program whose channel groups were found, joined by weight names."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from netadapt_trt.errors import TraceError
from netadapt_trt.graph.export import export_onnx
from netadapt_trt.plan.from_onnx import plan_from_onnx
from netadapt_trt.plan.schema import FrozenChannels, Group

if TYPE_CHECKING:
    from torch import nn

    from netadapt_trt.graph.channel_groups import Channels
    from netadapt_trt.graph.network import Network
    from netadapt_trt.plan.schema import Plan

__all__ = ["make_plan"]


def make_plan(network: Network) -> Plan:
    """The plan of ``network`` as it is now; its groups are the prunable channel groups.

    Raises:
        TraceError: an operator without ONNX form, or sizes that do not follow the channel groups.
    """
    model = _randomised(network.model)
    exported = export_onnx(model, network.spec.input_shape)
    channels = network.channels
    groups = [Group(group.name, group.size, _weights_of(channels, group.name)) for group in channels.prunable]
    frozen = [
        FrozenChannels(group.name, group.size, group.reason) for group in channels.groups.values() if not group.prunable
    ]
    notices = [*network.notices, *(f"not cut: {text}" for text in channels.unsupported)]
    return plan_from_onnx(
        exported,
        _layouts(model, channels, [tensor.name for tensor in exported.graph.initializer]),
        groups,
        frozen,
        model_name=network.spec.model,
        args=network.spec.args,
        notices=notices,
    )


def _randomised(model: nn.Module) -> nn.Module:
    """A copy whose every float is between 0.5 and 1.5.

    The exporter's optimiser looks at values (it drops a bias of zeros, which fresh batch norms fold into); the plan must not
    depend on them.
    """
    network = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


def _weights_of(channels: Channels, group: str) -> tuple[str, ...]:
    return tuple(
        piece.parameter
        for piece in channels.slices
        if piece.dim == 0
        and not piece.parameter.endswith("bias")
        and any(s.group == group for s in piece.layout)
        and piece.role == "produce"
    )


def _layouts(
    model: nn.Module, channels: Channels, initialisers: list[str]
) -> dict[str, tuple[tuple[tuple[str | None, int, int], ...], ...]]:
    """For every initialiser that is a parameter, each dimension's segments; frozen channels count as fixed sizes."""
    prunable = {group.name for group in channels.prunable}
    known = {(piece.parameter, piece.dim): piece.layout for piece in channels.slices}
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    found = {}
    for name in initialisers:
        if name not in tensors:
            continue
        dims: list[tuple[tuple[str | None, int, int], ...]] = []
        for dim, size in enumerate(tensors[name].shape):
            layout = known.get((name, dim))
            if layout is None:
                dims.append(((None, int(size), 1),))
            else:
                dims.append(tuple((s.group if s.group in prunable else None, s.channels, s.inner) for s in layout))
        found[name] = tuple(dims)
    if not found and channels.prunable:
        raise TraceError("none of the exported weights carries the name of a parameter; the two views cannot be joined")
    return found
