"""Everything that decides how a search goes, in one frozen object that survives a round trip through JSON.

The defaults are those of HANNA and FBNet; space, tables, data and output are enough. Nothing here touches files or a device.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from netadapt_trt.errors import SpecError
from netadapt_trt.files import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.space.knobs import Knobs

__all__ = ["CHANGEABLE", "Paths", "SearchSettings", "require_counts"]

Paths = Literal["all", "sampled"]

_WHOLE = 1 << 63

CHANGEABLE = frozenset({"data", "device", "tensorboard", "threads"})
"""Settings that may be others when a search goes on: where it works, and where its data lie now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """One search.

    Attributes:
        space: a preset's name, or a JSON file.
        tables: what the blocks cost; latency and energy may lie in two files.
        data: data spec (``digits``, ``imagefolder:DIR``, ...), with ``image_size`` and ``normalize`` as overrides.
        output: the run directory.
        alpha, beta, gamma, delta: the loss is ``CE + alpha * LAT^beta + gamma * ENER^delta``, in seconds and joules.
        latency_target_ms, energy_target_mj: the child's estimate is to end at or under it and near it; alpha (gamma) is then
            set by the search itself, epoch by epoch.
        paths: ``all`` runs every candidate of each place and adds their outputs, weighted by Gumbel-softmax (FBNet);
            ``sampled`` runs one drawn candidate (two, one of them forward only, where theta learns: ProxylessNAS).
        epochs: all of them; in the first ``warmup_epochs`` only weights learn.
        learning_rate, momentum, weight_decay: of the weights: SGD, the rate falls along a cosine to zero.
        theta_learning_rate: of Adam on theta.
        theta_start: every theta begins with it.
        theta_share: of the training set, on which theta learns; weights learn on the rest.
        temperature, temperature_decay: Gumbel-softmax in epoch e (from 0) has ``temperature * temperature_decay ** e``.
        gradient_clip: the largest norm of all the weights' gradients together.
        threads: of the CPU; default: as many as torch takes.
    """

    space: str
    tables: tuple[Path, ...]
    data: str
    output: Path
    image_size: int | None = None
    normalize: str | None = None
    alpha: float = 0.2
    beta: float = 0.6
    gamma: float = 0.0
    delta: float = 0.6
    latency_target_ms: float | None = None
    energy_target_mj: float | None = None
    paths: Paths = "all"
    epochs: int = 90
    warmup_epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    theta_learning_rate: float = 0.01
    theta_start: float = 1.0
    theta_share: float = 0.2
    temperature: float = 5.0
    temperature_decay: float = 0.956
    gradient_clip: float = 5.0
    augment: bool = True
    device: str = "cpu"
    threads: int | None = None
    tensorboard: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tables:
            raise SpecError("a search needs a table of what blocks cost; give --table FILE")
        if self.paths not in get_args(Paths):
            raise SpecError(f"unknown paths {self.paths!r}; known: {', '.join(get_args(Paths))}")
        _ = self.knobs  # refuses what makes no sense
        _check_counts(self)
        _check_numbers(self)
        _check_targets(self)

    @property
    def knobs(self) -> Knobs:
        """The four knobs of the loss."""
        from netadapt_trt.space.knobs import Knobs  # numpy; these settings are shown where that is not loaded

        return Knobs(alpha=self.alpha, beta=self.beta, gamma=self.gamma, delta=self.delta)

    def temperature_at(self, epoch: int) -> float:
        """Of the Gumbel-softmax in ``epoch``, counted from 0."""
        return float(self.temperature * self.temperature_decay**epoch)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        content = asdict(self)
        content["tables"] = [str(path) for path in self.tables]
        content["output"] = str(self.output)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SearchSettings:
        """Keys that are missing take their defaults.

        Raises:
            SpecError: an unknown key, a missing one without default, or a value that does not fit.
        """
        unknown = sorted(set(content) - {f.name for f in fields(cls)})
        if unknown:
            raise SpecError(f"unknown settings: {', '.join(unknown)}; the search was written by another version")
        known = dict(content)
        try:
            require_counts(known)
            known["tables"] = tuple(Path(text) for text in known["tables"])
            known["output"] = Path(known["output"])
            return cls(**known)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SpecError(f"the settings of a search cannot be read: {error!r}; its run.json was changed") from error


def require_counts(content: Mapping[str, Any]) -> None:
    """Raise ValueError for whole numbers that no count is, which torch and numpy could not even hold."""
    for name, value in content.items():
        if isinstance(value, int) and not -_WHOLE < value < _WHOLE:
            raise ValueError(f"{name} is {shown(value)}")


def _check_counts(settings: SearchSettings) -> None:
    for name in ("epochs", "batch_size", "threads"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise SpecError(f"{name} must be at least 1, not {value}")
    if settings.batch_size < 2:
        raise SpecError("batch_size must be at least 2: batch norm needs more than one picture")
    if not 0 <= settings.warmup_epochs < settings.epochs:
        raise SpecError(
            f"{settings.warmup_epochs} warm-up epochs of {settings.epochs} leave none in which theta learns; "
            f"give fewer warm-up epochs or more epochs"
        )


def _check_numbers(settings: SearchSettings) -> None:
    for name in ("learning_rate", "theta_learning_rate", "temperature", "gradient_clip"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} must be above 0, not {value}")
    for name in ("momentum", "weight_decay"):
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise SpecError(f"{name} must be at least 0 and below 1, not {value}")
    if not math.isfinite(settings.theta_start):
        raise SpecError(f"theta_start must be a finite number, not {settings.theta_start}")
    if not 0 < settings.theta_share <= 0.5:
        raise SpecError(f"theta_share must be above 0 and at most 0.5, not {settings.theta_share}")
    if not 0 < settings.temperature_decay <= 1:
        raise SpecError(f"temperature_decay must be above 0 and at most 1, not {settings.temperature_decay}")
    if settings.temperature_at(settings.epochs - 1) < 1e-3:
        raise SpecError(
            f"the temperature would fall to {settings.temperature_at(settings.epochs - 1):.1e}, where nothing is learnt; "
            f"use a temperature_decay nearer to 1 for {settings.epochs} epochs"
        )


def _check_targets(settings: SearchSettings) -> None:
    for name, power, knob in (("latency_target_ms", "beta", "alpha"), ("energy_target_mj", "delta", "gamma")):
        value = getattr(settings, name)
        if value is None:
            continue
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} must be above 0, not {value}")
        if getattr(settings, power) == 0:
            raise SpecError(
                f"with {name} {knob} is set by the search, which does nothing while {power} is 0; leave {power} out"
            )
