"""Measuring real networks as the loop goes, so that the goal is a measured value and not a promise.

Where the LUT's device is the machine at hand, the decided network is timed turn by turn with the uncut one: the ratio of
the two is what counts, and a machine that is slower today than when it was profiled cancels out. Elsewhere a bench.json
brings the device's own measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import BackendError, FileFormatError, IdentityError
from netadapt_trt.files import read_document
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from netadapt_trt.adapt.resources import ResourceModel, Widths
    from netadapt_trt.backend import Backend
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.plan.schema import Plan

__all__ = ["BroughtMeasurements", "Meter", "measured_ratios", "open_meter", "read_bench"]

_AGREE_WITHIN, _MOST_TIMES = 0.01, 6
"""Of a budget's 1 % a measurement should not be unsure; but a noisy machine gets no more than so many times the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Times whole networks written from the plan, on this machine, under the LUT's conditions."""

    backend: Backend
    plan: Plan
    identity: Identity
    rounds: int

    def time(self, networks: Sequence[Widths], *, rounds: int | None = None) -> list[RoundTimings]:
        """Timings of all networks, taken turn by turn: ``rounds``, and more while odd and even ones disagree.

        Raises BackendError.
        """
        from netadapt_trt.measure.network import time_networks
        from netadapt_trt.measure.stats import unsettled

        rounds = rounds or self.rounds
        return time_networks(
            self.backend,
            self.plan,
            networks,
            precision=self.identity.precision,
            threads=self.identity.threads,
            rounds=rounds,
            go_on=lambda medians: unsettled(medians, within=_AGREE_WITHIN, most=_MOST_TIMES * rounds),
        )


def open_meter(backend: Backend, plan: Plan, identity: Identity, *, rounds: int) -> Meter | str:
    """A meter where this machine is the one that ``identity`` describes, else why it is not."""
    try:
        here = backend.identity(precision=identity.precision, batch=identity.batch, threads=identity.threads)
    except BackendError as error:
        return f"networks cannot be measured here: {error}"
    differences = identity.differences(here)
    if differences:
        told = "; ".join(f"{key} is {lut!r} in the LUT and {mine!r} here" for key, lut, mine in differences)
        return f"networks are not measured on this machine, it is not the LUT's device ({told})"
    return Meter(backend=backend, plan=plan, identity=identity, rounds=rounds)


def measured_ratios(
    meter: Meter, models: Mapping[str, ResourceModel], widths: Widths, *, rounds: int | None = None
) -> dict[str, float]:
    """Measure the network at ``widths`` against the uncut one: latency and, where known, energy, in the LUT's terms.

    The value is (ratio measured now) x (the uncut network's value in the LUT).
    """
    full, cut = meter.time([meter.plan.full_widths(), widths], rounds=rounds)
    found = {}
    if "latency" in models:
        found["latency"] = cut.stats.median / full.stats.median * models["latency"].initial
    if "energy" in models and full.energy is not None and cut.energy is not None and full.energy.total > 0:
        found["energy"] = cut.energy.total / full.energy.total * models["energy"].initial
    for name in models:
        resource, _, rail = name.partition("@")
        if resource == "energy" and rail and full.power_mw.get(rail):
            before, after = (timings.power_mw[rail] * timings.stats.median for timings in (full, cut))
            found[name] = after / before * models[name].initial
    return found


@dataclass(frozen=True, slots=True)
class BroughtMeasurements:
    """What a bench.json says about networks of this plan, in the file's order: widths, and values by resource.

    ``latency`` in ms, ``energy`` and ``energy@RAIL`` in mJ per inference where the device had a power source.
    """

    path: Path
    networks: tuple[tuple[Widths, Mapping[str, float]], ...]

    def values(
        self, widths: Mapping[str, int], *, full: Mapping[str, int], initial: Mapping[str, float]
    ) -> dict[str, float]:
        """The latest measurements at ``widths`` of the resources in ``initial``, in the LUT's terms; {} when there are none.

        Where the file also holds the uncut network (its widths are ``full``, its values in the LUT ``initial``), the ratio
        to it counts, as with local measurements.
        """
        cut, uncut = self._latest(widths), self._latest(full)
        return {
            name: cut[name] / uncut[name] * value if name in uncut else cut[name]
            for name, value in initial.items()
            if name in cut
        }

    def _latest(self, widths: Mapping[str, int]) -> dict[str, float]:
        found: dict[str, float] = {}
        for network, values in self.networks:
            if network == dict(widths):
                found |= values
        return found


def read_bench(path: Path, *, plan: Plan, plan_hash: str, identity: Identity) -> BroughtMeasurements:
    """Read the measurements of this plan's networks from a bench.json.

    Raises:
        FileFormatError: it is no bench.json, or an entry is malformed.
        IdentityError: it was measured under other conditions than the LUT (each key and both values).
    """
    document = read_document(path, format="netadapt-bench", version=1)
    try:
        entries = [entry for entry in document["artifacts"] if entry.get("plan_hash") == plan_hash and entry.get("widths")]
        found = [
            (Identity.from_json(entry.get("identity") or document["identity"]), _network(entry, plan)) for entry in entries
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} is a damaged bench.json: {error!r}; run bench again") from error
    fitting = tuple(network for conditions, network in found if not identity.differences(conditions))
    if found and not fitting:
        differences = identity.differences(found[0][0])
        told = "; ".join(f"{key} is {lut!r} in the LUT and {bench!r} in the bench" for key, lut, bench in differences)
        raise IdentityError(f"{path} was not measured under the LUT's conditions: {told}; run bench where the LUT was made")
    return BroughtMeasurements(path, fitting)


def _network(entry: Mapping[str, Any], plan: Plan) -> tuple[Widths, dict[str, float]]:
    latency = entry["latency_ms"]
    found = {"latency": _positive(latency["median"] if isinstance(latency, dict) else latency, "a latency of {} ms")}
    energy = entry.get("energy_mj")
    if energy is not None:
        found["energy"] = _positive(energy["total"], "an energy of {} mJ")
    for rail, power in (entry.get("power_mw") or {}).items():
        if power > 0:  # a rail at rest, which may read a little below zero, is no measure of a network
            found[f"energy@{rail}"] = _positive(power, f"{rail} with {{}} mW") * found["latency"] / 1000
    widths = {str(group): int(width) for group, width in (entry.get("widths") or {}).items()}
    return {**plan.full_widths(), **widths}, found


def _positive(value: Any, what: str) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(what.format(number))
    return number
