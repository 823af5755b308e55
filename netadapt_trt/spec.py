"""Frozen data shared by every room: which model, which device, which precision, what was measured, what is asked.

Standard library only; these objects validate and nothing else. One unit per quantity: ``_ms``, ``_mj``, ``_mw``, ``_bytes``.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Budget",
    "EnergyStats",
    "Identity",
    "LatencyStats",
    "ModelSpec",
    "Placement",
    "Precision",
    "Resource",
    "batch_hint",
    "parse_budget",
    "parse_shape",
]

Precision = Literal["fp32", "fp16", "int8"]
Resource = Literal["latency", "energy", "memory", "macs", "params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A network by name: ``torchvision:NAME``, ``timm:NAME``, ``zoo:NAME``, ``module:factory`` or ``file.py:factory``.

    ``args`` go to the factory as keyword arguments, ``input_shape`` includes the batch. ``num_classes`` with ``reset_head``
    replaces the output layer.
    """

    model: str
    input_shape: tuple[int, ...]
    args: Mapping[str, str] = field(default_factory=dict)
    num_classes: int | None = None
    reset_head: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        return {**asdict(self), "args": dict(self.args), "input_shape": list(self.input_shape)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelSpec:
        """Raises KeyError or TypeError for content that :meth:`to_json` did not make."""
        known = {f.name: content[f.name] for f in fields(cls)}
        known["input_shape"] = tuple(int(size) for size in known["input_shape"])
        known["args"] = dict(known["args"])
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The conditions that every measurement of one LUT shares; lines of another identity are refused.

    ``device`` is the device model as its system reports it, ``provider`` the runtime's execution provider, ``recipe`` the
    quantisation recipe ("none" for floating point).
    """

    backend: str
    device: str
    runtime: str
    runtime_version: str
    provider: str
    precision: Precision
    recipe: str
    batch: int
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Identity:
        """Raises KeyError for a missing key, SpecError for an unknown precision."""
        known = {f.name: content[f.name] for f in fields(cls)}
        if known["precision"] not in get_args(Precision):
            raise SpecError(f"unknown precision {known['precision']!r}; known: {', '.join(get_args(Precision))}")
        return cls(**known)

    def differences(self, other: Identity) -> list[tuple[str, Any, Any]]:
        """(key, mine, theirs) for every key whose values differ."""
        return [
            (f.name, getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which chip a runtime keeps busy: its power is the one that belongs to a measurement.

    ``integrated``: a GPU that shares the processor's memory and board, as on a Jetson; None where nobody says. ``bus_id``:
    a card's place on the bus, such as 0000:01:00.0, which CUDA and NVML share; their numbers of GPUs differ.
    """

    chip: Literal["cpu", "gpu"]
    integrated: bool | None = None
    bus_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStats:
    """Milliseconds of one run: median, 10th and 90th percentile over ``n`` timed runs (warm-up excluded)."""

    median: float
    p10: float
    p90: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyStats:
    """Millijoules per inference: total, dynamic (idle subtracted), standard error of the total."""

    total: float
    dynamic: float | None = None
    stderr: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one resource may at most be: ``value`` in the resource's own unit, or a ratio of the uncut network's value.

    Units: latency ms, energy mJ, memory bytes, macs and params counts. ``rail`` only with energy.
    """

    resource: Resource
    value: float
    relative: bool
    rail: str | None = None

    def absolute(self, initial: float) -> float:
        """The budget in the resource's unit, given the uncut network's value."""
        return self.value * initial if self.relative else self.value

    @property
    def name(self) -> str:
        """``latency``, ``energy@VDD_IN``: what the resource is called in tables and histories."""
        return self.resource if self.rail is None else f"{self.resource}@{self.rail}"

    def __str__(self) -> str:
        unit = {"latency": "ms", "energy": "mJ", "memory": "B", "macs": "", "params": ""}[self.resource]
        return f"{self.name}={self.value:g}{'x' if self.relative else unit}"


_UNITS: dict[str, dict[str, float]] = {
    "latency": {"s": 1e3, "ms": 1.0, "us": 1e-3},
    "energy": {"J": 1e3, "mJ": 1.0, "uJ": 1e-3},
    "memory": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "macs": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "params": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
}
_USUAL_UNIT = {"latency": "ms", "energy": "mJ", "memory": "MiB"}
_BUDGET = re.compile(r"(?P<resource>\w+)(?:@(?P<rail>[\w.-]+))?=(?P<number>\d+\.?\d*|\.\d+)(?P<unit>[A-Za-z]*)")


def parse_budget(text: str) -> Budget:
    """Read ``latency=0.5x``, ``latency=4.0ms``, ``energy@RAIL=0.7x``, ``memory=8MiB``, ``macs=300M``, ``params=1.5M``.

    Raises:
        SpecError: unknown resource or unit, a ratio outside (0, 1], a value that is not positive.
    """
    match = _BUDGET.fullmatch(text.strip())
    if match is None:
        raise SpecError(f"budget {text!r} is not understood; write for example latency=0.5x, latency=4.0ms or memory=8MiB")
    resource, unit, number = match["resource"], match["unit"], float(match["number"])
    if resource not in _UNITS:
        near = difflib.get_close_matches(resource.lower(), _UNITS, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}{text.strip()[len(resource) :]}? Known: " if near else "known: "
        raise SpecError(f"unknown resource {resource!r} in budget {text!r}; {meant}{', '.join(_UNITS)}")
    if match["rail"] and resource != "energy":
        raise SpecError(f"budget {text!r}: only energy has rails")
    if not math.isfinite(number) or number <= 0:
        raise SpecError(f"budget {text!r}: the value must be positive")
    kind = cast("Resource", resource)
    if unit == "x":
        if number > 1:
            raise SpecError(f"budget {text!r} asks for more than the uncut network needs; use a ratio up to 1")
        return Budget(resource=kind, value=number, relative=True, rail=match["rail"])
    if unit not in _UNITS[resource]:
        known = ", ".join(name or "no unit" for name in _UNITS[resource])
        meant = ""
        if not unit:
            meant = f"; did you mean {resource}={match['number']}{'x' if number <= 1 else _USUAL_UNIT[resource]}?"
        raise SpecError(f"budget {text!r}: {resource} takes x (a ratio) or one of: {known}{meant}")
    if resource in ("macs", "params") and number * _UNITS[resource][unit] < 1:
        raise SpecError(
            f"budget {text!r}: no network has less than 1; did you mean {resource}={match['number']}x (a ratio)?"
        )
    return Budget(resource=kind, value=number * _UNITS[resource][unit], relative=False, rail=match["rail"])


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``1x3x224x224``. Raises SpecError unless every size is a positive integer."""
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise SpecError(f"input shape {text!r} is not understood; write for example 1x3x224x224")
    return tuple(int(size) for size in sizes)


def batch_hint(shape: tuple[int, ...]) -> str:
    """What an input of three sizes that a network refuses was probably meant to be; "" for any other."""
    return (
        f"; did you mean {'x'.join(str(size) for size in (1, *shape))} (the batch comes first)?" if len(shape) == 3 else ""
    )
