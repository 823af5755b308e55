"""Numbers as a reader wants them: three significant digits, one unit each, a dash for the unknown."""

from __future__ import annotations

__all__ = [
    "DASH",
    "MINUS",
    "NARROW",
    "above_or_below",
    "duration",
    "known",
    "label",
    "percent",
    "points",
    "quantity",
    "quantity_of",
    "ratio",
    "scaled",
    "unit",
]

DASH = "\u2013"
NARROW = "\u202f"  # between a number and its unit: does not break, is narrower than a word space
MINUS = "\u2212"
TIMES = "\u00d7"
_LABELS = {
    "latency": "Latency",
    "energy": "Energy",
    "memory": "Memory",
    "macs": "Multiply-accumulates",
    "params": "Parameters",
    "size": "Size on disk",
}
_UNITS = {"latency": "ms", "energy": "mJ", "memory": "MiB", "macs": "M", "params": "k", "size": "MiB"}
_DIVISORS = {"memory": 2**20, "size": 2**20, "macs": 1e6, "params": 1e3}


def known(resource: str) -> bool:
    """Whether a page can show this resource."""
    return resource.partition("@")[0] in _UNITS


def unit(resource: str) -> str:
    """The unit that values are shown in."""
    return _UNITS[resource.partition("@")[0]]


def label(resource: str) -> str:
    """What a resource is called on a page; the energy of one rail with the rail's name."""
    base, _, rail = resource.partition("@")
    return f"{_LABELS[base]} of {rail}" if rail else _LABELS[base]


def scaled(resource: str, value: float) -> float:
    """``value`` in the unit of :func:`unit`."""
    return value / _DIVISORS.get(resource, 1.0)


def _digits(value: float) -> str:
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = 2 if abs(value) >= 1 else 3
    return f"{value:.{1 if abs(value) >= 100 else decimals}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def quantity(resource: str, value: float | None) -> str:
    """A resource's value with its unit."""
    return DASH if value is None else f"{_digits(scaled(resource, value))}{NARROW}{unit(resource)}"


def quantity_of(resource: str, value: float, limit: float) -> str:
    """A value and the limit it is held to, with one unit: 0.171 of 0.180 ms."""
    return f"{_digits(scaled(resource, value))} of {quantity(resource, limit)}"


def percent(value: float | None) -> str:
    """A share of 1 in per cent with two decimals."""
    return DASH if value is None else f"{100 * value:.2f}{NARROW}%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, signed."""
    sign = "+" if difference >= 0 else MINUS
    return f"{sign}{abs(100 * difference):.2f}{NARROW}points"


def above_or_below(difference: float) -> str:
    """A difference of two shares in words: 0.84 points below."""
    amount = f"{abs(100 * difference):.2f}{NARROW}points"
    return f"{amount} {'above' if difference > 0 else 'below'}" if difference else "the same"


def ratio(value: float | None, base: float | None) -> str:
    """``value / base`` as a factor; empty when either is unknown or the base is zero."""
    return "" if value is None or not base else f"{value / base:.3f}{TIMES}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 0.04 s, 12 s, 5 min 02 s, 1 h 07 min."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.2f}{NARROW}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NARROW}s"
    if whole < 3600:
        return f"{whole // 60}{NARROW}min {whole % 60:02d}{NARROW}s"
    return f"{whole // 3600}{NARROW}h {whole % 3600 // 60:02d}{NARROW}min"
