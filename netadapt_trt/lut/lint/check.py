"""All rules together: what is doubtful about a table, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.lint.conditions import foreign_runtime, mixed_sessions, split_energy, unquiet_machine
from netadapt_trt.lut.lint.coverage import coverage, holes
from netadapt_trt.lut.lint.device import device_findings
from netadapt_trt.lut.lint.drift import drifting_networks, drifting_references
from netadapt_trt.lut.lint.finding import Finding, anew
from netadapt_trt.lut.lint.impossible import constants, costly_skips, powerless, proportional_columns, too_fast
from netadapt_trt.lut.lint.networks import changing_pace, unmapped_time, unrepeated
from netadapt_trt.lut.lint.statistics import disagreeing_repeats, flags, scatter, too_few_runs
from netadapt_trt.lut.lint.steps import slower_than_wider

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["Finding", "check"]


def check(
    lut: Lut, plan: Plan | None = None, layers: Sequence[Layer] | None = None, *, source: str | None = None
) -> list[Finding]:
    """Everything doubtful about ``lut``, worst first; with ``plan`` also whether it covers that network.

    ``layers`` defaults to what the LUT's own backend makes of the plan (no runtime is needed for that). ``source`` is the
    file that ``plan`` was read from, for the command that measures what is missing.

    Raises SpecError or BackendError when that backend is not known here.
    """
    # A table may come from anywhere: ratios of absurd figures overflow, and the rules take infinity as it is meant.
    with np.errstate(all="ignore"):
        findings = [finding for rule in _RULES for finding in rule(lut)]
        if plan is not None:
            if layers is None:
                from netadapt_trt.backend import load_backend

                layers = load_backend(lut.identity.backend).partition(plan)
            findings += coverage(lut, plan, layers, source)
    order = ("error", "warning", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _torn(lut: Lut) -> list[Finding]:
    if not lut.torn:
        return []
    text, why = "the last line is unfinished", "a run was interrupted while it wrote; all lines before are whole"
    return [Finding("warning", "torn", text, why, "nothing; the next profile drops it")]


def _content(lut: Lut) -> list[Finding]:
    if lut.cells:
        return []
    action = anew(lut, "run", str(lut.path or "LUT"))
    return [Finding("error", "empty", "the table holds no cell", "nothing can be estimated from it", action)]


_RULES: tuple[Callable[[Lut], list[Finding]], ...] = (
    _torn,
    _content,
    proportional_columns,
    costly_skips,
    too_fast,
    powerless,
    constants,
    mixed_sessions,
    foreign_runtime,
    device_findings,
    unquiet_machine,
    split_energy,
    drifting_references,
    drifting_networks,
    changing_pace,
    unrepeated,
    unmapped_time,
    flags,
    disagreeing_repeats,
    scatter,
    too_few_runs,
    slower_than_wider,
    holes,
)
"""Within one severity the findings come in this order: what spoils a whole column first, single cells last."""
