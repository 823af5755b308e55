"""Which channels of a group matter: one score per channel over all layers that are tied to it.

l2 is NetAdapt's choice (Yang et al., ECCV 2018), l1 that of Li et al. (ICLR 2017), the batch-norm scale that of Liu et al.
("network slimming", ICCV 2017), Taylor that of Molchanov et al. (CVPR 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netadapt_trt.graph.channels import Channels, ParameterSlice

__all__ = ["Method", "importance", "keep_indices", "taylor_gradients"]

Method = Literal["l2", "l1", "bn_scale", "taylor"]


def importance(model: nn.Module, channels: Channels, group: str, method: Method = "l2") -> torch.Tensor:
    """Scores [size of group], higher matters more.

    ``taylor`` needs gradients in place (:func:`taylor_gradients`). Raises SpecError for an unknown group or method, or
    where the method has nothing to go by.
    """
    if group not in channels.groups:
        raise SpecError(f"the network has no channel group {group!r}")
    if method not in get_args(Method):
        raise SpecError(f"unknown importance {method!r}; known: {', '.join(get_args(Method))}")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    total = torch.zeros(channels.groups[group].size, dtype=torch.float64)
    found = False
    for piece in channels.slices:
        tensor = tensors.get(piece.parameter)
        if tensor is None or not _counts(model, piece, tensor, method):
            continue
        for score in _scores(piece, tensor, group, method):
            total += score
            found = True
    if not found:
        raise SpecError(f"importance {method} has nothing to go by in channel group {group}; use l2")
    return total.sqrt() if method == "l2" else total


def _counts(model: nn.Module, piece: ParameterSlice, tensor: torch.Tensor, method: Method) -> bool:
    if method == "bn_scale":
        path, _, leaf = piece.parameter.rpartition(".")
        return leaf == "weight" and isinstance(model.get_submodule(path), nn.modules.batchnorm._BatchNorm)
    return piece.role == "produce" and tensor.dim() > 1


def _scores(piece: ParameterSlice, tensor: torch.Tensor, group: str, method: Method) -> Iterable[torch.Tensor]:
    values = tensor.detach().double().cpu()
    if method == "taylor":
        if tensor.grad is None:
            raise SpecError("importance taylor needs gradients; call taylor_gradients first")
        values = values * tensor.grad.detach().double().cpu()
    rows = values.movedim(piece.dim, 0).flatten(1) if values.dim() > 1 else values[:, None]
    start = 0
    for segment in piece.layout:
        stop = start + segment.channels * segment.inner
        if segment.group == group:
            part = rows[start:stop].reshape(segment.channels, -1)
            if method == "l2":
                yield part.square().sum(dim=1)
            elif method == "taylor":
                yield part.sum(dim=1).square()
            else:
                yield part.abs().sum(dim=1)
        start = stop


def keep_indices(scores: torch.Tensor, width: int) -> tuple[int, ...]:
    """The ``width`` highest-scoring channels in ascending order; of equal scores the lower index stays.

    Raises SpecError unless 1 <= width <= number of channels.
    """
    if not 1 <= width <= len(scores):
        raise SpecError(f"cannot keep {width} of {len(scores)} channels")
    order = torch.sort(scores, descending=True, stable=True).indices[:width]
    return tuple(sorted(int(index) for index in order))


def taylor_gradients(model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Leave the summed gradients of the cross-entropy over ``batches`` in the parameters."""
    model.zero_grad(set_to_none=True)
    model.eval()
    for pictures, labels in batches:
        functional.cross_entropy(model(pictures), labels).backward()  # type: ignore[no-untyped-call]
