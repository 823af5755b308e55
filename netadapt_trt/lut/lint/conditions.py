"""The machine a table was measured on: was it quiet, was it steady, and was it one machine?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from netadapt_trt.lut.lint.finding import Finding, anew, contexts
from netadapt_trt.lut.schema import MODELLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netadapt_trt.lut.schema import Session
    from netadapt_trt.lut.store import Lut

__all__ = ["foreign_runtime", "mixed_sessions", "split_energy", "unquiet_machine"]

BUSY = 0.2
"""Of one core: what a system's own services take is less."""

_WEIGHTY = (
    ("machine", "model"), ("machine", "board"), ("machine", "l4t"), ("machine", "physical_cores"),
    ("machine", "cpus_online"), ("clocks", "governor"), ("clocks", "locked"), ("clocks", "max_frequency_mhz"),
    ("settings", "threads"),
)  # fmt: skip
"""What changes the figures themselves. Power modes and the bounds of locked clocks have rules of their own."""
_LIGHT = (
    ("machine", "kernel"), ("machine", "container"), ("versions", "python"), ("versions", "netadapt-trt"),
    ("settings", "warmup_ms"), ("settings", "min_runs"), ("settings", "min_ms"), ("settings", "max_ms"),
)  # fmt: skip
"""What may change them a little."""


def unquiet_machine(lut: Lut) -> list[Finding]:
    """Governors that are not ``performance``, and sessions that began beside other programs."""
    findings = []
    # Where the bounds of the clocks are known they count: with jetson_clocks a governor has nothing left to decide.
    undecided = [session.clocks for session in lut.sessions.values() if session.clocks.get("locked") is None]
    governors = {str(clocks["governor"]) for clocks in undecided if clocks.get("governor") is not None}
    if governors - {"performance"}:
        text = f"clocks were not locked (governor {', '.join(sorted(governors))})"
        why = "a processor that changes its clock between two cells makes one of them look slow"
        action = "sudo cpupower frequency-set -g performance before measuring, for steadier figures"
        findings.append(Finding("info", "governor", text, why, action))
    loads = [session.machine.get("other_load") for session in lut.sessions.values()]
    busy = [load for load in loads if isinstance(load, int | float) and load > BUSY]
    if busy:
        text = f"{len(busy)} of {len(loads)} sessions began while other programs were running (up to {max(busy):.2g} cores)"
        why = "what runs beside a measurement takes its time and its caches"
        action = anew(lut, "netadapt-trt doctor names them; stop them, then")
        findings.append(Finding("warning", "load", text, why, action))
    return findings


def mixed_sessions(lut: Lut) -> list[Finding]:
    """Sessions of different machines, clocks, versions or settings in one file."""
    used = {line.session for lines in (lut.cells, lut.references, lut.networks) for line in lines}
    sessions = [session for session in lut.sessions.values() if session.id in used]
    runtime = ("versions", lut.identity.runtime)
    findings = []
    weighty = [*_differing(sessions, (*_WEIGHTY, runtime)), *_sources(sessions)]
    if weighty:
        text = f"sessions were measured under different conditions: {'; '.join(weighty)}"
        why = "their cells stand side by side as if they were of one device"
        action = anew(lut, "keep one table per condition, each measured whole")
        findings.append(Finding("warning", "mixed-conditions", text, why, action))
    light = _differing(sessions, _LIGHT)
    if light:
        text = f"sessions differ in what should not matter: {'; '.join(light)}"
        why = "where the reference layer moved between sessions, that may be the reason"
        findings.append(Finding("info", "mixed-versions", text, why, "nothing, while the rules on drift are silent"))
    return findings


def _differing(sessions: Sequence[Session], keys: Iterable[tuple[str, str]]) -> list[str]:
    found = []
    for group, name in keys:
        values = Counter(str(value) for session in sessions if (value := getattr(session, group).get(name)) is not None)
        if len(values) > 1:
            found.append(f"{group} {name} {_listed(values)}")
    return found


def _sources(sessions: Sequence[Session]) -> list[str]:
    values = Counter(session.power_source for session in sessions if session.power_source is not None)
    return [f"power source {_listed(values)}"] if len(values) > 1 else []


def _listed(values: Counter[str]) -> str:
    shown = ", ".join(f"{value} ({count} sessions)" for value, count in values.most_common(3))
    return shown if len(values) <= 3 else f"{shown} and {len(values) - 3} more"


def foreign_runtime(lut: Lut) -> list[Finding]:
    """Sessions that name another version of the runtime than the table's identity."""
    identity = lut.identity
    said = Counter(
        str(session.versions.get(identity.runtime) or identity.runtime_version) for session in lut.sessions.values()
    )
    others = {version: count for version, count in said.items() if version != identity.runtime_version}
    if not others:
        return []
    listed = ", ".join(f"{version} in {count}" for version, count in others.items())
    text = f"the table is of {identity.runtime} {identity.runtime_version}, but its sessions say {listed}"
    why = "kernels and fusions change from version to version, and times with them"
    return [Finding("warning", "mixed-runtime", text, why, anew(lut, "measure with one version"))]


def split_energy(lut: Lut) -> list[Finding]:
    """Cells whose latency is from one session and whose energy from another."""
    owner = {id(line.energy_mj): line.session for line in lut.cells if line.energy_mj is not None}
    pairs: Counter[tuple[str, str]] = Counter()
    total = 0
    for context in contexts(lut):
        for layer in lut.layers(context):
            for cell in lut.layer_cells(layer, context):
                timed = lut.timed(layer, cell.widths, context)
                if timed is not None and cell.energy_mj is not None and MODELLED not in cell.flags:
                    total += 1
                    pairs[timed.session, owner[id(cell.energy_mj)]] += 1
    apart = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    if not apart:
        return []
    moved = sum(count for (one, other), count in apart.items() if _state(lut.sessions[one]) != _state(lut.sessions[other]))
    text = f"latency and energy of {sum(apart.values())} of {total} cells are from different sessions"
    if moved:
        text = f"{text}, for {moved} of them in another power mode or at other clocks"
    why = "at other clocks a layer takes another time and another energy, and the two do not belong together"
    alike = "nothing, while the sessions were alike"
    action = anew(lut, "measure both in one session", power=True) if moved else alike
    return [Finding("warning" if moved else "info", "split-energy", text, why, action)]


def _state(session: Session) -> tuple[object, ...]:
    """What decides the speed of a device, as far as it was known."""
    bounds = sorted((name, value) for name, value in session.clocks.items() if name.endswith(("_min_mhz", "_max_mhz")))
    return (session.power_mode, session.clocks.get("governor"), session.clocks.get("locked"), *bounds)
