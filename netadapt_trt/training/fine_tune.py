"""Train a network in place: stochastic gradient descent with Nesterov momentum, short or long.

Every random choice of step ``s`` derives from (seed, s): the order of the data, cropping, dropout. An interrupted training
therefore continues from its checkpoint as if nothing had happened, bit for bit where the arithmetic repeats (one thread, or
as many threads as before on most machines).
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.errors import CheckError, DataError, SpecError
from netadapt_trt.progress import QUIET
from netadapt_trt.training.checkpoint import read_checkpoint, write_checkpoint
from netadapt_trt.zoo.head import scores_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from netadapt_trt.progress import Progress, Task
    from netadapt_trt.training.split import DataSet, Split

__all__ = ["FineTune", "check_classes", "fine_tune", "learning_rate_at", "total_steps"]

_LOG_EVERY = 10
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """How to train. Give ``steps`` or ``epochs``; 0 trains nothing.

    ``warmup_steps`` raise the learning rate linearly from near zero. ``weight_decay`` leaves biases and normalisation alone.
    ``dropout`` replaces the probability of every dropout layer while training. ``amp`` computes in bfloat16, or float16
    where a device lacks that, on CUDA only. ``channels_last`` acts on networks with pictures as input.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    label_smoothing: float = 0.0
    dropout: float | None = None
    augment: bool = True
    seed: int = 0
    device: str = "cpu"
    amp: bool = False
    channels_last: bool = True

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise SpecError("a training needs either steps or epochs")
        length = self.steps if self.steps is not None else self.epochs
        if length is None or not math.isfinite(length) or length < 0:
            raise SpecError(f"a training cannot have {length} steps or epochs")
        if self.batch_size < 1 or self.warmup_steps < 0:
            raise SpecError("the batch size must be positive and warm-up steps not negative")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SpecError(f"the learning rate must be positive, not {self.learning_rate}")
        for name in ("momentum", "label_smoothing", "weight_decay", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise SpecError(f"{name.replace('_', ' ')} must be at least 0 and below 1, not {value}")
        if self.schedule not in ("constant", "cosine"):
            raise SpecError(f"unknown schedule {self.schedule!r}; known: constant, cosine")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def _steps_per_epoch(split: Split, settings: FineTune) -> int:
    return max(1, len(split) // settings.batch_size)


def total_steps(split: Split, settings: FineTune) -> int:
    """How many optimiser steps ``settings`` mean on ``split``; incomplete batches are left out."""
    if settings.steps is not None:
        return settings.steps
    return round((settings.epochs or 0) * _steps_per_epoch(split, settings))


def learning_rate_at(step: int, steps: int, settings: FineTune) -> float:
    """The rate of step ``step`` of ``steps``, counted from 0: linear warm-up, then constant or a cosine to zero."""
    warmup = min(settings.warmup_steps, steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fine_tune(
    model: nn.Module,
    split: Split,
    settings: FineTune,
    *,
    progress: Progress = QUIET,
    log: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 60.0,
    each_epoch: Callable[[nn.Module], dict[str, float]] | None = None,
) -> None:
    """Train ``model`` in place; it ends in eval mode on the device where it was.

    ``checkpoint`` is a file written every ``checkpoint_every_s`` seconds, after every epoch and at the end; where it exists,
    training continues from it. The caller removes it once the result is safe. ``log`` gets (step, figures);
    ``each_epoch`` adds figures of its own (a validation accuracy) after each full pass.

    Raises:
        CheckError: the loss is not finite.
        DataError: labels beyond the network's outputs.
        FileFormatError: a checkpoint of another network, other data or other settings.
    """
    steps = total_steps(split, settings)
    if steps == 0:
        model.eval()
        return
    with _training_state(model, settings):
        run = _Run(model, split, settings, steps)
        if checkpoint is not None and checkpoint.exists():
            run.step = read_checkpoint(checkpoint, model, run.optimizer, run.identity())
            progress.notice(f"continuing the training at step {run.step} of {steps}")
        saved = time.monotonic()
        with progress.task("fine-tune", total=steps) as task:
            task.advance(run.step)
            for inputs, labels in run.examples():
                run.advance(inputs, labels, task, log)
                epoch_done = run.step % run.per_epoch == 0
                if epoch_done and each_epoch is not None:
                    figures = each_epoch(model)
                    model.train()
                    if log is not None:
                        log(run.step, figures)
                ended = run.step == steps
                if ended:
                    run.check_end(inputs, labels)
                if checkpoint is not None and (ended or epoch_done or time.monotonic() - saved >= checkpoint_every_s):
                    write_checkpoint(checkpoint, model, run.optimizer, run.step, run.identity())
                    saved = time.monotonic()


@contextlib.contextmanager
def _training_state(model: nn.Module, settings: FineTune) -> Iterator[None]:
    """Train mode, device, memory format, dropout and the global generator; all but the weights are put back."""
    dropouts = [module for module in model.modules() if isinstance(module, _DROPOUTS)]
    before = [module.p for module in dropouts]
    for module in dropouts:
        module.p = module.p if settings.dropout is None else settings.dropout
    pictures = settings.channels_last and any(isinstance(module, nn.Conv2d) for module in model.modules())
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.to(settings.device)
    if pictures:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    device = torch.device(settings.device)
    generators = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=generators):
            yield
    finally:
        for module, probability in zip(dropouts, before, strict=True):
            module.p = probability
        if pictures:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model.eval().to(home)


class _Run:
    """One training under way: what changes from step to step."""

    def __init__(self, model: nn.Module, split: Split, settings: FineTune, steps: int) -> None:
        self.model = model
        self.split = split
        self.settings = settings
        self.steps = steps
        self.step = 0
        self.per_epoch = _steps_per_epoch(split, settings)
        self.optimizer = _optimizer(model, settings)
        self.device = torch.device(settings.device)
        self.half = _half_type(settings)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.half is torch.float16)
        self.seen = torch.zeros(3, device=self.device)  # loss, correct, examples since the last log line

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the training that continues from it."""
        settings = self.settings.to_json()
        del settings["device"]
        return {
            **settings,
            "total_steps": self.steps,
            "examples": len(self.split),
            "labels": int(_digest(self.split.labels)),
        }

    def examples(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the present step to the last, epoch after epoch."""
        while self.step < self.steps:
            epoch, start = divmod(self.step, self.per_epoch)
            batches = self.split.batches(
                self.settings.batch_size,
                shuffle_seed=_derived(self.settings.seed, epoch),
                augment=self.settings.augment,
                device=self.device,
                channels_last=self.settings.channels_last,
                start=start,
                drop_last=True,
            )
            for batch in batches:
                yield batch
                if self.step == self.steps:
                    return

    def advance(
        self, inputs: Tensor, labels: Tensor, task: Task, log: Callable[[int, dict[str, float]], None] | None
    ) -> None:
        """One optimiser step."""
        torch.manual_seed(_derived(self.settings.seed, self.step, 1))  # for dropout
        rate = learning_rate_at(self.step, self.steps, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            scores = scores_of(self.model(inputs))
            # Labels on the host: asking the device would stop it at every step.
            _check_labels(scores, int(self.split.labels.max()), labels)
            loss = functional.cross_entropy(scores, labels, label_smoothing=self.settings.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        correct = (scores.detach().argmax(1) == labels).sum()
        self.seen += torch.stack(
            [loss.detach().float() * len(labels), correct.float(), correct.new_tensor(len(labels)).float()]
        )
        task.advance(1)
        if self.step % _LOG_EVERY == 0 or self.step == self.steps:
            self._tell(rate, task, log)

    def check_end(self, inputs: Tensor, labels: Tensor) -> None:
        """The loss once more after the last update, which no further step would notice. Raises CheckError."""
        self.model.eval()
        with torch.inference_mode():
            loss = float(functional.cross_entropy(scores_of(self.model(inputs)).float(), labels))
        self.model.train()
        if not math.isfinite(loss):
            raise self._diverged(learning_rate_at(self.step - 1, self.steps, self.settings))

    def _diverged(self, rate: float) -> CheckError:
        return CheckError(
            f"the loss is no longer finite after step {self.step} of {self.steps} (learning rate {rate:g}); "
            f"lower the learning rate, add warm-up steps, and check that the weights suit the data's normalisation"
        )

    def _tell(self, rate: float, task: Task, log: Callable[[int, dict[str, float]], None] | None) -> None:
        total, correct, count = self.seen.tolist()
        self.seen.zero_()
        if not math.isfinite(total):
            raise self._diverged(rate)
        task.describe(f"fine-tune: loss {total / count:.3f}")
        if log is not None:
            log(self.step, {"loss": total / count, "train_accuracy": correct / count, "learning_rate": rate})


def _optimizer(model: nn.Module, settings: FineTune) -> torch.optim.SGD:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise SpecError("the network has no trainable parameters")
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0, dampening=0.0
    )


def _half_type(settings: FineTune) -> torch.dtype | None:
    if not settings.amp or torch.device(settings.device).type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def check_classes(model: nn.Module, data: DataSet) -> None:
    """Run one example of ``data`` and compare the scores with its labels, so that nothing is begun that cannot be trained.

    Raises:
        DataError: labels beyond the network's outputs, or an output that is no row of scores.
    """
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    training = model.training
    inputs, labels = next(data.train.batches(1, device=home))
    model.eval()
    try:
        with torch.inference_mode():
            scores = scores_of(model(inputs))
    finally:
        model.train(training)
    _check_labels(scores, int(max(data.train.labels.max(), data.test.labels.max())), labels)


def _check_labels(scores: Tensor, highest: int, labels: Tensor) -> None:
    if scores.dim() != 2 or scores.shape[0] != labels.shape[0]:
        raise DataError(
            f"the network returns scores of shape {tuple(scores.shape)}; one row of class scores per input was expected"
        )
    if scores.shape[1] <= highest:
        raise DataError(
            f"the network has {scores.shape[1]} outputs, the data has labels up to {highest}; "
            f"build it with --num-classes {highest + 1} (and --reset-head for pretrained weights)"
        )


def _derived(*numbers: int) -> int:
    """One seed of several numbers; the same on every machine."""
    return int(np.random.SeedSequence([number & 0xFFFFFFFF for number in numbers]).generate_state(1, np.uint32)[0])


def _digest(labels: np.ndarray[Any, Any]) -> int:
    import zlib

    return zlib.crc32(np.ascontiguousarray(labels).tobytes())
