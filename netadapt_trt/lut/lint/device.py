"""What the sessions of a table tell about their device: unlocked clocks, mixed power modes, throttling; with the command."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from netadapt_trt.lut.lint.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut

__all__ = ["FLAG_ACTIONS", "device_findings"]

_LOCK = "sudo jetson_clocks --store ~/clocks.before && sudo jetson_clocks"
_COOL = "sudo jetson_clocks --fan"
_AGAIN = "and run the same profile again"

FLAG_ACTIONS = {
    "throttled": f"on the device: {_COOL}, or a power mode with lower clocks (sudo nvpmodel -m ID), {_AGAIN}",
    "clocks_changed": f"on the device: {_LOCK}, {_AGAIN} while nobody sets clocks or modes",
    "power_mode_changed": f"on the device: set the mode first (sudo nvpmodel -m ID), then {_LOCK}, {_AGAIN}",
}
"""Flags of cells whose device moved under them; the words are those of :mod:`netadapt_trt.measure.device_checks`."""


def device_findings(lut: Lut) -> list[Finding]:
    """Everything to say about the state of the device in the sessions; [] for one that has no power modes."""
    sessions = sorted(lut.sessions.values(), key=lambda session: session.date)
    return [*_unlocked(sessions), *_modes(sessions), *_frequencies(sessions), *_throttled(sessions)]


def _unlocked(sessions: Sequence[Session]) -> list[Finding]:
    free = [session for session in sessions if session.clocks.get("locked") == "no"]
    if not free:
        return []
    last = free[-1].clocks
    bounds = {name: (last[f"{name}_min_mhz"], last[f"{name}_max_mhz"]) for name in _domains(free[-1])}
    words = ", ".join(f"{name} {low:g} to {high:g} MHz" for name, (low, high) in bounds.items() if _apart(low, high))
    text = f"{len(free)} of {len(sessions)} sessions were measured with unlocked clocks ({words})"
    why = "the device chooses its clocks anew for every cell, and the figures follow"
    return [Finding("warning", "unlocked-clocks", text, why, f"on the device: {_LOCK}; then measure into a new LUT")]


def _apart(low: object, high: object) -> bool:
    return isinstance(low, int | float) and isinstance(high, int | float) and low != high


def _domains(session: Session) -> list[str]:
    """Clocks whose both bounds the session knows."""
    names = [key.removesuffix("_min_mhz") for key in session.clocks if key.endswith("_min_mhz")]
    return [name for name in names if f"{name}_max_mhz" in session.clocks]


def _modes(sessions: Sequence[Session]) -> list[Finding]:
    modes = Counter(session.power_mode for session in sessions if session.power_mode is not None)
    if len(modes) < 2:
        return []
    numbers = {session.power_mode: session.machine.get("power_mode_id") for session in sessions}
    usual, _ = modes.most_common(1)[0]
    number = numbers[usual]
    command = f"sudo nvpmodel -m {number:g}" if isinstance(number, int | float) else "sudo nvpmodel -m ID"
    listed = ", ".join(f"{mode} {count} times" for mode, count in modes.most_common())
    text = f"sessions were measured in different power modes ({listed})"
    why = "a power mode sets clocks and cores: two modes are two devices"
    action = f"keep one LUT per mode; for {usual}, on the device: {command} && {_LOCK}"
    return [Finding("warning", "power-modes", text, why, action)]


def _frequencies(sessions: Sequence[Session]) -> list[Finding]:
    """Locked, but not always at the same clock, within one power mode."""
    found = []
    locked = [session for session in sessions if session.clocks.get("locked") == "yes"]
    for name in dict.fromkeys(name for session in locked for name in _domains(session)):
        by_mode: dict[str | None, set[float]] = {}
        for session in locked:
            value = session.clocks.get(f"{name}_max_mhz")
            if isinstance(value, int | float):
                by_mode.setdefault(session.power_mode, set()).add(float(value))
        for mode, values in by_mode.items():
            if len(values) > 1:
                listed = " and ".join(f"{value:g}" for value in sorted(values))
                text = f"{name} was locked at {listed} MHz in power mode {mode or 'unknown'}"
                action = f"on the device: {_LOCK}; then measure into a new LUT"
                why = "cells of different sessions cannot be compared"
                found.append(Finding("warning", "mixed-clocks", text, why, action))
    return found


def _throttled(sessions: Sequence[Session]) -> list[Finding]:
    """Over-current counters count from the start on: two sessions of one boot tell what happened from one to the other."""
    events: Counter[str] = Counter()
    for before, after in pairwise(sessions):
        if before.machine.get("boot") is None or before.machine.get("boot") != after.machine.get("boot"):
            continue
        for name, count in before.machine.items():
            later = after.machine.get(name)
            if name.endswith("_events") and isinstance(count, int | float) and isinstance(later, int | float):
                events[name.removesuffix("_events")] += max(0, int(later - count))
    listed = ", ".join(f"{name} {count} times" for name, count in events.items() if count)
    if not listed:
        return []
    text = f"over-current or under-voltage cut the clocks between sessions ({listed})"
    why = "what was measured meanwhile ran at lower clocks than the session says"
    action = f"{FLAG_ACTIONS['throttled']}; a stronger power supply helps against oc1"
    return [Finding("warning", "throttled-between", text, why, action)]
