from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from netadapt_trt.adapt.anchor import BroughtMeasurements, Meter, measured_ratios, open_meter, read_bench
from netadapt_trt.errors import BackendError, FileFormatError, IdentityError
from netadapt_trt.measure.stopwatch import RoundTimings
from netadapt_trt.plan.schema import Group, Plan
from netadapt_trt.spec import EnergyStats, Identity

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.adapt.resources import ResourceModel
    from netadapt_trt.backend import Backend

PLAN = Plan("m", {}, (), (), (Group("a", 32, ()), Group("b", 16, ())), (), {}, {}, {}, ())
IDENTITY = Identity(
    backend="fake",
    device="board",
    runtime="r",
    runtime_version="1",
    provider="p",
    precision="fp32",
    recipe="none",
    batch=1,
    threads=2,
)


class Here:
    """A backend that says which machine this is."""

    name = "fake"

    def __init__(self, identity: Identity | None) -> None:
        self._identity = identity

    def identity(self, **_: Any) -> Identity:
        if self._identity is None:
            raise BackendError("the runtime is not installed")
        return self._identity


def backend(identity: Identity | None) -> Backend:
    return cast("Backend", Here(identity))


def test_open_meter_wants_the_same_machine() -> None:
    assert isinstance(open_meter(backend(IDENTITY), PLAN, IDENTITY, rounds=5), Meter)
    other = open_meter(backend(replace(IDENTITY, device="laptop")), PLAN, IDENTITY, rounds=5)
    assert isinstance(other, str)
    assert "device is 'board' in the LUT and 'laptop' here" in other
    absent = open_meter(backend(None), PLAN, IDENTITY, rounds=5)
    assert isinstance(absent, str)
    assert "not installed" in absent


class Slow(Meter):
    """Times what it is told: the uncut network 20 ms and 8 mJ, any other 5 ms and 6 mJ."""

    def time(self, networks: Any, *, rounds: int | None = None) -> list[RoundTimings]:
        full = self.plan.full_widths()
        return [
            RoundTimings(
                rounds_ms=((20.0,) if widths == full else (5.0,),),
                energy=EnergyStats(total=8.0 if widths == full else 6.0),
            )
            for widths in networks
        ]


class Initial:
    def __init__(self, initial: float) -> None:
        self.initial = initial


def test_measured_ratios_cancel_the_machines_drift() -> None:
    meter = Slow(backend=backend(IDENTITY), plan=PLAN, identity=IDENTITY, rounds=1)
    models = cast("dict[str, ResourceModel]", {"latency": Initial(10.0), "energy": Initial(4.0), "macs": Initial(1.0)})
    # today the machine is twice as slow as when the LUT was made: 10 ms then, 20 ms now
    assert measured_ratios(meter, models, {"a": 8, "b": 16}) == {"latency": 2.5, "energy": 3.0}


def bench(tmp_path: Path, *artifacts: dict[str, Any], identity: Identity = IDENTITY) -> Path:
    path = tmp_path / "bench.json"
    content = {"format": "netadapt-bench", "version": 1, "identity": identity.to_json(), "artifacts": list(artifacts)}
    path.write_text(json.dumps(content))
    return path


def entry(latency: object, plan: str | None = "hash", power: dict[str, Any] | None = None, **widths: int) -> dict[str, Any]:
    return {"path": "m.onnx", "plan_hash": plan, "widths": widths, "latency_ms": {"median": latency}, **(power or {})}


def powered(total: object, **power_mw: float) -> dict[str, Any]:
    return {"energy_mj": {"total": total, "dynamic": None, "stderr": 0.1}, "power_mw": power_mw}


CUT, START = {"a": 8, "b": 16}, {"latency": 10.0, "energy": 60.0, "energy@GPU": 20.0}


