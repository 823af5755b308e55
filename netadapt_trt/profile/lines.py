"""What was measured, in the values that a line of a LUT takes."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import DetailedExecutable
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.backend import Executable

__all__ = ["Scalar", "details_of", "rounded", "rounded_energy", "rounded_power", "scalar", "scalars"]

Scalar = str | float | None

_IN_IDENTITY = frozenset(field.name for field in fields(Identity))


def details_of(exe: Executable) -> dict[str, Scalar]:
    """What the runtime knows of this engine; {} of a runtime that knows no more than its time.

    What is empty and what stands in the table's first line anyway is left out: there is one such line for each engine.
    """
    if not isinstance(exe, DetailedExecutable):
        return {}
    said = {name: value for name, value in exe.details().items() if name not in _IN_IDENTITY}
    return scalars({name: value for name, value in said.items() if value is not None and value not in ("", [], {})})


def scalars(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """``values`` as a line takes them: yes and no for truth, JSON text for what is nested, nothing unprintable."""
    return {str(scalar(name)): scalar(value) for name, value in values.items()}


def scalar(value: Any) -> Scalar:
    """One value. Characters that a table refuses (a damaged file may hold any) become question marks."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return _short(value) if isinstance(value, float) else value
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def rounded(stats: LatencyStats) -> LatencyStats:
    """Six significant digits, above zero: a clock may be too coarse for a tiny layer; a time of zero is never true."""
    return LatencyStats(
        median=max(_short(stats.median), 1e-6),
        p10=max(_short(stats.p10), 1e-6),
        p90=max(_short(stats.p90), 1e-6),
        n=stats.n,
    )


def rounded_energy(energy: EnergyStats | None) -> EnergyStats | None:
    """Six significant digits of each value."""
    if energy is None:
        return None
    dynamic = None if energy.dynamic is None else _short(energy.dynamic)
    stderr = None if energy.stderr is None else _short(energy.stderr)
    return replace(energy, total=_short(energy.total), dynamic=dynamic, stderr=stderr)


def rounded_power(power_mw: Mapping[str, float]) -> dict[str, float]:
    """Six significant digits. A rail at rest may read a little below zero; a table holds no negative power."""
    return {rail: max(0.0, _short(value)) for rail, value in power_mw.items()}


def _short(value: float) -> float:
    """More than six digits are noise, and the file is read by people too."""
    return float(f"{value:.6g}")
