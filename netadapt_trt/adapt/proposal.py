"""One proposal: cut one channel group of the current network, fine-tune briefly, score on the holdout, keep the weights.

:func:`run_proposal` depends on its picklable arguments alone, so any executor may run it anywhere that sees the run
directory. Seeds derive from (run seed, iteration, group), never from the worker. What is costly to open (the data, the
iteration's network) is kept for the next proposal of the same process.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from netadapt_trt.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.adapt.settings import AdaptSettings, ImportanceMethod
    from netadapt_trt.graph.network import Network
    from netadapt_trt.training.data import DataSet
    from netadapt_trt.training.fine_tune import FineTune
    from netadapt_trt.training.split import Split

__all__ = [
    "DataArguments",
    "ProposalJob",
    "ProposalResult",
    "cut_network",
    "derive_seed",
    "open_data_set",
    "open_splits",
    "run_proposal",
]

_TAYLOR_BATCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArguments:
    """What opens the same data with the same holdout everywhere."""

    data: str
    input_shape: tuple[int, ...]
    image_size: int | None
    normalize: str | None
    holdout: float
    seed: int

    @classmethod
    def of(cls, settings: AdaptSettings) -> DataArguments:
        """The data of a run."""
        return cls(
            data=settings.data,
            input_shape=settings.spec.input_shape,
            image_size=settings.image_size,
            normalize=settings.normalize,
            holdout=settings.holdout,
            seed=derive_seed(settings.seed, "holdout"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalJob:
    """All that one proposal depends on. ``network`` and ``output`` are directories."""

    network: str
    output: str
    group: str
    width: int
    importance: ImportanceMethod
    data: DataArguments
    fine_tune: FineTune


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalResult:
    """How a proposal did on the holdout: accuracy (0 to 1), mean cross-entropy, seconds, and by whom."""

    accuracy: float
    loss: float
    fine_tune_s: float
    evaluate_s: float
    worker: str


def derive_seed(seed: int, *parts: int | str) -> int:
    """A seed of 31 bits that depends on all parts and on nothing else."""
    text = "\0".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def run_proposal(job: ProposalJob, device: str) -> ProposalResult:
    """Make the proposal and leave its network in ``job.output``, whole or not at all.

    Raises:
        NetadaptError: data or network cannot be opened, or the training diverged (CheckError).
        OSError: the disk is full.
    """
    from netadapt_trt.graph.network import save_network
    from netadapt_trt.training.evaluate import evaluate_loss
    from netadapt_trt.training.fine_tune import fine_tune

    fit, held_out = open_splits(job.data)
    settings = replace(job.fine_tune, device=device)
    network = cut_network(stored_network(Path(job.network)), {job.group: job.width}, job.importance, fit, settings)
    started = time.perf_counter_ns()
    fine_tune(network.model, fit, settings)
    tuned = time.perf_counter_ns()
    accuracy, loss = evaluate_loss(network.model, held_out, batch_size=max(256, settings.batch_size), device=device)
    evaluated = time.perf_counter_ns()
    if not math.isfinite(loss):
        raise CheckError(
            f"its loss on the holdout is not finite (after {settings.steps} steps with learning rate "
            f"{settings.learning_rate:g}); a lower --short-learning-rate keeps the training from diverging"
        )
    output = Path(job.output)
    # The name carries the process: two writers of one proposal (a retry beside a dying worker) never share a directory.
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    save_network(network, temporary)
    shutil.rmtree(output, ignore_errors=True)
    temporary.replace(output)
    return ProposalResult(
        accuracy=accuracy,
        loss=loss,
        fine_tune_s=(tuned - started) / 1e9,
        evaluate_s=(evaluated - tuned) / 1e9,
        worker=f"{device} (process {os.getpid()})",
    )


def cut_network(
    network: Network, widths: Mapping[str, int], method: ImportanceMethod, fit: Split, settings: FineTune
) -> Network:
    """A copy of ``network`` with the groups of ``widths`` cut to their most important channels.

    One index set per group, shared by every layer tied to it; scores come from the uncut side, for all groups at once.
    """
    from netadapt_trt.graph.importance import importance, keep_indices
    from netadapt_trt.graph.network import shrink

    if method == "taylor":
        _taylor(network, fit, settings)
    try:
        keep = {
            group: keep_indices(importance(network.model, network.channels, group, method), width)
            for group, width in widths.items()
            if width < network.widths[group]
        }
        return shrink(network, keep)
    finally:
        network.model.zero_grad(set_to_none=True)


def _taylor(network: Network, fit: Split, settings: FineTune) -> None:
    from itertools import islice

    from netadapt_trt.graph.importance import taylor_gradients

    batches = fit.batches(
        settings.batch_size,
        shuffle_seed=settings.seed,
        augment=False,
        device="cpu",
        channels_last=settings.channels_last,
    )
    taylor_gradients(network.model, islice(batches, _TAYLOR_BATCHES))


def stored_network(directory: Path) -> Network:
    """The network in ``directory``, kept for the next call of this process. Copy it before changing it."""
    return _network(str(directory), (directory / "network.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _network(directory: str, _changed_ns: int) -> Network:
    from netadapt_trt.graph.network import load_network

    return load_network(Path(directory))


@functools.lru_cache(maxsize=1)
def _data(data: str, input_shape: tuple[int, ...], image_size: int | None, normalize: str | None) -> DataSet:
    from netadapt_trt.training.data import open_data

    return open_data(data, image_size=image_size, normalize=normalize, input_shape=input_shape)


def open_data_set(arguments: DataArguments) -> DataSet:
    """The whole data set; kept for the next call of this process."""
    return _data(arguments.data, arguments.input_shape, arguments.image_size, arguments.normalize)


@functools.lru_cache(maxsize=1)
def open_splits(arguments: DataArguments) -> tuple[Split, Split]:
    """(what short-term fine-tuning sees, the holdout); the test set is neither. Kept for the next call of this process."""
    from netadapt_trt.training.holdout import holdout

    return holdout(open_data_set(arguments).train, arguments.seed, arguments.holdout)
