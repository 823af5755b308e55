"""Find and replace a network's output layer, whatever its class calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import batch_hint

__all__ = ["output_layer", "reset_head", "scores_of"]


def output_layer(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Module path of the linear layer or convolution that makes the scores: the last of them to run in a forward pass.

    Raises:
        SpecError: the network does not run on ``input_shape``, or no such layer makes its output channels.
    """
    called: list[tuple[str, int]] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            handles.append(module.register_forward_hook(_recorder(called, name, width)))
    training = model.training
    try:
        with torch.no_grad():
            output = scores_of(model.eval()(torch.zeros(input_shape)))
    except Exception as error:  # whatever the user's network raises
        shape = "x".join(map(str, input_shape))
        told = f"{type(error).__name__}: {error}{batch_hint(input_shape)}"
        raise SpecError(f"the network does not run on an input of {shape}: {told}") from error
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if not called or output.dim() < 2 or called[-1][1] != output.shape[1]:
        raise SpecError(
            "the output layer was not found: the last linear layer or convolution to run does not make the output; "
            "give the factory its number of classes with --model-arg instead of --reset-head"
        )
    return called[-1][0]


def _recorder(called: list[tuple[str, int]], name: str, width: int) -> Any:
    def record(*_: object) -> None:
        called.append((name, width))

    return record


def reset_head(model: nn.Module, num_classes: int, input_shape: tuple[int, ...]) -> str:
    """Replace the output layer by a fresh one of the same kind with ``num_classes`` outputs; returns its module path.

    Raises:
        SpecError: no output layer found (:func:`output_layer`), or ``num_classes`` below 1.
    """
    if num_classes < 1:
        raise SpecError(f"the number of classes must be positive, not {num_classes}")
    path = output_layer(model, input_shape)
    parent, _, name = path.rpartition(".")
    old: Any = model.get_submodule(path)
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:
        new = type(old)(
            old.in_channels, num_classes, old.kernel_size, old.stride, old.padding, old.dilation, bias=old.bias is not None
        )
    setattr(model.get_submodule(parent), name, new)
    if isinstance(getattr(model, "num_classes", None), int):
        setattr(model, "num_classes", num_classes)  # noqa: B010  the type of a plain attribute is unknown to mypy
    return path


def scores_of(output: Any) -> torch.Tensor:
    """The main scores [N, classes, ...] of a network that may also return those of auxiliary heads."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict):
        output = output.get("out", next(iter(output.values()), None))
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise SpecError(f"the network returns a {type(output).__name__}; a tensor of scores was expected")
    return output
