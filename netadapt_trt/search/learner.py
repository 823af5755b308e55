"""The search itself: epochs of weights and theta in turn, from any step on.

An epoch has three stages: weights learn on their part of the training set; after the warm-up theta learns on the other
part; then that part is scored, run as weights learn: each batch with a Gumbel-softmax draw of its own, or on a drawn path.
With sampled paths that is what a child drawn now would have with the shared weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from netadapt_trt.errors import CheckError, FileFormatError
from netadapt_trt.search.checkpoint import read_checkpoint, write_checkpoint
from netadapt_trt.search.cost import ExpectedCost
from netadapt_trt.search.steps import Seen, generator_of, score_batch, step_theta, step_weights
from netadapt_trt.search.supernet import Supernet
from netadapt_trt.search.target import Pilot, limits_of
from netadapt_trt.search.theta import Theta
from netadapt_trt.search.within import most_probable_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.space.knobs import Knobs
    from netadapt_trt.space.table import SpaceTable
    from netadapt_trt.training.split import Split

__all__ = ["STAGES", "Learner", "Position", "cpu_threads"]

STAGES = ("weights", "theta", "score")
_WEIGHTS, _THETA, _SCORE = range(3)


@dataclass(frozen=True, slots=True)
class Position:
    """What comes next: ``epoch`` from 0, ``stage`` of :data:`STAGES`, ``step`` within it."""

    epoch: int
    stage: int
    step: int


class Learner:
    """Weights, theta and what leads them. :meth:`steps` goes on to the end; state may be saved after each step."""

    def __init__(self, settings: SearchSettings, table: SpaceTable, weights: Split, theta: Split, num_classes: int) -> None:
        self.settings = settings
        self.table = table
        self.splits = (weights, theta, theta)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.supernet = Supernet(table.space, num_classes, nested=settings.paths == "sampled")
        self.supernet.to(settings.device)
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.theta = Theta(table.space, settings.theta_start)
        self.cost = ExpectedCost(table)
        self.optimizers = (_weights_optimizer(self.supernet, settings), _theta_optimizer(self.theta, settings))
        self.limits = limits_of(table, settings.latency_target_ms, settings.energy_target_mj)
        steps = (settings.epochs - settings.warmup_epochs) * self._batches(_THETA)
        powers = {"latency": settings.beta, "energy": settings.delta}
        self.pilots = {name: Pilot(limit, powers[name], steps) for name, limit in self.limits.items()}
        self.at = Position(0, 0, 0)
        self._sums = _nothing()
        self._seconds = 0.0
        self._since = time.perf_counter_ns()

    def knobs(self) -> Knobs:
        """The knobs as they are now: a target leads its own."""
        found = self.settings.knobs
        if "latency" in self.pilots:
            found = replace(found, alpha=self.pilots["latency"].factor)
        if "energy" in self.pilots:
            found = replace(found, gamma=self.pilots["energy"].factor)
        return found

    def child(self) -> tuple[int, ...]:
        """The most probable child that meets the targets."""
        return most_probable_within(self.theta.array(), list(self.limits.values()))

    def steps_of(self, epoch: int) -> tuple[int, int, int]:
        """How many steps each stage of ``epoch`` has."""
        learns = epoch >= self.settings.warmup_epochs
        return (self._batches(_WEIGHTS), self._batches(_THETA) if learns else 0, self._batches(_SCORE))

    def total(self) -> int:
        """Steps of the whole search."""
        return sum(sum(self.steps_of(epoch)) for epoch in range(self.settings.epochs))

    def done(self) -> int:
        """Steps before the present position."""
        before = sum(sum(self.steps_of(epoch)) for epoch in range(self.at.epoch))
        return before + (sum(self.steps_of(self.at.epoch)[: self.at.stage]) if self.at.stage else 0) + self.at.step

    def steps(self) -> Iterator[dict[str, Any] | None]:
        """Take step after step; yields None after each, and the epoch's line for the history after its last.

        Raises:
            CheckError: the loss is not finite.
        """
        while self.at.epoch < self.settings.epochs:
            count = self.steps_of(self.at.epoch)[self.at.stage]
            if self.at.step < count:
                for batch in self._examples():
                    self._step(batch)
                    self.at = replace(self.at, step=self.at.step + 1)
                    if self.at.step < count or self.at.stage != _SCORE:
                        yield None
            if self.at.stage == _SCORE:
                yield self._end_epoch()
            else:
                self.at = Position(self.at.epoch, self.at.stage + 1, 0)

    def save(self, path: Path) -> None:
        """Write everything that :meth:`load` needs to go on from the present position."""
        content = {
            "epoch": self.at.epoch,
            "stage": self.at.stage,
            "step": self.at.step,
            "sums": self._sums,
            "seconds": self._elapsed(),
            "pilots": {name: pilot.state() for name, pilot in self.pilots.items()},
        }
        write_checkpoint(path, self.supernet, self.theta, self.optimizers, content)

    def load(self, path: Path) -> None:
        """Raises FileFormatError for a file that is damaged or of another search."""
        content = read_checkpoint(path, self.supernet, self.theta, self.optimizers)
        try:
            self.at = Position(*(int(content[key]) for key in ("epoch", "stage", "step")))
            self._sums = [[float(value) for value in row] for row in content["sums"]]
            self._seconds = float(content["seconds"])
            for name, pilot in self.pilots.items():
                pilot.load(content["pilots"][name])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{path} is damaged: {error!r}; start the search again") from error
        self._since = time.perf_counter_ns()

    def _batches(self, stage: int) -> int:
        return max(1, len(self.splits[stage]) // self.settings.batch_size)

    def _examples(self) -> Iterator[tuple[Tensor, Tensor]]:
        # Scoring shuffles, too: batch norm knows only its batch, and files come sorted by class.
        epoch = 0 if self.at.stage == _SCORE else self.at.epoch
        return self.splits[self.at.stage].batches(
            self.settings.batch_size,
            shuffle_seed=_seed(self.settings.seed, epoch, self.at.stage),
            augment=self.settings.augment and self.at.stage == _WEIGHTS,
            device=self.settings.device,
            channels_last=True,
            start=self.at.step,
            drop_last=True,
        )

    def _step(self, batch: tuple[Tensor, Tensor]) -> None:
        settings, at = self.settings, self.at
        generator = generator_of(settings.seed, at.epoch, at.stage, at.step)
        temperature = settings.temperature_at(at.epoch)
        if at.stage == _WEIGHTS:
            self._set_rate()
            seen = step_weights(
                self.supernet,
                self.theta,
                self.optimizers[0],
                batch,
                paths=settings.paths,
                temperature=temperature,
                generator=generator,
                gradient_clip=settings.gradient_clip,
            )
        elif at.stage == _THETA:
            seen = step_theta(
                self.supernet,
                self.theta,
                self.optimizers[1],
                batch,
                paths=settings.paths,
                temperature=temperature,
                generator=generator,
                cost=self.cost,
                knobs=self.knobs(),
            )
            for pilot in self.pilots.values():
                pilot.update(self.theta.argmax())
        else:
            seen = score_batch(
                self.supernet, self.theta, batch, paths=settings.paths, temperature=temperature, generator=generator
            )
        self._take(seen)

    def _take(self, seen: Seen) -> None:
        if not math.isfinite(seen.loss):
            raise CheckError(
                f"the loss is no longer finite in epoch {self.at.epoch + 1} (stage {STAGES[self.at.stage]}); start again "
                f"with a lower --learning-rate, and check that the data's normalisation is right"
            )
        for index, value in enumerate(seen):
            self._sums[self.at.stage][index] += value

    def _set_rate(self) -> None:
        """A cosine from the full rate to zero over all steps of the search."""
        per_epoch = self._batches(_WEIGHTS)
        share = (self.at.epoch * per_epoch + self.at.step) / (self.settings.epochs * per_epoch)
        for group in self.optimizers[0].param_groups:
            group["lr"] = self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _end_epoch(self) -> dict[str, Any]:
        epoch, settings, knobs = self.at.epoch, self.settings, self.knobs()
        (train_loss, train_right, train_count), _, (val_loss, val_right, val_count) = self._sums
        with torch.no_grad():
            expected = self.theta.probabilities()
            energy = self.cost.energy_j(expected)
            latency = float(self.cost.latency_s(expected))
        child = self.child()
        line = {
            "epoch": epoch + 1,
            "phase": "warmup" if epoch < settings.warmup_epochs else "search",
            "temperature": settings.temperature_at(epoch),
            "train_loss": train_loss / train_count,
            "train_accuracy": train_right / train_count,
            "val_loss": val_loss / val_count,
            "val_accuracy": val_right / val_count,
            "lat_s": latency,
            "ener_j": None if energy is None else float(energy),
            "child_latency_ms": self.table.latency(child),
            "child_energy_mj": self.table.energy(child) if self.table.has_energy else None,
            "alpha": knobs.alpha,
            "gamma": knobs.gamma,
            "entropy": self.theta.entropy(),
            "seconds": round(self._elapsed(), 3),
        }
        self.at = Position(epoch + 1, 0, 0)
        self._sums, self._seconds, self._since = _nothing(), 0.0, time.perf_counter_ns()
        return line

    def _elapsed(self) -> float:
        """Seconds of the present epoch, over every process that worked on it."""
        return self._seconds + (time.perf_counter_ns() - self._since) / 1e9


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Train with ``count`` threads of the CPU; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _nothing() -> list[list[float]]:
    """Loss, correct and count of each stage."""
    return [[0.0, 0.0, 0.0] for _ in STAGES]


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence([number & 0xFFFFFFFF for number in numbers]).generate_state(1, np.uint32)[0])


def _weights_optimizer(supernet: Supernet, settings: SearchSettings) -> torch.optim.SGD:
    """Biases and batch norms do not decay."""
    parameters = list(supernet.parameters())
    groups: list[Mapping[str, Any]] = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)  # type: ignore[arg-type]


def _theta_optimizer(theta: Theta, settings: SearchSettings) -> torch.optim.Adam:
    return torch.optim.Adam([theta.values], lr=settings.theta_learning_rate)
