"""Whole networks by what their lines say of their own measurement: pace, repeatability, how much of the time was told.

``profile`` times whole networks in portions, networks of the table beside each (``pace``), round after round until odd and
even ones agree (``rounds``, ``odd_even``), and asks the runtime where the time went (``mapped_share``, ``unmapped``). The
cells within networks are shares of these measurements, so what is said here holds for them, too.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from netadapt_trt.files import shown
from netadapt_trt.lut.lint.finding import Finding, anew, counted, percent
from netadapt_trt.lut.reading import PACE, pace_of
from netadapt_trt.lut.schema import trusted

if TYPE_CHECKING:
    from netadapt_trt.lut.schema import NetworkLine
    from netadapt_trt.lut.store import Lut

__all__ = ["changing_pace", "unmapped_time", "unrepeated"]

MAX_PACE_RANGE = 1.15
"""Slowest over fastest portion. A quiet machine stays within a few per cent; a shared one was seen at 1.35."""
MAX_ODD_EVEN = 0.05
"""``profile`` goes on until odd and even rounds agree within 2 %, as far as its patience goes."""
MIN_MAPPED = 0.98
"""Less, and what is shared by all layers is as large as the error that an estimate may have."""
_WORDS = 100
_QUIET = "stop what runs beside it (netadapt-trt doctor names it), lock the clocks, then"


def changing_pace(lut: Lut) -> list[Finding]:
    """Portions of one plan's networks between which the machine was faster or slower."""
    paces: dict[str, list[float]] = defaultdict(list)
    told = {line.plan for line in lut.networks if PACE in line.details}
    for line in _networks(lut):
        if line.plan in told:
            paces[line.plan].append(pace_of(line))  # 1 for the first portion, which the others are compared with
    ranges = {plan: max(values) / min(values) for plan, values in paces.items()}
    wide = {plan: ratio for plan, ratio in ranges.items() if ratio > MAX_PACE_RANGE}
    if not wide:
        return []
    plan = max(wide, key=wide.__getitem__)
    found = paces[plan]
    text = f"the machine changed its speed by {percent(wide[plan] - 1)} while whole networks were measured"
    text = f"{text} (pace {min(found):.2f} to {max(found):.2f} in {len(set(found))} portions of plan {shown(plan)})"
    if len(wide) > 1:
        text = f"{text}; by over {percent(MAX_PACE_RANGE - 1)} for {len(wide) - 1} more of {len(paces)} plans"
    why = (
        "estimates divide the pace out, but not every layer slows down alike, and a machine that changes between portions "
        "changes within them, too"
    )
    return [Finding("warning", "pace", text, why, anew(lut, _QUIET))]


def unrepeated(lut: Lut) -> list[Finding]:
    """Networks that took another time in odd rounds than in even ones."""
    asked: list[tuple[float, NetworkLine]] = []
    for line in _networks(lut):
        ratio = line.details.get("odd_even")
        if isinstance(ratio, int | float) and ratio > 0:
            asked.append((max(ratio, 1 / ratio) - 1, line))
    off = [(apart, line) for apart, line in asked if apart > MAX_ODD_EVEN]
    if not off:
        return []
    apart, worst = max(off, key=lambda item: item[0])
    rounds = worst.details.get("rounds")
    after = f" after {rounds:.6g} rounds" if isinstance(rounds, int | float) else ""
    whole = counted(len(asked), "whole network", "whole networks")
    text = f"odd and even rounds of {len(off)} of {whole} disagree by over {percent(MAX_ODD_EVEN)}"
    text = f"{text}; worst: {_name(worst)}, {percent(apart)}{after}"
    why = "no estimate can be told to be better than the measurements behind it, and a budget refers to a single one"
    return [Finding("warning", "odd-even", text, why, anew(lut, _QUIET))]


def unmapped_time(lut: Lut) -> list[Finding]:
    """Networks of whose profile a part belongs to no layer."""
    asked: list[tuple[float, NetworkLine]] = []
    for line in _networks(lut):
        share = line.details.get("mapped_share")
        if isinstance(share, int | float) and share >= 0:
            asked.append((share, line))
    low = [(share, line) for share, line in asked if share < MIN_MAPPED]
    if not low:
        return []
    share, worst = min(low, key=lambda item: item[0])
    whole = counted(len(asked), "whole network", "whole networks")
    text = f"of {len(low)} of {whole} less than {percent(MIN_MAPPED)} of the time could be told by layer"
    text = f"{text}; least: {_name(worst)}, {share:.1%}"
    names = worst.details.get("unmapped")
    if isinstance(names, str):
        text = f"{text} (not told: {names[:_WORDS]}{'...' if len(names) > _WORDS else ''})"
    why = "the rest is shared out to all layers, so each carries time that is not its own"
    action = "report what the runtime calls these parts, with its version (netadapt-trt doctor): profile has to learn them"
    return [Finding("warning", "unmapped", text, why, action)]


def _networks(lut: Lut) -> list[NetworkLine]:
    """Those whose latency counts: flagged ones are told by their flags already."""
    return [line for line in lut.networks if line.latency_ms is not None and trusted(line)]


def _name(line: NetworkLine) -> str:
    return f"plan {shown(line.plan)} at {sum(line.widths.values())} channels"
