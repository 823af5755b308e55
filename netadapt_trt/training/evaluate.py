"""How good a network is on a split."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from netadapt_trt.errors import DataError
from netadapt_trt.zoo.head import scores_of

if TYPE_CHECKING:
    from torch import nn

    from netadapt_trt.training.split import Split

__all__ = ["evaluate", "evaluate_loss"]


def evaluate(model: nn.Module, split: Split, *, batch_size: int = 256, device: str = "cpu") -> float:
    """Share of examples whose highest score is their class, 0 to 1. Mode and device of ``model`` are put back.

    Raises:
        DataError: an empty split, or labels beyond the network's outputs.
    """
    return _scored(model, split, batch_size, device)[0]


def evaluate_loss(model: nn.Module, split: Split, *, batch_size: int = 256, device: str = "cpu") -> tuple[float, float]:
    """(accuracy 0 to 1, mean cross-entropy in nats; NaN where the scores are not finite). See :func:`evaluate`."""
    return _scored(model, split, batch_size, device)


def _scored(model: nn.Module, split: Split, batch_size: int, device: str) -> tuple[float, float]:
    if len(split) == 0:
        raise DataError("there is nothing to evaluate on: the split is empty")
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    training = model.training
    correct, loss = 0, 0.0
    model.to(device).eval()
    try:
        with torch.inference_mode():
            for inputs, labels in split.batches(batch_size, device=device, channels_last=True):
                scores = scores_of(model(inputs)).float()
                if scores.shape[1] <= int(split.labels.max()):
                    raise DataError(
                        f"the network has {scores.shape[1]} outputs, the data has labels up to {int(split.labels.max())}"
                    )
                correct += int((scores.argmax(1) == labels).sum())
                loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
    finally:
        model.train(training).to(home)
    mean = loss / len(split)
    return correct / len(split), mean if math.isfinite(mean) else math.nan
