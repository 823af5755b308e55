"""Values of resources in words: with their unit, and rounded for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["figure", "figures"]

_SCALES = {
    "latency": ((1.0, "ms"),),
    "energy": ((1.0, "mJ"),),
    "memory": ((1.0, "bytes"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB")),
    "macs": ((1.0, "MACs"), (1e3, "k MACs"), (1e6, "M MACs"), (1e9, "G MACs")),
    "params": ((1.0, "parameters"), (1e3, "k parameters"), (1e6, "M parameters"), (1e9, "G parameters")),
}


def figures(resource: str, values: Sequence[float], digits: int = 4) -> tuple[tuple[str, ...], str]:
    """Each of ``values`` with that many significant digits, and the unit they share: that of the largest.

    ``resource`` may be a rail's, ``energy@RAIL``.
    """
    scales = _SCALES[resource.partition("@")[0]]
    factor, unit = next((scale for scale in reversed(scales) if max(values) >= scale[0]), scales[0])
    return tuple(_rounded(value / factor, 0 if factor == 1 and len(scales) > 1 else digits) for value in values), unit


def figure(resource: str, value: float, digits: int = 4) -> str:
    """One value and its unit, for example ``0.1234 ms`` or ``7.522 M MACs``."""
    (text,), unit = figures(resource, (value,), digits)
    return f"{text} {unit}"


def _rounded(value: float, digits: int) -> str:
    """``digits`` significant digits; 0 for a count below a thousand, which is whole unless somebody asked for a part."""
    if digits == 0:
        return f"{value:.4g}"
    if value == 0:
        return "0"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"
