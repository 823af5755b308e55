"""The colours of plots: those of the report's style sheet in its light scheme, by their names there."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["HEAT", "colours", "painted"]

HEAT = (
    (0.0, "#f3f6fa"),
    (0.25, "#b9d3ee"),
    (0.5, "#6aa3dc"),
    (0.75, "#2a6cb8"),
    (1.0, "#0a2f66"),
)
"""From little to much: one hue, darker and darker, so that it reads in grey and with any colour vision."""


@cache
def colours() -> dict[str, str]:
    """Name without its dashes -> ``#rrggbb``."""
    sheet = (resources.files("netadapt_trt.report") / "page.css").read_text(encoding="utf-8")
    light = sheet[sheet.index(":root") : sheet.index("@media")]
    return dict(re.findall(r"--([a-z0-9]+):\s*(#[0-9a-f]{6})", light))


def painted(value: Any) -> Any:
    """``value`` with every text ``@name`` replaced by that colour, however deep."""
    if isinstance(value, str):
        return colours().get(value[1:], value) if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: painted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [painted(inner) for inner in value]
    return value