def test_read_bench_finds_the_latest_measurement_of_a_network(tmp_path: Path) -> None:
    path = bench(tmp_path, entry(4.0, a=8), entry(9.0, plan="other", a=8), entry(3.0, a=8), entry(1.0, plan=None, a=8))
    brought = read_bench(path, plan=PLAN, plan_hash="hash", identity=IDENTITY)
    full = PLAN.full_widths()
    assert brought.values(CUT, full=full, initial=START) == {"latency": 3.0}
    assert brought.values({"a": 16, "b": 16}, full=full, initial=START) == {}


def test_brought_measurements_use_the_uncut_network_where_it_is_there() -> None:
    full = PLAN.full_widths()
    brought = BroughtMeasurements(cast("Path", "x"), ((full, {"latency": 8.0}), (CUT, {"latency": 4.0, "energy": 6.0})))
    assert brought.values(CUT, full=full, initial=START) == {"latency": 5.0, "energy": 6.0}
    assert brought.values(CUT, full=full, initial={"latency": 10.0}) == {"latency": 5.0}


def test_energy_and_rails_are_brought_as_ratios_too(tmp_path: Path) -> None:
    """That day the uncut network took 8 ms at 5 W, 2.5 W of it the GPU's: 40 and 20 mJ. In the LUT it is 10 ms, 60, 20."""
    uncut = entry(8.0, power=powered(40.0, GPU=2500.0, IO=0.0), a=32)
    cut = entry(4.0, power=powered(16.0, GPU=2000.0, IO=-0.4), a=8)
    brought = read_bench(bench(tmp_path, uncut, cut), plan=PLAN, plan_hash="hash", identity=IDENTITY)
    found = brought.values(CUT, full=PLAN.full_widths(), initial={**START, "energy@IO": 1.0})
    assert found == {"latency": 5.0, "energy": 24.0, "energy@GPU": pytest.approx(8.0 / 20.0 * 20.0)}


def test_network_without_energy_brings_its_latency(tmp_path: Path) -> None:
    none = {"energy_mj": None, "power_mw": {"GPU": 1500.0}}  # a board whose total nobody knows
    brought = read_bench(bench(tmp_path, entry(4.0, power=none, a=8)), plan=PLAN, plan_hash="hash", identity=IDENTITY)
    assert brought.values(CUT, full=PLAN.full_widths(), initial=START) == {"latency": 4.0, "energy@GPU": 6.0}


@pytest.mark.parametrize(
    "power",
    [powered(0.0), powered(-1.0), powered("much"), {"energy_mj": 3.0}, {"power_mw": 5}, {"power_mw": {"GPU": "much"}}],
)
def test_read_bench_refuses_nonsense_of_energy(tmp_path: Path, power: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match=r"damaged bench\.json"):
        read_bench(bench(tmp_path, entry(4.0, power=power, a=8)), plan=PLAN, plan_hash="hash", identity=IDENTITY)


def test_read_bench_refuses_other_conditions_naming_them(tmp_path: Path) -> None:
    path = bench(tmp_path, entry(4.0, a=8), identity=replace(IDENTITY, threads=1))
    with pytest.raises(IdentityError, match="threads is 2 in the LUT and 1 in the bench"):
        read_bench(path, plan=PLAN, plan_hash="hash", identity=IDENTITY)


@pytest.mark.parametrize("latency", [0.0, -1.0, "fast", None])
def test_read_bench_refuses_nonsense(tmp_path: Path, latency: object) -> None:
    with pytest.raises(FileFormatError, match=r"damaged bench\.json"):
        read_bench(bench(tmp_path, entry(latency, a=8)), plan=PLAN, plan_hash="hash", identity=IDENTITY)


def test_read_bench_passes_over_artifacts_of_other_conditions(tmp_path: Path) -> None:
    other = {**entry(1.0, a=8), "identity": replace(IDENTITY, precision="fp16").to_json()}
    path = bench(tmp_path, entry(4.0, a=8), other, {**entry(2.0), "widths": None})
    brought = read_bench(path, plan=PLAN, plan_hash="hash", identity=IDENTITY)
    assert brought.networks == ((CUT, {"latency": 4.0}),)
