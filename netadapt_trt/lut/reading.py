"""What the lines of a table say about one resource, and the command that measures what they do not say."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.schema import PACE, PACES, trusted, without_lost_energy

if TYPE_CHECKING:
    from netadapt_trt.lut.schema import Cell, NetworkLine
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Plan

__all__ = ["PACE", "initial_measured", "networks_of", "pace_of", "profile_command", "value_of"]

_RAIL = "energy@"
_AT_REST = 1e-12
"""mJ of a whole network, or less: nothing that a budget could refer to, or that estimates could be brought to."""


def value_of(line: Cell | NetworkLine, resource: str) -> float | None:
    """``latency`` in ms, ``energy`` in mJ, ``energy@RAIL`` in mJ that this rail gave; None where the line does not say.

    A rail's energy is its mean power times the latency of the same line.
    """
    line = without_lost_energy(line)
    latency = None if line.latency_ms is None else line.latency_ms.median
    if resource == "latency":
        return latency
    if resource == "energy":
        return None if line.energy_mj is None else line.energy_mj.total
    power = line.power_mw.get(resource.removeprefix(_RAIL))
    return None if latency is None or power is None else power * latency / 1000


def pace_of(line: Cell | NetworkLine) -> float:
    """How slow the machine was under ``line``, 1 where nobody watched. Lines are compared after dividing by it."""
    pace, (low, high) = line.details.get(PACE), PACES
    return float(pace) if isinstance(pace, int | float) and low <= pace <= high else 1.0


def networks_of(lut: Lut, plan: Plan, resource: str = "latency") -> list[tuple[dict[str, int], float]]:
    """Every width setting at which this network was measured whole, and the latest value there (ms, its pace taken out; mJ).

    One under which the device moved counts only where nothing better is known, one whose rail was at rest not at all.
    """
    from netadapt_trt.plan.store import plan_hash

    name, groups = plan_hash(plan), list(plan.full_widths())
    found: dict[tuple[int, ...], float] = {}
    for line in sorted(lut.networks, key=trusted):  # a stable sort: the doubtful first, to be overwritten
        widths, value = tuple(line.widths.values()), value_of(line, resource)
        if line.plan == name and len(widths) == len(groups) and value is not None and value > _AT_REST:
            found[widths] = value / pace_of(line) if resource == "latency" else value
    return [(dict(zip(groups, widths, strict=True)), value) for widths, value in found.items()]


def initial_measured(lut: Lut, plan: Plan, resource: str = "latency") -> float:
    """The measured end-to-end value (ms or mJ) of the uncut network, which relative budgets refer to.

    Raises:
        CoverageError: the table has no such line; the message holds the command that measures it.
    """
    full = tuple(plan.full_widths().values())
    for widths, value in networks_of(lut, plan, resource):
        if tuple(widths.values()) == full:
            return value
    raise CoverageError(
        f"{lut.path or 'the LUT'} has no end-to-end {resource} of the uncut {plan.model}{_rails(lut, resource)}; "
        f"measure it with: {profile_command(lut, plan)}"
    )


def _rails(lut: Lut, resource: str) -> str:
    """The rails that the table does know, where one was asked for."""
    if not resource.startswith(_RAIL):
        return ""
    rails = sorted({rail for line in lut.networks for rail in line.power_mw})
    return f" (its rails: {', '.join(rails) or 'none'})"


def profile_command(lut: Lut, plan: Plan, source: str | None = None) -> str:
    """The command that measures what ``lut`` lacks of ``plan``.

    With ``source``, the file that holds the plan, it runs where there is no PyTorch; without, it names the model.
    """
    return shlex.join(
        [
            *("netadapt-trt", "profile"),
            *(_model_words(plan) if source is None else [source]),
            *("--backend", lut.identity.backend, "--precision", lut.identity.precision, "--lut", str(lut.path or "FILE")),
        ]
    )


def _model_words(plan: Plan) -> list[str]:
    words = [plan.model]
    for key, value in plan.args.items():
        words += ["--model-arg", f"{key}={value}"]
    if plan.num_classes is not None:
        words += ["--num-classes", str(plan.num_classes)]
    if plan.reset_head:
        words.append("--reset-head")
    return [*words, "--input", "x".join(str(size.const) for size in plan.tensors[plan.inputs[0]].shape)]
