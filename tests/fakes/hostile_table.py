"""A small table with every kind of line, of a network of four layers, and what estimates make of it once it is damaged."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.held_out import held_out
from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.schema import (
    IN_NETWORK,
    Cell,
    NetworkLine,
    Record,
    ReferenceLine,
    Session,
    format_header,
    format_record,
)
from netadapt_trt.lut.store import parse_lut
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.schema import Dim, Group, Op, Plan, Tensor
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Layer

__all__ = ["FULL", "IDENTITY", "RESOURCES", "estimates", "network", "seed_lut"]

IDENTITY = Identity(
    backend="fake", device="board", runtime="formula", runtime_version="1", provider="fake", precision="fp32",
    recipe="none", batch=1, threads=1,
)  # fmt: skip
FULL = {"a": 16, "b": 24, "c": 32}
RESOURCES = ("latency", "energy", "energy@VDD_IN")
_RAIL = "VDD_IN"
_OTHERS = ((8, 8, 8), (16, 8, 16), (8, 24, 32), (12, 16, 24), (8, 16, 8))
_PACES = (None, None, None, 1.1, 1.1, 0.9)
"""The first portion has none: the others are compared with it."""


@cache
def network() -> tuple[Plan, list[Layer]]:
    """Convolutions 3 -> a (3x3) -> b (1x1) -> c (3x3, stride 2) -> 10 (1x1) on 8x8: four layers of four keys."""
    ends = [Dim(3), *(Dim(0, ((name, 1),)) for name in FULL), Dim(10)]
    sides, kernels, strides = (8, 8, 8, 4, 4), (3, 1, 3, 1), (1, 1, 2, 1)
    tensors = {
        f"t{at}": Tensor(f"t{at}", "float32", (Dim(1), size, Dim(side), Dim(side)))
        for at, (size, side) in enumerate(zip(ends, sides, strict=True))
    }
    weights, ops = {}, []
    for at, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        weights[f"w{at}"] = Tensor(f"w{at}", "float32", (ends[at + 1], ends[at], Dim(kernel), Dim(kernel)))
        attributes: dict[str, Any] = {
            "kernel_shape": (kernel, kernel), "pads": (kernel // 2,) * 4, "strides": (stride, stride), "dilations": (1, 1),
            "group": 1,
        }  # fmt: skip
        ops.append(Op(f"conv{at}", "Conv", (f"t{at}", f"w{at}"), (f"t{at + 1}",), attributes))
    plan = Plan(
        model="zoo:small",
        args={},
        inputs=("t0",),
        outputs=("t4",),
        groups=tuple(Group(name, size, (f"w{at}",)) for at, (name, size) in enumerate(FULL.items())),
        frozen=(),
        tensors=tensors,
        weights=weights,
        constants={},
        ops=tuple(ops),
    )
    return plan, fused_layers(plan, starts={"Conv"}, activations=(), add=False, free=())


def seed_lut() -> bytes:
    """The table as our own writer makes it: the first two layers are seen in six networks and timed alone at their ends,
    the other two timed alone only (the third on a grid with one cell more); energies of all."""
    plan, layers = network()
    records: list[Record] = [
        Session(
            id="s1", date="2026-01-01T00:00:00+00:00", clocks={"gpu_min_mhz": 306.0, "locked": "no"},
            settings={"warmup_ms": 50.0}, rails=(_RAIL,), sensor_step_mw=8.0, power={"source": "ina"},
        ),
        Session(id="s2", date="2026-01-02T00:00:00+00:00", machine={"other_load": 0.1}, power_mode="15W"),
        Cell(layer="Add", widths=(8,), session="s1", energy_mj=_energy(3.0), power_mw={_RAIL: 5000.0}, flags=("noisy",)),
    ]  # fmt: skip
    alone: list[list[tuple[int, int]]] = [
        [(3, 8), (3, 16)],
        [(8, 8), (8, 24), (16, 8), (16, 24)],
        [(8, 8), (8, 32), (24, 8), (24, 32), (16, 16)],
    ]
    for layer, settings in zip(layers, [*alone, [(8, 10), (32, 10)]], strict=True):
        for widths in settings:
            ms = 1.2 * _ms(layers.index(layer), widths)
            about: Any = {"energy_mj": _energy(4 * ms), "power_mw": {_RAIL: 3900.0}}
            records.append(Cell(layer=layer.key, widths=widths, session="s1", latency_ms=_stats(ms), **about))
    for kept, pace in zip((tuple(FULL.values()), *_OTHERS), _PACES, strict=True):
        records += _whole(plan, layers, dict(zip(FULL, kept, strict=True)), pace)
    for ms in (0.5, 0.52, 0.51):
        records.append(ReferenceLine(layer=layers[1].key, widths=(16, 24), latency_ms=_stats(ms), session="s1"))
    return "\n".join([format_header(IDENTITY), *(format_record(record) for record in records), ""]).encode()


def _whole(plan: Plan, layers: list[Layer], widths: dict[str, int], pace: float | None) -> list[Record]:
    """A network and the two layers that were looked at in it."""
    times = [_ms(number, layer.widths(widths)) * (pace or 1.0) for number, layer in enumerate(layers)]
    about: dict[str, Any] = {"session": "s1" if pace is None else "s2"}
    told: dict[str, str | float | None] = {} if pace is None else {"pace": pace}
    share: dict[str, str | float | None] = {"rounds": 12, "odd_even": 1.01, "mapped_share": 0.99, "unmapped": '["Copy"]'}
    whole = sum(times)
    line = NetworkLine(
        plan=plan_hash(plan), widths=widths, latency_ms=_stats(whole), energy_mj=_energy(4 * whole),
        power_mw={_RAIL: 4000.0}, details={**told, **share}, **about,
    )  # fmt: skip
    cells = [
        Cell(
            layer=layer.key, widths=layer.widths(widths), context=IN_NETWORK, neighbours=(layers[1 - number].key,),
            latency_ms=LatencyStats(median=times[number], p10=times[number], p90=times[number], n=20), details=told, **about,
        )
        for number, layer in enumerate(layers[:2])
    ]  # fmt: skip
    return [line, *cells]


def _ms(number: int, widths: tuple[int, ...]) -> float:
    """A call, and something for every weight."""
    read, written = widths
    return round(0.05 + (9e-4, 1e-4, 9e-4, 1e-4)[number] * read * written, 6)


def _stats(ms: float) -> LatencyStats:
    return LatencyStats(median=ms, p10=0.9 * ms, p90=1.1 * ms, n=50)


def _energy(mj: float) -> EnergyStats:
    return EnergyStats(total=mj, dynamic=0.6 * mj, stderr=0.02 * mj)


def estimates(data: bytes) -> dict[str, str | None]:
    """For each resource None where the network can be estimated from this table, else why not.

    Raises FileFormatError as the reader does, AssertionError for an estimate that is no positive number.
    """
    lut, (plan, layers) = parse_lut(data, Path("fuzz")), network()
    check(lut, plan, layers)
    return {resource: _why_not(lut, plan, layers, resource) for resource in RESOURCES}


def _why_not(lut: Any, plan: Plan, layers: list[Layer], resource: str) -> str | None:
    try:
        estimator = NetworkEstimator(lut, plan, layers, resource)
        found = [float(value) for value in estimator.curve({}, "b", np.arange(1, 41))]
        for widths in (FULL, {"a": 4, "b": 4, "c": 4}, {"a": 16, "b": 9, "c": 32}):
            estimate = estimator.estimate(widths)
            found += [estimate.value, estimate.raw, *([] if estimate.stderr is None else [1 + estimate.stderr])]
        left_out = held_out(estimator)
        found += [] if left_out is None else [1 + left_out.error, 1 + left_out.worst, 1 + left_out.rms]
        estimator.staircase()
    except CoverageError as error:
        return str(error)
    assert np.isfinite(found).all(), found
    assert min(found) > 0, found
    return None
