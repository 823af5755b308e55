"""The lines of a LUT: what each holds, how it is written and how it is checked when it is read.

A LUT is JSON Lines. Its first line is the header (format, version, identity), each further line has a ``type``:
``session``, ``cell``, ``reference`` or ``network``. Reading checks every value, because a table may come from anywhere;
keys that this version does not know are left alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from netadapt_trt.files import check_header
from netadapt_trt.lut.fields import Fields
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ENERGY_FLAGS",
    "FORMAT",
    "IN_NETWORK",
    "ISOLATED",
    "LEAST",
    "LOW_COVERAGE",
    "MODELLED",
    "PACE",
    "PACES",
    "VERSION",
    "Cell",
    "NetworkLine",
    "Record",
    "ReferenceLine",
    "Session",
    "format_header",
    "format_record",
    "parse_header",
    "parse_record",
    "trusted",
    "without_lost_energy",
]

FORMAT = "netadapt-lut"
VERSION = 1
ISOLATED = "isolated"
"""The context of a layer that was timed alone."""
IN_NETWORK = "in_network"
"""The context of a layer's share of a whole network's time, as the runtime's profile told it."""
MODELLED = "modelled"
"""Flag of an energy that nobody measured: a model of measured ones says it."""
LOW_COVERAGE = "low_coverage"
"""Flag of a line under whose energy window readings were missing: its energy and power count for nothing."""
LEAST = 1e-9
"""ms or mJ: a picosecond, a picojoule. No layer is as quick or as frugal; less is a damaged figure or a mistaken unit."""
PACE = "pace"
"""Detail of a line: how long networks of the table took beside it, over what the table says of them (geometric mean). Above
1 the machine was slower then; see :func:`netadapt_trt.lut.reading.pace_of`."""
PACES = (1e-3, 1e3)
"""Between these a pace can be true: a machine that is a thousand times slower is another machine."""
ENERGY_FLAGS = frozenset({MODELLED, "resolution_limited", LOW_COVERAGE})
"""Flags that speak of a cell's energy and leave its latency alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of a profiler: when, and in which state the machine was.

    ``clocks``, ``machine``, ``versions`` and ``settings`` hold what could be found out, by name. ``rails``,
    ``sensor_step_mw`` and ``power`` describe the power source where there is one.
    """

    id: str
    date: str
    clocks: Mapping[str, str | float | None] = field(default_factory=dict)
    machine: Mapping[str, str | float | None] = field(default_factory=dict)
    versions: Mapping[str, str | float | None] = field(default_factory=dict)
    settings: Mapping[str, str | float | None] = field(default_factory=dict)
    power_mode: str | None = None
    power_source: str | None = None
    rails: tuple[str, ...] = ()
    sensor_step_mw: float | None = None
    power: Mapping[str, str | float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One layer at one set of widths. At least one of latency and energy is there; a line with energy alone completes.

    ``layer`` is the canonical key, ``widths`` the channel sizes it leaves open. ``context`` says whether it was timed
    alone or inside a network; then ``neighbours`` keeps the keys around it. A cell with ``flags`` counts only where
    nothing better is known. ``details`` is what the runtime knows of the engine that was timed: sizes, how it ran.
    """

    layer: str
    widths: tuple[int, ...]
    session: str
    context: str = ISOLATED
    latency_ms: LatencyStats | None = None
    host_latency_ms: LatencyStats | None = None
    energy_mj: EnergyStats | None = None
    power_mw: Mapping[str, float] = field(default_factory=dict)
    neighbours: tuple[str, ...] = ()
    details: Mapping[str, str | float | None] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLine:
    """The drift layer, measured again and again: if it moves, so did everything between."""

    layer: str
    widths: tuple[int, ...]
    latency_ms: LatencyStats
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLine:
    """A whole network measured end to end. ``plan`` is the plan's hash, ``widths`` every group in the plan's order.

    ``details`` and ``flags`` as in a cell.
    """

    plan: str
    widths: Mapping[str, int]
    session: str
    latency_ms: LatencyStats | None = None
    host_latency_ms: LatencyStats | None = None
    energy_mj: EnergyStats | None = None
    power_mw: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str | float | None] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


Line = TypeVar("Line", bound="Cell | NetworkLine")
Record = Session | Cell | ReferenceLine | NetworkLine


def trusted(line: Cell | NetworkLine) -> bool:
    """Whether no flag of ``line`` speaks against its latency."""
    return not set(line.flags) - ENERGY_FLAGS


def without_lost_energy(line: Line) -> Line:
    """``line`` as it counts: without energy and power where readings were missing under them."""
    if LOW_COVERAGE not in line.flags or (line.energy_mj is None and not line.power_mw):
        return line
    return replace(line, energy_mj=None, power_mw={})


def format_header(identity: Identity) -> str:
    """The first line, without its newline."""
    return _dump({"format": FORMAT, "version": VERSION, "identity": identity.to_json()})


def parse_header(content: Mapping[str, Any], *, where: str) -> Identity:
    """The identity in the first line.

    Raises:
        FileFormatError: another format (TooOldError, TooNewError for its version).
        ValueError: a missing or malformed key.
    """
    check_header(content, where=where, format=FORMAT, version=VERSION)
    values = Fields(content).group("identity")
    precision = values.text("precision")
    if precision not in get_args(Precision):
        raise ValueError(f"identity.precision must be one of {', '.join(get_args(Precision))}")
    texts = ("backend", "device", "runtime", "runtime_version", "provider", "precision", "recipe")
    return Identity.from_json(
        {**{key: values.text(key) for key in texts}, "batch": values.count("batch"), "threads": values.count("threads")}
    )


def _dump(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _present(**values: Any) -> dict[str, Any]:
    """What a line says: empty and unknown values are left out to keep it readable."""
    return {key: value for key, value in values.items() if value is not None and value not in ({}, [])}


def format_record(record: Record) -> str:
    """One line, without its newline; :func:`parse_record` gives an equal record back.

    Raises ValueError for NaN or infinity.
    """
    match record:
        case Session():
            return _dump(
                {
                    "type": "session",
                    "id": record.id,
                    "date": record.date,
                    **_present(
                        clocks=dict(record.clocks),
                        machine=dict(record.machine),
                        versions=dict(record.versions),
                        settings=dict(record.settings),
                        power_mode=record.power_mode,
                        power_source=record.power_source,
                        rails=list(record.rails),
                        sensor_step_mw=record.sensor_step_mw,
                        power=dict(record.power),
                    ),
                }
            )
        case Cell():
            content: dict[str, Any] = {
                "type": "cell",
                "layer": record.layer,
                "widths": list(record.widths),
                "context": record.context,
            }
            content |= _present(neighbours=list(record.neighbours), **_measured(record))
            return _dump({**content, "flags": list(record.flags), "session": record.session})
        case ReferenceLine():
            content = {"type": "reference", "layer": record.layer, "widths": list(record.widths)}
            return _dump({**content, "latency_ms": record.latency_ms.to_json(), "session": record.session})
        case NetworkLine():
            content = {"type": "network", "plan": record.plan, "widths": dict(record.widths)}
            content |= _present(**_measured(record), flags=list(record.flags))
            return _dump({**content, "session": record.session})


def _measured(record: Cell | NetworkLine) -> dict[str, Any]:
    return {
        "latency_ms": record.latency_ms and record.latency_ms.to_json(),
        "power_mw": dict(record.power_mw),
        "energy_mj": record.energy_mj and record.energy_mj.to_json(),
        "host_latency_ms": record.host_latency_ms and record.host_latency_ms.to_json(),
        "details": dict(record.details),
    }


def parse_record(content: Mapping[str, Any]) -> Record:
    """A record from one parsed line.

    Raises:
        ValueError: an unknown type, a missing key or a value outside its range; the message names the key.
    """
    values = Fields(content)
    kind = values.text("type")
    parsers: dict[str, Callable[[Fields], Record]] = {
        "session": _session,
        "cell": _cell,
        "reference": _reference,
        "network": _network,
    }
    if kind not in parsers:
        raise ValueError(f"type {kind[:60]!r} is unknown; known: {', '.join(parsers)}")
    return parsers[kind](values)


def _session(values: Fields) -> Session:
    return Session(
        id=values.text("id"),
        date=values.text("date"),
        clocks=values.scalars("clocks"),
        machine=values.scalars("machine"),
        versions=values.scalars("versions"),
        settings=values.scalars("settings"),
        power_mode=values.text("power_mode") if values.has("power_mode") else None,
        power_source=values.text("power_source") if values.has("power_source") else None,
        rails=values.texts("rails"),
        sensor_step_mw=values.number("sensor_step_mw") if values.has("sensor_step_mw") else None,
        power=values.scalars("power"),
    )


def _latency(values: Fields, key: str) -> LatencyStats | None:
    if not values.has(key):
        return None
    group = values.group(key)
    low, middle, high = (group.number(name, low=LEAST, above=False) for name in ("p10", "median", "p90"))
    if not low <= middle <= high:
        raise ValueError(f"{key}: p10 <= median <= p90 does not hold")
    return LatencyStats(median=middle, p10=low, p90=high, n=group.count("n"))


def _energy(values: Fields) -> EnergyStats | None:
    if not values.has("energy_mj"):
        return None
    group = values.group("energy_mj")
    return EnergyStats(
        total=group.number("total", low=LEAST, above=False),
        # Subtracting the idle power may leave a little less than nothing.
        dynamic=group.number("dynamic", low=-1e12, above=False) if group.has("dynamic") else None,
        stderr=group.number("stderr", above=False) if group.has("stderr") else None,
    )


def _details(values: Fields) -> dict[str, str | float | None]:
    """What a runtime knows is its own affair; the pace is divided by."""
    details = values.scalars("details")
    pace, (low, high) = details.get(PACE), PACES
    if isinstance(pace, int | float) and not low <= pace <= high:
        raise ValueError(f"details.{PACE} must be from {low:g} to {high:g}")
    return details


def _cell(values: Fields) -> Cell:
    cell = Cell(
        layer=values.text("layer"),
        widths=values.counts("widths"),
        session=values.text("session"),
        context=values.text("context"),
        latency_ms=_latency(values, "latency_ms"),
        host_latency_ms=_latency(values, "host_latency_ms"),
        energy_mj=_energy(values),
        power_mw=values.numbers("power_mw", low=0.0, above=False),
        neighbours=values.texts("neighbours"),
        details=_details(values),
        flags=values.texts("flags"),
    )
    if cell.latency_ms is None and cell.energy_mj is None:
        raise ValueError("a cell needs latency_ms or energy_mj")
    return cell


def _reference(values: Fields) -> ReferenceLine:
    latency = _latency(values, "latency_ms")
    if latency is None:
        raise ValueError("latency_ms is missing")
    return ReferenceLine(
        layer=values.text("layer"), widths=values.counts("widths"), latency_ms=latency, session=values.text("session")
    )


def _network(values: Fields) -> NetworkLine:
    line = NetworkLine(
        plan=values.text("plan"),
        widths=values.counts_by_name("widths"),
        session=values.text("session"),
        latency_ms=_latency(values, "latency_ms"),
        host_latency_ms=_latency(values, "host_latency_ms"),
        energy_mj=_energy(values),
        power_mw=values.numbers("power_mw", low=0.0, above=False),
        details=_details(values),
        flags=values.texts("flags"),
    )
    if line.latency_ms is None and line.energy_mj is None:
        raise ValueError("a network line needs latency_ms or energy_mj")
    return line
