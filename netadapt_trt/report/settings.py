"""A run's settings as a reader wants them: budgets as they are typed, groups gathered by their granularity, no nulls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from netadapt_trt.report.budgets import budgets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.report.read import RunData

__all__ = ["setting_rows"]

_HEADER = ("format", "version", "arguments")
_MAPS = ("granularity", "group_granularity")
"""Settings that map every channel group to a number: gathered by the number, not listed group by group."""


def setting_rows(run: RunData) -> list[tuple[str, str]]:
    """Every argument of the run that was set and what it ran with, nested names joined by dots; nothing twice."""
    arguments = dict(run.arguments)
    budgets = ", ".join(str(budget) for budget in budgets_of(run))
    if budgets:
        arguments = {key: value for key, value in arguments.items() if key not in ("budget", "budgets")}
    rows = [("budget", budgets)] if budgets else []
    rows += _flat("", arguments)
    around = {key: value for key, value in run.settings.items() if key not in _HEADER}
    known = dict(rows)
    return rows + [(key, text) for key, text in _flat("", around) if known.get(key) != text]


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if value is None or value in ({}, [], ""):
            continue
        if isinstance(value, dict) and name in _MAPS:
            rows.append(("granularity by group" if name == "granularity" else name, _gathered(value)))
        elif isinstance(value, dict):
            rows += _flat(name, value)
        else:
            rows.append((name, _text(value, shape=key == "input_shape")))
    return rows


def _gathered(values: Mapping[str, Any]) -> str:
    """ "8 for all 14 groups", or each number with its groups, the most frequent one last and by count."""
    groups: dict[str, list[str]] = {}
    for group, value in values.items():
        groups.setdefault(_text(value), []).append(str(group))
    *few, (most, members) = sorted(groups.items(), key=lambda item: len(item[1]))
    named = [f"{value} for {', '.join(found)}" for value, found in few]
    if len(members) == 1:
        named.append(f"{most} for {members[0]}")
    else:
        named.append(f"{most} for {'the other' if named else 'all'} {len(members)} groups")
    return "; ".join(named)


def _text(value: object, *, shape: bool = False) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    if isinstance(value, list):
        return ("\u00d7" if shape else ", ").join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
