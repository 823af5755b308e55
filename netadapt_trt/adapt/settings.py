"""Everything that decides how a run goes, in one frozen object that survives a round trip through JSON.

The defaults serve: model, data, budget and output are enough (plus a LUT for latency or energy). Nothing here touches files,
the environment or a device; whatever makes no sense is refused before a run begins, that of its last hour too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import Budget, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netadapt_trt.training.fine_tune import FineTune

__all__ = ["AdaptSettings", "ImportanceMethod", "SearchMethod", "WinnerRule"]

SearchMethod = Literal["scan", "binary", "envelope"]
WinnerRule = Literal["paper", "ratio"]
ImportanceMethod = Literal["l2", "l1", "bn_scale", "taylor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """One NetAdapt run.

    Attributes:
        spec: the network and its input shape.
        weights: file or ``torchvision:DEFAULT``; None starts from random weights (said in a notice).
        data: data spec (``digits``, ``imagefolder:DIR``, ...), with ``image_size`` and ``normalize`` as overrides.
        budgets: all must hold. Latency and energy need ``lut``.
        output: the run directory.
        backend: name; default the LUT's own. Used to measure when the LUT's device is this machine.
        reduction, decay: R0 * reduction * decay**(i-1) is the step of iteration i (NetAdapt's schedule).
        granularity: widths of convolution groups are multiples of it; default what the LUT's own staircase says of each
            group (channels that the runtime's kernels compute together), else 8.
        linear_granularity: the same for groups made by linear layers; default 64 for 1024 features or more, else
            ``granularity`` (the steps of Marichal et al.).
        group_granularity: single groups by name; wins over both.
        short_steps: optimiser steps of each proposal (T).
        long_seeds: how often the long-term phase is repeated, for mean and spread; the first one's network is kept.
        workers, devices: proposals trained at once; with ``devices`` one worker is pinned to each. Empty: the first CUDA
            device if there is one, else the CPU.
        threads_per_worker: CPU threads of each worker; default: the physical cores shared out. The same decisions for any
            number of workers are promised at equal threads each.
        measure: time the real network where the LUT's device is this machine.
        measured: a bench.json brought from the device; anchors the estimate where measuring here is impossible.
        profile_seconds: what profiling took, for result.json, where the caller knows it.
    """

    spec: ModelSpec
    data: str
    budgets: tuple[Budget, ...]
    output: Path
    weights: str | None = None
    lut: Path | None = None
    backend: str | None = None
    image_size: int | None = None
    normalize: str | None = None
    max_iterations: int = 200
    reduction: float = 0.025
    decay: float = 0.96
    width_search: SearchMethod = "envelope"
    winner: WinnerRule = "ratio"
    importance: ImportanceMethod = "l2"
    granularity: int | None = None
    linear_granularity: int | None = None
    group_granularity: Mapping[str, int] = field(default_factory=dict)
    short_steps: int = 200
    short_learning_rate: float = 0.01
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 1e-4
    long_epochs: float = 10.0
    long_learning_rate: float = 0.02
    label_smoothing: float = 0.0
    dropout: float | None = None
    long_seeds: int = 1
    augment: bool = True
    amp: bool = False
    channels_last: bool = True
    holdout: float = 0.1
    workers: int = 1
    devices: tuple[str, ...] = ()
    threads_per_worker: int | None = None
    uniform: bool = True
    measure: bool = True
    measured: Path | None = None
    rounds: int = 7
    tensorboard: bool = True
    seed: int = 0
    profile_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_budgets(self.budgets, self.lut)
        _check_choices(self)
        _check_numbers(self)
        _check_training("short-term", self.short_term)
        _check_training("long-term", self.long_term)

    def short_term(self, *, seed: int, rounds: int = 1, device: str = "cpu") -> FineTune:
        """How a proposal is trained; ``rounds`` times as long for a network that stands for as many iterations."""
        from netadapt_trt.training.fine_tune import FineTune

        return FineTune(
            steps=self.short_steps * rounds,
            batch_size=self.batch_size,
            learning_rate=self.short_learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            augment=self.augment,
            amp=self.amp,
            channels_last=self.channels_last,
            seed=seed,
            device=device,
        )

    def long_term(self, *, seed: int, device: str = "cpu") -> FineTune:
        """How the adapted network and the uniform one are trained to convergence."""
        from netadapt_trt.training.fine_tune import FineTune

        return FineTune(
            epochs=self.long_epochs,
            batch_size=self.batch_size,
            learning_rate=self.long_learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule="cosine",
            label_smoothing=self.label_smoothing,
            dropout=self.dropout,
            augment=self.augment,
            amp=self.amp,
            channels_last=self.channels_last,
            seed=seed,
            device=device,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        content = asdict(self)
        content["spec"] = self.spec.to_json()
        for name in ("output", "lut", "measured"):
            content[name] = None if content[name] is None else str(content[name])
        content["budgets"] = [asdict(budget) for budget in self.budgets]
        content["devices"] = list(self.devices)
        content["group_granularity"] = dict(self.group_granularity)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> AdaptSettings:
        """Keys that are missing take their defaults.

        Raises:
            SpecError: an unknown key, a missing one without default, or a value that does not fit.
        """
        unknown = sorted(set(content) - {f.name for f in fields(cls)})
        if unknown:
            raise SpecError(f"unknown settings: {', '.join(unknown)}; the run was written by another version")
        known = dict(content)
        try:
            known["spec"] = ModelSpec.from_json(known["spec"])
            known["budgets"] = tuple(Budget(**budget) for budget in known["budgets"])
            known["output"] = Path(known["output"])
            for name in ("lut", "measured"):
                known[name] = None if known.get(name) is None else Path(known[name])
            known["devices"] = tuple(known.get("devices", ()))
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise SpecError(f"the settings of a run cannot be read: {error!r}") from error


def _check_budgets(budgets: tuple[Budget, ...], lut: Path | None) -> None:
    if not budgets:
        raise SpecError("a run needs at least one budget; give for example --budget latency=0.6x")
    seen: set[str] = set()
    for budget in budgets:
        if budget.name in seen:
            raise SpecError(f"two budgets for {budget.name}; give each resource one budget")
        seen.add(budget.name)
        if budget.resource in ("latency", "energy") and lut is None:
            raise SpecError(f"the budget {budget} needs measurements of the device; give --lut FILE (made by profile)")


def _check_choices(settings: AdaptSettings) -> None:
    for name, kind in (("width_search", SearchMethod), ("winner", WinnerRule), ("importance", ImportanceMethod)):
        value, known = getattr(settings, name), get_args(kind)
        if value not in known:
            raise SpecError(f"unknown {name.replace('_', ' ')} {value!r}; known: {', '.join(known)}")


def _check_training(what: str, training: Callable[..., FineTune]) -> None:
    try:
        training(seed=0)
    except SpecError as error:
        raise SpecError(f"{what} fine-tuning: {error}") from error


def _check_numbers(settings: AdaptSettings) -> None:
    positive = ("batch_size", "workers", "long_seeds", "rounds", "max_iterations")
    for name in positive:
        if getattr(settings, name) < 1:
            raise SpecError(f"{name} must be at least 1, not {getattr(settings, name)}")
    for name in ("granularity", "linear_granularity", "threads_per_worker"):
        if getattr(settings, name) is not None and getattr(settings, name) < 1:
            raise SpecError(f"{name} must be at least 1, not {getattr(settings, name)}")
    for group, granularity in settings.group_granularity.items():
        if granularity < 1:
            raise SpecError(f"the granularity of {group} must be at least 1, not {granularity}")
    for name in ("reduction", "decay"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and 0 < value < 1):
            raise SpecError(f"{name} must lie between 0 and 1 (exclusive), not {value}")
    if not 0 < settings.holdout <= 0.5:
        raise SpecError(f"holdout must be above 0 and at most 0.5, not {settings.holdout}")
    if settings.devices and settings.workers not in (1, len(settings.devices)):
        raise SpecError(
            f"{settings.workers} workers for {len(settings.devices)} devices; one worker is pinned to each device"
        )
