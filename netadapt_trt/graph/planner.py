"""Makes the plan of a network: the ONNX view of the same program whose channel groups were found, joined by weight names."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from netadapt_trt.errors import TraceError
from netadapt_trt.graph.export import export_onnx
from netadapt_trt.plan.from_onnx import plan_from_onnx
from netadapt_trt.plan.schema import FrozenChannels, Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from netadapt_trt.graph.channels import Channels
    from netadapt_trt.graph.network import Network
    from netadapt_trt.plan.from_onnx import Layouts
    from netadapt_trt.plan.schema import Plan

__all__ = ["make_plan"]

Match = tuple[str, tuple[int | None, ...]]


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
    plan = plan_from_onnx(
        exported,
        _layouts(model, channels, exported),
        groups,
        frozen,
        model_name=network.spec.model,
        args=network.spec.args,
        notices=notices,
    )
    return replace(plan, num_classes=network.spec.num_classes, reset_head=network.spec.reset_head)


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


def _layouts(model: nn.Module, channels: Channels, exported: onnx.ModelProto) -> Layouts:
    """For every initialiser that is a parameter, each dimension's segments; frozen channels count as fixed sizes.

    The exporter writes some weights in another arrangement under a new name (a transposed matrix, a slope with dimensions of
    one). ``model`` has random weights, so equal values tell which parameter such a tensor is.
    """
    prunable = {group.name for group in channels.prunable}
    known = {(piece.parameter, piece.dim): piece.layout for piece in channels.slices}
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)

    def dimension(parameter: str, dim: int) -> tuple[tuple[str | None, int, int], ...]:
        for name in names[id(tensors[parameter])]:  # modules that share a tensor are traced under one of its names
            if (name, dim) in known:
                return tuple((s.group if s.group in prunable else None, s.channels, s.inner) for s in known[name, dim])
        return ((None, int(tensors[parameter].shape[dim]), 1),)

    found = {}
    candidates: dict[int, list[str]] = {}
    for same in names.values():
        candidates.setdefault(tensors[same[0]].numel(), []).append(same[0])
    for initialiser in exported.graph.initializer:
        # Only a square matrix can keep its name and its shape when it is transposed.
        square = len(initialiser.dims) == 2 and initialiser.dims[0] == initialiser.dims[1]
        if initialiser.name in tensors and not square:
            match: Match | None = (initialiser.name, tuple(range(tensors[initialiser.name].dim())))
        else:
            match = _match(initialiser, tensors, candidates)
            if match is None and initialiser.name in tensors:
                match = (initialiser.name, (0, 1))  # a batch norm was folded into it
        if match is None:
            continue
        parameter, order = match
        dims = tuple(dimension(parameter, dim) if dim is not None else ((None, 1, 1),) for dim in order)
        found[initialiser.name] = dims
    if not found and channels.prunable:
        raise TraceError("none of the exported weights carries the name of a parameter; the two views cannot be joined")
    return found


def _match(
    initialiser: onnx.TensorProto, tensors: Mapping[str, torch.Tensor], candidates: Mapping[int, list[str]]
) -> Match | None:
    """The parameter that has these values, and which of its dimensions each dimension is (None: a size of one)."""
    shape = tuple(initialiser.dims)
    count = math.prod(shape)
    if count < 2 or initialiser.data_type != onnx.TensorProto.FLOAT:
        return None
    values = onnx.numpy_helper.to_array(initialiser).squeeze()
    places = [index for index, size in enumerate(shape) if size != 1]
    for name in candidates.get(count, ()):
        parameter = tensors[name].detach().cpu().numpy()
        wide = [index for index, size in enumerate(parameter.shape) if size != 1]
        for order in itertools.permutations(range(len(wide))) if len(wide) == len(places) else ():
            turned = parameter.squeeze().transpose(order)
            if turned.shape == values.shape and np.array_equal(turned, values):
                dims: list[int | None] = [None] * len(shape)
                for place, source in zip(places, order, strict=True):
                    dims[place] = wide[source]
                return name, tuple(dims)
    return None
