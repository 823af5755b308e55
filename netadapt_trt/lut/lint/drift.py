"""The same thing measured again and again: does it move in one direction, or to and fro?

The reference layer is timed all through a session, whole networks often in several. A trend is told by the test of Mann and
Kendall (it asks only for the order of the values) and sized by the median slope of Theil and Sen; both bear single bad
values, of which timings have many.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.lint.finding import Finding, Place, anew, percent
from netadapt_trt.lut.schema import trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.store import Lut

__all__ = ["Movement", "drifting_networks", "drifting_references", "movement"]

MIN_DRIFT = 0.05
"""A trend below that hides among the errors of the estimates themselves (4 to 8 % on whole networks)."""
MIN_SCATTER = 0.10
"""Single references scatter by a few per cent on a quiet machine; beyond this cells beside them are doubtful, too."""
MIN_TREND = 5
"""Of fewer values no order is remarkable: four rise by chance once in twelve times, in either direction."""
_MOST = 400  # of longer series evenly spaced values are looked at: the test compares all pairs
_SIGNIFICANT = 1.96

_WHY = "cells measured at different times cannot be compared by less than that, and widths would be chosen by the clock"


@dataclass(frozen=True, slots=True)
class Movement:
    """How a series of ``n`` values moved, relative to its median.

    ``trend`` is from the first to the last value, ``scatter`` the farthest from the median, ``off`` how many are farther
    than MIN_SCATTER. ``drifts`` where the trend is no chance and larger than what remains around it.
    """

    n: int
    trend: float
    scatter: float
    off: int
    drifts: bool

    @property
    def remarkable(self) -> bool:
        """Whether there is anything to say."""
        return self.drifts or self.scatter > MIN_SCATTER

    def words(self, span: str) -> str:
        """ "drifts by 6 % over the session" or "scatters by 6 %": ``span`` says over what."""
        if self.drifts:
            direction = "slower" if self.trend > 0 else "faster"
            return f"drifts by {percent(abs(self.trend))} over {span} (to {direction}, {self.n} measurements)"
        off = f"{self.off} of {self.n} measurements are more than {percent(MIN_SCATTER)} off their median"
        return f"scatters by {percent(self.scatter)} ({off})"


def movement(values: Sequence[float]) -> Movement:
    """What ``values`` (positive, in the order of time) did."""
    series = np.asarray(values, dtype=float)
    middle = float(np.median(series))
    away = np.abs(series / middle - 1)
    # Two values have their median between them; what counts is how far they are apart.
    scatter = float(series.max() / series.min() - 1) if len(series) < 3 else float(away.max())
    trend, drifts = _trend(series, middle)
    return Movement(len(series), trend, scatter, int((away > MIN_SCATTER).sum()), drifts)


def _trend(series: np.ndarray, middle: float) -> tuple[float, bool]:
    if len(series) < MIN_TREND:
        return 0.0, False
    at = np.unique(np.linspace(0, len(series) - 1, min(len(series), _MOST)).round().astype(int))
    first, second = np.triu_indices(len(at), 1)
    rise = series[at[second]] - series[at[first]]
    slope = float(np.median(rise / (at[second] - at[first])))
    n, trend = len(at), slope * (len(series) - 1) / middle
    deviation = (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
    rest = series - slope * np.arange(len(series))
    low, high = np.quantile(rest, (0.1, 0.9))
    sure = abs(float(np.sign(rise).sum())) > _SIGNIFICANT * deviation and abs(trend) > (high - low) / middle
    return trend, sure and abs(trend) > MIN_DRIFT


def drifting_references(lut: Lut) -> list[Finding]:
    """Each reference layer within a session, then from session to session."""
    series: dict[tuple[str, tuple[int, ...]], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lut.references:
        series[line.layer, line.widths][line.session].append(line.latency_ms.median)
    findings = []
    for (layer, widths), sessions in series.items():
        moved = {name: movement(values) for name, values in sessions.items() if len(values) > 1}
        moved = {name: found for name, found in moved.items() if found.remarkable}
        if moved:
            name, worst = max(moved.items(), key=lambda item: (item[1].drifts, max(abs(item[1].trend), item[1].scatter)))
            text = f"the reference layer {worst.words('the session')}, in session {name}"
            if len(moved) > 1:
                text += f"; it also moved in {len(moved) - 1} more of {len(sessions)} sessions"
            place = Place(layer, (widths,), f"at {list(widths)}: {_range(sessions[name])}")
            action = _drift_action(lut) if worst.drifts else _scatter_action(lut)
            findings.append(Finding("warning", "drift", text, _WHY, action, (place,)))
        told = _between(lut, sessions)
        if told is not None:
            place = Place(layer, (widths,), f"at {list(widths)}: {_range([median(found) for found in sessions.values()])}")
            text = f"the reference layer {told}"
            findings.append(Finding("warning", "session-drift", text, _WHY, _session_action(lut), (place,)))
    return findings


def drifting_networks(lut: Lut) -> list[Finding]:
    """Whole networks of the same plan and widths, from session to session."""
    series: dict[tuple[str, tuple[int, ...]], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lut.networks:
        if line.latency_ms is not None and trusted(line):
            series[line.plan, tuple(line.widths.values())][line.session].append(line.latency_ms.median)
    compared = {key: sessions for key, sessions in series.items() if len(sessions) > 1}
    found: list[tuple[float, str, str, tuple[int, ...]]] = []
    for (plan, widths), sessions in compared.items():
        told = _between(lut, sessions)
        if told is not None:
            middles = [median(values) for values in sessions.values()]
            found.append((max(middles) / min(middles), told, plan, widths))
    if not found:
        return []
    _, told, plan, widths = max(found)
    text = f"{len(found)} of {len(compared)} whole networks that were measured in several sessions moved"
    text = f"{text}; worst: plan {plan} at {sum(widths)} channels {told}"
    why = "estimates are brought to these measurements, and a budget refers to the latest of the uncut network"
    return [Finding("warning", "network-drift", text, why, _session_action(lut))]


def _between(lut: Lut, sessions: dict[str, list[float]]) -> str | None:
    """What changed from session to session, by their medians; None where nothing remarkable did."""
    if len(sessions) < 2:
        return None
    names = sorted(sessions, key=lambda name: lut.sessions[name].date)
    middles = {name: median(sessions[name]) for name in names}
    moved = movement(list(middles.values()))
    if moved.drifts:
        return moved.words("the sessions")
    fast, slow = min(names, key=middles.__getitem__), max(names, key=middles.__getitem__)
    ratio = middles[slow] / middles[fast]
    if ratio <= 1 + MIN_SCATTER:
        return None
    told = f"takes {middles[fast]:.3g} ms in session {fast} and {middles[slow]:.3g} ms in {slow}"
    return f"{told}: {percent(ratio - 1)} more"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g} ms, median {median(values):.3g} ms"


def _drift_action(lut: Lut) -> str:
    return anew(lut, "let the device warm up or cool down to where it stays, lock the clocks, then")


def _scatter_action(lut: Lut) -> str:
    return anew(lut, "stop what runs beside it (netadapt-trt doctor names it), then")


def _session_action(lut: Lut) -> str:
    return anew(lut, "find out what changed (sessions in lut show --json), then measure in one session")
