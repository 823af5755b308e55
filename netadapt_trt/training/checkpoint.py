"""The state of an interrupted training: weights, momentum, step. One safetensors file, so that it is whole or absent.

The step also stands for the random generators: every draw derives from the seed and the step (:mod:`.fine_tune`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import check_header, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

__all__ = ["read_checkpoint", "write_checkpoint"]

_FORMAT, _VERSION = "netadapt-training", 1


def write_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.SGD, step: int, identity: Mapping[str, Any]
) -> None:
    """Save the training after ``step`` steps. Raises OSError (disk full); an older checkpoint then stays."""
    from safetensors.torch import save

    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, momentum in _momenta(model, optimizer):
        tensors[f"momentum.{name}"] = momentum
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    header = {"format": _FORMAT, "version": _VERSION, "step": step, "identity": dict(identity)}
    write_atomic(path, save(plain, metadata={"netadapt": json.dumps(header)}))


def read_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.SGD, identity: Mapping[str, Any]) -> int:
    """Fill ``model`` and ``optimizer`` in place; returns the steps done.

    Raises:
        FileFormatError: not a checkpoint, or one of another network, data or settings, naming what differs.
    """
    header, tensors = _read(path)
    found = header["identity"]
    for key in sorted({*identity, *found}):
        if found.get(key) != identity.get(key):
            raise FileFormatError(
                f"checkpoint {path} is of another training: {key} is {found.get(key)!r} there, {identity.get(key)!r} now; "
                f"use the same settings to continue, or remove the file to start again"
            )
    state = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    wanted = model.state_dict()
    if state.keys() != wanted.keys() or any(state[name].shape != wanted[name].shape for name in wanted):
        raise FileFormatError(f"checkpoint {path} is of another network; remove the file to start again")
    model.load_state_dict(state)
    for name, parameter in model.named_parameters():
        momentum = tensors.get(f"momentum.{name}")
        if momentum is not None:
            # Like the parameter in device and memory format, so that continuing computes exactly what would have been.
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    return int(header["step"])


def _momenta(model: nn.Module, optimizer: torch.optim.SGD) -> list[tuple[str, Tensor]]:
    buffers = (
        (name, optimizer.state.get(parameter, {}).get("momentum_buffer")) for name, parameter in model.named_parameters()
    )
    return [(name, buffer) for name, buffer in buffers if buffer is not None]


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("netadapt", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is not a training checkpoint: {error}; remove it to start again") from error
    check_header(header, where=str(path), format=_FORMAT, version=_VERSION)
    if not isinstance(header.get("identity"), dict) or not isinstance(header.get("step"), int):
        raise FileFormatError(f"{path} is not a training checkpoint; remove it to start again")
    return header, tensors
