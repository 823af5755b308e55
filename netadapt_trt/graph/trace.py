"""Exports a network once; everything else about its structure is read from that program."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from netadapt_trt.errors import TraceError
from netadapt_trt.spec import batch_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = [
    "Traced",
    "drop_auxiliary_heads",
    "export_program",
    "quiet_export",
    "shared_names",
    "trace",
    "unreached_parameters",
]

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
    example = _example(input_shape).to(device)
    program = export_program(model, example)
    training = None
    lost = unreached_parameters(model, program)
    if lost:
        # On a copy: running in train mode moves the statistics of batch norms, which refuse a single value per channel.
        try:
            training = export_program(copy.deepcopy(model).train(), torch.cat([example, example]))
        except TraceError as error:
            raise TraceError(
                f"the parameter {lost[0]} is not used in eval mode; in train mode, which could tell what feeds it, {error}"
            ) from error
    return Traced(program=program, training=training, model=model, example=example, notices=tuple(notices))


def _example(shape: Sequence[int]) -> torch.Tensor:
    try:
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))
    except (RuntimeError, MemoryError) as error:
        raise TraceError(f"an input of shape {'x'.join(map(str, shape))} does not fit into memory; check --input") from error


def drop_auxiliary_heads(model: nn.Module) -> list[str]:
    """Remove heads of torchvision's networks that only training uses; returns a notice for each.

    Heads of the same name in other networks may do anything, and are found by what the traces reach.
    """
    if not any(kind.__module__.startswith("torchvision.models.") for kind in type(model).__mro__):
        return []
    notices = []
    for name in _AUXILIARY:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)
            notices.append(f"the auxiliary head {name} is used in training only and was dropped")
    if notices and hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]
    return notices


def shared_names(model: nn.Module) -> dict[str, str]:
    """Further name -> first name of every tensor that the model knows by several."""
    first: dict[int, str] = {}
    further: dict[str, str] = {}
    for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)):
        known = first.setdefault(id(tensor), name)
        if known != name:
            further[name] = known
    return further


def unreached_parameters(model: nn.Module, program: torch.export.ExportedProgram) -> list[str]:
    """Parameters that the program never reads, under their first names."""
    parameters, aliases = program.graph_signature.inputs_to_parameters, shared_names(model)
    read = {
        aliases.get(parameters[node.name], parameters[node.name])
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in parameters and node.users
    }
    return [name for name, _ in model.named_parameters() if name not in read]


def export_program(model: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """``torch.export`` with its failures told in our words. Raises TraceError naming the operator or the line."""
    try:
        with quiet_export(), torch.no_grad():
            model(example)
    except Exception as error:  # whatever the network's own code raises
        wanted = _required_inputs(model)
        if len(wanted) > 1:
            raise TraceError(
                f"the network takes {len(wanted)} inputs ({', '.join(wanted)}); only networks of one input tensor can be "
                f"traced here. Wrap it in a module whose forward takes one and makes the others from it"
            ) from error
        where = f"in {_failing_module(model, example)}: {_told(error)}"
        shape = tuple(example.shape)
        raise TraceError(
            f"the network does not run on an input of shape {shape}, {where}; check --input{batch_hint(shape)}"
        ) from error
    try:
        with quiet_export():
            return torch.export.export(model, (example,))
    except Exception as error:  # torch.export raises whatever the network's code made it raise
        raise TraceError(
            f"the network cannot be exported: {_told(error)}\nIts forward must be free of control flow that depends "
            f"on tensor values, and of anything but PyTorch operators; rewrite the line named above"
        ) from error


def _required_inputs(model: nn.Module) -> list[str]:
    """What the network's forward must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters
    return [name for name, given in parameters.items() if given.kind in kinds and given.default is given.empty]


def _failing_module(model: nn.Module, example: torch.Tensor) -> str:
    """The innermost module whose forward does not return; only asked once it is known that one does not."""
    running: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: _drop(running)))
    try:
        with quiet_export(), torch.no_grad(), contextlib.suppress(Exception):
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return running[-1] if running and running[-1] else "its forward"


def _drop(running: list[str]) -> None:
    running.pop()


def _told(error: Exception) -> str:
    """The first lines of a message, and where in the network's code it comes from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        place = _place(cause.__traceback__)
        if place:
            return f"{text} ({place})"
        cause = cause.__cause__ or cause.__context__
    return " | ".join(dict.fromkeys([text, *(line for line in lines if line.startswith("File "))]))


def _place(trace: TracebackType | None) -> str:
    """The innermost line outside PyTorch and this package; empty when there is none."""
    torch_home, home = Path(torch.__file__).parent, Path(__file__).parents[1]
    for frame in reversed(traceback.extract_tb(trace)):
        file = Path(frame.filename)
        ours = home in file.parents and home / "zoo" not in file.parents
        if file.is_file() and not ours and torch_home not in file.parents:
            return f"{frame.filename}, line {frame.lineno}: {frame.line}"
    return ""


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Without the exporter's warnings, log lines and prints about itself, which its users can do nothing about."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.filterwarnings("ignore", category=category)
            yield
    finally:
        logging.disable(level)
