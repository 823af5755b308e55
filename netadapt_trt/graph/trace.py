"""Exports a network once; everything else about its structure is read from that program."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from netadapt_trt.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Traced", "drop_auxiliary_heads", "export_program", "quiet_export", "trace"]

# Heads that torchvision's networks use in training only; without them the network computes the same.
_AUXILIARY = ("aux1", "aux2", "AuxLogits", "aux_classifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A network in eval mode and its exported program.

    Attributes:
        program: the eval-mode program.
        training: the train-mode program, only where the eval one does not reach all parameters.
        example: random input of the traced shape.
        notices: what the user should know (heads that were dropped).
    """

    program: torch.export.ExportedProgram
    training: torch.export.ExportedProgram | None
    model: nn.Module
    example: torch.Tensor
    notices: tuple[str, ...]


def trace(model: nn.Module, input_shape: Sequence[int]) -> Traced:
    """Export ``model`` (set to eval mode; known auxiliary heads are dropped in place) for inputs of ``input_shape``.

    Raises:
        TraceError: it does not export; the message names the operator or line.
    """
    notices = drop_auxiliary_heads(model)
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    example = torch.randn(tuple(input_shape), generator=torch.Generator().manual_seed(0)).to(device)
    program = export_program(model, example)
    training = None
    if unreached_parameters(model, program):
        model.train()
        try:
            # Batch norm in train mode refuses a single value per channel, so two pictures.
            training = export_program(model, torch.cat([example, example]))
        finally:
            model.eval()
    return Traced(program=program, training=training, model=model, example=example, notices=tuple(notices))


def drop_auxiliary_heads(model: nn.Module) -> list[str]:
    """Remove heads that only training uses; returns a notice for each."""
    notices = []
    for name in _AUXILIARY:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)
            notices.append(f"the auxiliary head {name} is used in training only and was dropped")
    if notices and hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]
    return notices


def unreached_parameters(model: nn.Module, program: torch.export.ExportedProgram) -> list[str]:
    """Parameters that the program never reads."""
    signature = program.graph_signature
    read = {
        signature.inputs_to_parameters[node.name]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in signature.inputs_to_parameters and node.users
    }
    # A tensor that two modules share is exported under one of its names.
    tensors = dict(model.named_parameters(remove_duplicate=False))
    shared = {id(tensors[name]) for name in read if name in tensors}
    return [name for name, tensor in tensors.items() if name not in read and id(tensor) not in shared]


def export_program(model: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """``torch.export`` with its failures told in our words. Raises TraceError."""
    try:
        with quiet_export(), torch.no_grad():
            model(example)
    except Exception as error:
        raise TraceError(
            f"the network does not run on an input of shape {tuple(example.shape)}: {_first_lines(error)}; check --input"
        ) from error
    try:
        with quiet_export():
            return torch.export.export(model, (example,))
    except Exception as error:  # torch.export raises whatever the network's code made it raise
        raise TraceError(
            f"the network cannot be exported: {_first_lines(error)}\nIts forward must be free of control flow that depends "
            f"on tensor values; rewrite the line named above, or adapt the part of the network that exports"
        ) from error


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("File ", "from user code")) or "aten" in line]
    return " | ".join(dict.fromkeys([*lines[:2], *told[-2:]])) or type(error).__name__


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without the exporter's own deprecation warnings, which its users can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        yield
