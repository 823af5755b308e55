"""The plots of a sweep, as in HANNA: latency against energy with the accuracy as size, and what each pair of knobs did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from netadapt_trt.report.plotting import Figure, axis_of, layout_of, marks_of
from netadapt_trt.report.sweep import KNOBS, best_of_three, front
from netadapt_trt.report.text import NARROW, percent, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.report.sweep import FoundChild, SweepData

__all__ = ["knob_figures", "trade_figure"]

_SMALLEST, _LARGEST = 7.0, 34.0  # diameters in pixels
_LARGEST_OF_THREE = 24.0  # in the narrow plots
_ALIKE = 0.02  # repeated measurements differ by as much
_ROOM = 0.12
_DECADE_TICKS = (1, 2, 5)
_MOST_TICKS = 8


def trade_figure(data: SweepData, key: str) -> Figure | None:
    """Latency against energy, the size is accuracy; without energies latency against accuracy. None without children."""
    with_energy = [child for child in data.children if child.latency is not None and child.energy is not None]
    if with_energy:
        return _latency_energy(data, with_energy, key)
    known = [child for child in data.children if child.latency is not None and child.accuracy is not None]
    return _latency_accuracy(data, known, key) if known else None


def _latency_energy(data: SweepData, children: Sequence[FoundChild], key: str) -> Figure:
    sizes = _sizes([child.accuracy for child in children])
    chosen = best_of_three(children)
    hollow = "estimate" in (data.kinds["latency"], data.kinds["energy"])
    traces = [_front_line(front(children, lambda child: child.energy), lambda child: child.energy)]
    for best in (False, True):
        group = [(child, size) for child, size in zip(children, sizes, strict=True) if (child.number in chosen) == best]
        points = [(child.latency or 0.0, child.energy or 0.0, _hover(child)) for child, _ in group]
        traces.append(_bubbles(points, [size for _, size in group], "@adapted" if best else "@proposal", hollow=hollow))
    known = [child.accuracy for child in children if child.accuracy is not None]
    told = f"The larger, the more accurate ({data.kinds['accuracy']}): {_span(known, percent)}. " if known else ""
    caption = (
        f"{told}On the dashed line lie the children that no other beats in both latency and energy. "
        f"{_filled(hollow)} Points further down and left are better."
    )
    layout = layout_of(
        axis_of(f"Latency, ms ({data.kinds['latency']})", range=_roomy([child.latency or 0.0 for child in children])),
        axis_of(f"Energy, mJ ({data.kinds['energy']})", range=_roomy([child.energy or 0.0 for child in children])),
    )
    mark = "ring" if hollow else "dot"
    legend = (
        (mark, "adapted", "no other child is at least as good in all of latency, energy and accuracy"),
        (mark, "proposal", "others"),
        ("dash", "muted", "Pareto front of latency and energy"),
    )
    described = f"Latency against energy of {len(children)} children; the size of a circle is accuracy."
    return Figure(key, traces, layout, caption, described, legend)


def _latency_accuracy(data: SweepData, children: Sequence[FoundChild], key: str) -> Figure:
    best = front(children, lambda child: -(child.accuracy or 0.0))
    chosen = {child.number for child in best}
    hollow = data.kinds["latency"] == "estimate"
    traces = [_front_line(best, lambda child: 100 * (child.accuracy or 0.0))]
    for picked in (False, True):
        group = [child for child in children if (child.number in chosen) == picked]
        points = [(child.latency or 0.0, 100 * (child.accuracy or 0.0), _hover(child)) for child in group]
        traces.append(_bubbles(points, [11.0] * len(points), "@adapted" if picked else "@proposal", hollow=hollow))
    layout = layout_of(
        axis_of(f"Latency, ms ({data.kinds['latency']})", range=_roomy([child.latency or 0.0 for child in children])),
        axis_of("Accuracy, %", range=_roomy([100 * (child.accuracy or 0.0) for child in children])),
    )
    caption = (
        f"Accuracy: {data.kinds['accuracy']}. On the dashed line lie the children that no other beats in both. "
        f"{_filled(hollow)} Points further up and left are better."
    )
    mark = "ring" if hollow else "dot"
    legend = ((mark, "adapted", "no other child is better in both"), (mark, "proposal", "others"))
    described = f"Latency against accuracy of {len(children)} children."
    return Figure(key, traces, layout, caption, described, (*legend, ("dash", "muted", "Pareto front")))


def knob_figures(data: SweepData, key: str) -> list[tuple[str, list[Figure]]]:
    """For alpha and beta, and for gamma and delta: bubbles of latency, of energy and of accuracy over latency."""
    found = []
    for factor, power in (KNOBS[:2], KNOBS[2:]):
        children = [child for child in data.children if child.knobs[factor] > 0]
        figures = [
            _knob_figure(data, children, factor, power, what, f"{key}-{factor}-{name}")
            for name, what in (("latency", 0), ("energy", 1), ("ratio", 2))
        ]
        drawn = [figure for figure in figures if figure is not None]
        if drawn:
            found.append((f"What {factor} and {power} did", drawn))
    return found


def _knob_figure(
    data: SweepData, children: Sequence[FoundChild], factor: str, power: str, what: int, key: str
) -> Figure | None:
    label, value, told = _MEASURES[what]
    known = [child for child in children if value(child) is not None]
    if not known:
        return None
    kind = {0: data.kinds["latency"], 1: data.kinds["energy"], 2: data.kinds["latency"]}[what]
    sizes = _sizes([value(child) for child in known], largest=_LARGEST_OF_THREE, alike=_ALIKE)
    hollow = kind == "estimate"
    traces = []
    for dominance, color in (("latency", "@run1"), ("energy", "@run2")):
        group = [(child, size) for child, size in zip(known, sizes, strict=True) if child.dominance == dominance]
        points = [(child.knobs[factor], child.knobs[power], _hover(child)) for child, _ in group]
        traces.append(_bubbles(points, [size for _, size in group], color, hollow=hollow))
    left_out = len(data.children) - len(children)
    zero = f" {left_out} searches with {factor} 0 are left out." if left_out else ""
    caption = f"{label} ({kind}): {_span([value(child) or 0.0 for child in known], told, _ALIKE)}.{zero}"
    layout = layout_of(
        _log_axis(factor, [child.knobs[factor] for child in known]),
        axis_of(power, range=_roomy([child.knobs[power] for child in known], at_least=0.15)),
        title={"text": label, "x": 0, "xref": "paper", "font": {"size": 13, "color": "@ink"}},
        margin={"l": 8, "r": 12, "t": 34, "b": 8},
    )
    mark = "ring" if hollow else "dot"
    legend = [
        (mark, color, f"{name} dominates at the start")
        for name, color in (("latency", "run1"), ("energy", "run2"))
        if any(child.dominance == name for child in known)
    ]
    described = f"{label} of {len(known)} children by {factor} and {power}; the size of a circle is {label.lower()}."
    return Figure(key, traces, layout, caption, described, tuple(legend))


def _ratio_text(value: float) -> str:
    return f"{value:.3g}{NARROW}%/ms"


_MEASURES: tuple[tuple[str, Any, Any], ...] = (
    ("Latency", lambda child: child.latency, lambda value: quantity("latency", value)),
    ("Energy", lambda child: child.energy, lambda value: quantity("energy", value)),
    ("Accuracy over latency", lambda child: child.per_latency, _ratio_text),
)


def _bubbles(
    points: Sequence[tuple[float, float, str]], sizes: Sequence[float], color: str, *, hollow: bool
) -> dict[str, Any]:
    """Largest first, so that small ones stay visible and can be pointed at."""
    order = sorted(range(len(points)), key=lambda index: -sizes[index])
    marks = marks_of([points[index] for index in order], color=color, symbol="circle", size=_SMALLEST)
    marker = {**marks["marker"], "size": [round(sizes[index], 1) for index in order], "opacity": 0.75}
    if hollow:
        marker |= {"symbol": "circle-open", "opacity": 1.0, "line": {"color": color, "width": 2}}
    else:
        marker |= {"line": {"color": "@surface", "width": 1}}
    return {**marks, "marker": marker}


def _front_line(children: Sequence[FoundChild], value: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [child.latency for child in children],
        "y": [value(child) for child in children],
        "line": {"color": "@muted", "width": 1.5, "dash": "dash", "shape": "hv"},
        "hoverinfo": "skip",
    }


def _sizes(values: Sequence[float | None], largest: float = _LARGEST, alike: float = 0.0) -> list[float]:
    """Diameters whose areas grow evenly from the smallest value to the largest; the smallest for what is unknown.

    Where all differ by no more than the share ``alike`` they get one size: a dot beside a disc would make much of noise.
    """
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    if high - low <= alike * abs(high):
        return [_SMALLEST if value is None else (_SMALLEST + largest) / 2 for value in values]
    areas = [0.0 if value is None else (value - low) / (high - low) for value in values]
    return [math.sqrt(_SMALLEST**2 + area * (largest**2 - _SMALLEST**2)) for area in areas]


def _span(values: Sequence[float], told: Any, alike: float = 0.0) -> str:
    if max(values) <= min(values):
        return f"{told(values[0])} for all"
    low, high = min(values), max(values)
    if high - low <= alike * abs(high):
        return f"all circles are alike, from {told(low)} to {told(high)}"
    return f"the smallest circle is {told(low)}, the largest {told(high)}"


def _filled(hollow: bool) -> str:
    return (
        "Hollow circles: at least one of the axes is an estimate." if hollow else "Filled circles: both axes are measured."
    )


def _roomy(values: Sequence[float], *, at_least: float = 0.0) -> list[float]:
    """A range with room for the largest circle on both sides."""
    low, high = min(values), max(values)
    pad = max(_ROOM * (high - low), at_least) or 0.1 * abs(high) or 1.0
    return [low - pad, high + pad]


def _log_axis(name: str, values: Sequence[float]) -> dict[str, Any]:
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(_ROOM * (high - low), 0.15)
    decades = range(math.floor(low - pad), math.ceil(high + pad) + 1)
    for steps in (_DECADE_TICKS, (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if low - pad <= math.log10(tick) <= high + pad]
        if len(inside) <= _MOST_TICKS:
            break
    return axis_of(
        name, type="log", range=[low - pad, high + pad], tickvals=inside, ticktext=[f"{tick:g}" for tick in inside]
    )


def _hover(child: FoundChild) -> str:
    knobs = ", ".join(f"{name} {child.knobs[name]:g}" for name in KNOBS)
    lines = [f"<b>search {child.number}</b>", knobs, quantity("latency", child.latency)]
    lines += [quantity("energy", child.energy)] if child.energy is not None else []
    lines += [percent(child.accuracy)] if child.accuracy is not None else []
    return "<br>".join(lines)
