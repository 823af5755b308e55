"""Tables against measured networks: what `lut validate -o` wrote, side by side, and the scatter of each.

A file may come from anywhere, so every value is checked before a page is made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import finite, read_document
from netadapt_trt.report.plotting import Figure, axis_of, layout_of, marks_of
from netadapt_trt.report.tables import Cell, Row
from netadapt_trt.report.text import DASH, NARROW, quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["TestedNetwork", "ValidationData", "ValidationPart", "read_validation", "validation_part"]

_BAND = 0.10
_TICKS = (
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0, 3.0),
    (1.0,),
)
_MOST_TICKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedNetwork:
    """One held-out network in milliseconds, and the share of the channels it kept where that is known."""

    estimate_ms: float
    measured_ms: float
    isolated_sum_ms: float | None
    repeatability: float | None
    kept: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationData:
    """One file. ``figures`` holds its numbers by name, as far as they are numbers."""

    path: Path
    name: str
    conditions: Mapping[str, str]
    figures: Mapping[str, float | None]
    networks: Sequence[TestedNetwork]
    verdict: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPart:
    """What the template shows of all of them: a table with one column each, and (data, scatter) of each."""

    data: Sequence[ValidationData]
    conditions: Sequence[Row]
    rows: Sequence[Row]
    scatters: Sequence[tuple[ValidationData, Figure]]


def read_validation(path: Path) -> ValidationData:
    """Read one file that ``lut validate -o`` wrote.

    Raises:
        FileFormatError: it is none, is damaged, or holds no network with both times (TooOldError, TooNewError).
    """
    document = read_document(path, format="netadapt-validation", version=1)
    rows = document.get("networks")
    if not isinstance(rows, list) or not rows:
        raise FileFormatError(f"{path} holds no networks; make it again with: netadapt-trt lut validate ... -o {path}")
    channels = finite(document.get("channels"))
    networks = [_network(row, channels, f"{path}: network {count}") for count, row in enumerate(rows, 1)]
    identity = document.get("identity")
    known: Mapping[str, Any] = identity if isinstance(identity, dict) else {}
    verdict = document.get("verdict")
    lut, model = document.get("lut"), document.get("model")
    return ValidationData(
        path=path,
        name=PurePath(model).name if isinstance(model, str) and model else path.name,
        conditions={
            "File": path.name,
            "Table": PurePath(lut).name if isinstance(lut, str) and lut else DASH,
            "Device": _text(known.get("device")),
            "Runtime": f"{_text(known.get('backend'))} {_text(known.get('runtime_version'))}",
            "Precision": _text(known.get("precision")),
            "Threads": _text(known.get("threads")),
            "Date": _text(document.get("date"))[:10],
        },
        figures={key: finite(value) for key, value in document.items()},
        networks=networks,
        verdict=[line for line in verdict if isinstance(line, str)] if isinstance(verdict, list) else [],
    )


def _network(row: object, channels: float | None, where: str) -> TestedNetwork:
    values = row if isinstance(row, dict) else {}
    estimate, measured, alone = (finite(values.get(key)) for key in ("estimate_ms", "measured_ms", "isolated_sum_ms"))
    if estimate is None or measured is None or min(estimate, measured, 1.0 if alone is None else alone) <= 0:
        raise FileFormatError(f"{where} lacks a positive estimate_ms or measured_ms; the file is damaged, make it again")
    widths = values.get("widths")
    kept = [finite(width) or 0.0 for width in widths.values()] if isinstance(widths, dict) else []
    return TestedNetwork(
        estimate_ms=estimate,
        measured_ms=measured,
        isolated_sum_ms=alone,
        repeatability=finite(values.get("repeatability")),
        kept=sum(kept) / channels if kept and channels else None,
    )


def _text(value: object) -> str:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else DASH


def validation_part(data: Sequence[ValidationData]) -> ValidationPart:
    """Table and scatters of ``data``."""
    conditions = [
        Row(key, "", tuple(Cell(one.conditions[key]) for one in data)) for key in (data[0].conditions if data else ())
    ]
    scatters = [(one, scatter_figure(one, f"v{index}-scatter")) for index, one in enumerate(data)]
    return ValidationPart(data=data, conditions=conditions, rows=_rows(data), scatters=scatters)


def _rows(data: Sequence[ValidationData]) -> list[Row]:
    def row(label: str, key: str, note: str = "", *, share: bool = True) -> Row:
        cells = []
        for one in data:
            value = one.figures.get(key)
            text = DASH if value is None else _percent(value) if share else f"{value:.3f}"
            cells.append(Cell(text, note.format(**_counts(one)) if note and value is not None else ""))
        return Row(label, "", tuple(cells))

    return [
        row("Mean error of the estimates", "mape", "{networks} networks"),
        row("Measurement against itself", "repeatability_mape", "odd against even of {rounds} rounds"),
        row("Sum of layers timed alone, mean error", "isolated_sum_mape", "{isolated} networks"),
        row("Estimates within 5 %", "within_5pct"),
        row("Estimates within 10 %", "within_10pct"),
        row("Estimates within three times the noise", "within_3x_repeatability"),
        row("Estimates within their own standard deviation", "within_1_sigma"),
        row("Mean of estimate / measured", "bias", share=False),
        row("Rank correlation", "spearman", share=False),
        row("Drift since the table was measured", "drift", "taken out of the errors", share=False),
        row("Mean error with drift left in", "mape_without_drift_correction"),
    ]


def _counts(one: ValidationData) -> dict[str, str]:
    rounds, isolated = one.figures.get("rounds"), one.figures.get("isolated_networks")
    return {
        "networks": str(len(one.networks)),
        "rounds": DASH if rounds is None else f"{rounds:.0f}",
        "isolated": DASH if isolated is None else f"{isolated:.0f}",
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f}{NARROW}%"


def scatter_figure(data: ValidationData, key: str) -> Figure:
    """Estimate (and sum of layers alone) against measured latency, on logarithmic axes of one range."""
    estimates, sums = [], []
    for count, network in enumerate(data.networks, 1):
        told = (
            f"<b>network {count}</b>{_kept(network)}<br>measured {quantity('latency', network.measured_ms)}{_noise(network)}"
        )
        estimates.append(
            (network.measured_ms, network.estimate_ms, told + _against("estimate", network.estimate_ms, network))
        )
        if network.isolated_sum_ms is not None:
            text = told + _against("layers alone", network.isolated_sum_ms, network)
            sums.append((network.measured_ms, network.isolated_sum_ms, text))
    values = [value for x, y, _ in (*estimates, *sums) for value in (x, y)]
    low, high = min(values) / 1.12, max(values) * 1.12
    ticks = _ticks(low, high)
    span = {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
    layout = layout_of(
        axis_of("Measured latency, ms", **span, constrain="domain"),
        axis_of("Estimated latency, ms", **span, scaleanchor="x", constrain="domain"),
    )
    traces = [
        *_band(low, high),
        marks_of(estimates, color="@measured", symbol="circle-open", size=8),
        marks_of(sums, color="@estimate", symbol="diamond-open", size=9),
    ]
    legend = [("ring", "measured", "estimate from the table")]
    legend += [("diamond hollow", "estimate", "sum of layers timed alone")] if sums else []
    legend += [("line", "muted", "as measured"), ("bar", "track", f"within {_BAND:.0%}".replace("%", " %"))]
    caption = "Random networks that the table was not fitted to. On the line an estimate is what was measured."
    described = f"Estimated against measured latency of {len(estimates)} networks of {data.name}."
    return Figure(key, traces, layout, caption, described, tuple(legend))


def _band(low: float, high: float) -> list[dict[str, Any]]:
    line = {"type": "scatter", "mode": "lines", "x": [low, high], "hoverinfo": "skip"}
    none = {"color": "@track", "width": 0}
    return [
        {**line, "y": [low * (1 - _BAND), high * (1 - _BAND)], "line": none},
        {**line, "y": [low * (1 + _BAND), high * (1 + _BAND)], "line": none, "fill": "tonexty", "fillcolor": "@track"},
        {**line, "y": [low, high], "line": {"color": "@muted", "width": 1.5}},
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Round values between ``low`` and ``high``, few enough to be read."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _TICKS:
        found = [float(f"{step * 10.0**power:.3g}") for power in powers for step in steps]
        inside = [value for value in found if low <= value <= high]
        if len(inside) <= _MOST_TICKS:
            break
    return inside if len(inside) > 1 else [float(f"{value:.2g}") for value in (low * 1.06, high / 1.06)]


def _kept(network: TestedNetwork) -> str:
    return "" if network.kept is None else f", {network.kept:.0%} of the channels".replace("%", f"{NARROW}%")


def _noise(network: TestedNetwork) -> str:
    return "" if network.repeatability is None else f", odd against even rounds {_percent(network.repeatability)}"


def _against(what: str, value: float, network: TestedNetwork) -> str:
    error = 100 * (value / network.measured_ms - 1)
    return f"<br>{escape(what)} {quantity('latency', value)} ({error:+.1f}{NARROW}%)"
