"""Where a search goes on from: weights, momentum, theta and its optimizer, targets, position. One safetensors file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import check_header, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from netadapt_trt.search.supernet import Supernet
    from netadapt_trt.search.theta import Theta

__all__ = ["read_checkpoint", "write_checkpoint"]

_FORMAT, _VERSION = "netadapt-search-state", 1
_ADAM = ("step", "exp_avg", "exp_avg_sq")


def write_checkpoint(
    path: Path,
    supernet: Supernet,
    theta: Theta,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    content: Mapping[str, Any],
) -> None:
    """Save everything that changes; ``content`` is plain JSON. Raises OSError (disk full); an older file then stays."""
    from safetensors.torch import save

    weights, adam = optimizers
    tensors: dict[str, Tensor] = {f"weights.{name}": value for name, value in supernet.named_parameters()}
    for name, parameter in supernet.named_parameters():
        buffer = weights.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum.{name}"] = buffer
    tensors["theta"] = theta.values
    for key in _ADAM:
        if key in adam.state.get(theta.values, {}):
            tensors[f"adam.{key}"] = adam.state[theta.values][key]
    plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    header = {"format": _FORMAT, "version": _VERSION, **content}
    write_atomic(path, save(plain, metadata={"netadapt": json.dumps(header)}))


def read_checkpoint(
    path: Path, supernet: Supernet, theta: Theta, optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
) -> dict[str, Any]:
    """Fill everything in place; returns ``content``.

    Raises:
        FileFormatError: not a checkpoint, or one of another space.
    """
    header, tensors = _read(path)
    weights, adam = optimizers
    wanted = dict(supernet.named_parameters())
    found = {name.removeprefix("weights."): value for name, value in tensors.items() if name.startswith("weights.")}
    if found.keys() != wanted.keys() or any(found[name].shape != wanted[name].shape for name in wanted):
        raise FileFormatError(f"{path} is of another network than this search's; start the search again")
    if tensors.get("theta", torch.empty(0)).shape != theta.values.shape:
        raise FileFormatError(f"{path} is of another space than this search's; start the search again")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
            if f"momentum.{name}" in tensors:
                # Like the parameter in device and memory format, so that it computes exactly what would have been.
                weights.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
        theta.values.copy_(tensors["theta"])
    state = {key: tensors[f"adam.{key}"] for key in _ADAM if f"adam.{key}" in tensors}
    if state:
        adam.state[theta.values] = state
    return header


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("netadapt", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is not the state of a search: {error}; start the search again") from error
    check_header(header, where=str(path), format=_FORMAT, version=_VERSION)
    return header, tensors
