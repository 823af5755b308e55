"""Layers as whole networks showed them: a network of pointwise convolutions whose times are a formula with a staircase."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.lut.context import evidence_of, layer_models
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.held_out import held_out
from netadapt_trt.lut.networks import uneven_widths
from netadapt_trt.lut.reading import PACE, networks_of
from netadapt_trt.lut.schema import IN_NETWORK, Cell, NetworkLine, Session
from netadapt_trt.lut.store import Lut
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.schema import Attribute, Dim, Group, Op, Plan, Tensor
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.profile.attribution import REGION
from netadapt_trt.spec import EnergyStats, LatencyStats

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Layer
    from netadapt_trt.spec import Identity

FULL = {"a": 64, "b": 96, "c": 128, "d": 64}
SIDE, NOISE = 8, 0.02


def chain() -> Plan:
    """Pointwise convolutions 3 -> a -> b -> c -> d -> 10 on 8x8."""
    one, side, ends = Dim(1), Dim(SIDE), [Dim(3), *(Dim(0, ((name, 1),)) for name in FULL), Dim(10)]
    tensors = {f"t{at}": Tensor(f"t{at}", "float32", (one, size, side, side)) for at, size in enumerate(ends)}
    attributes: dict[str, Attribute] = {
        "kernel_shape": (1, 1), "pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1), "group": 1
    }  # fmt: skip
    weights, ops = {}, []
    for at, (read, written) in enumerate(pairwise(ends)):
        weights[f"w{at}"] = Tensor(f"w{at}", "float32", (written, read, one, one))
        ops.append(Op(f"conv{at}", "Conv", (f"t{at}", f"w{at}"), (f"t{at + 1}",), attributes))
    return Plan(
        model="zoo:chain",
        args={},
        inputs=("t0",),
        outputs=(f"t{len(ops)}",),
        groups=tuple(Group(name, size, (f"w{at}",)) for at, (name, size) in enumerate(FULL.items())),
        frozen=(),
        tensors=tensors,
        weights=weights,
        constants={},
        ops=tuple(ops),
    )


def layer_ms(widths: tuple[int, ...], block: int = 16) -> float:
    """A call, arithmetic and what is moved, of channels rounded up to a block (an image's three are not)."""
    i, o = (width if width < 4 else -(-width // block) * block for width in widths)
    return 0.01 + 64 * (1e-7 * i * o + 1e-6 * (i + o))


@dataclass
class Bench:
    """A table that grows by whole networks; each layer's time is the formula's, with noise and a machine's pace."""

    lut: Lut
    plan: Plan
    layers: list[Layer]
    draw: Any

    def look(self, widths: dict[str, int], *, noise: float = NOISE, pace: float = 1.0, flags: tuple[str, ...] = ()) -> float:
        total, details = 0.0, {} if pace == 1.0 else {PACE: pace}
        times: dict[tuple[str, tuple[int, ...]], float] = {}
        for layer in self.layers:
            found = layer_ms(layer.widths(widths)) * pace * float(self.draw.lognormal(0, noise))
            times[layer.key, layer.widths(widths)] = found
            total += found
        for (key, at), value in times.items():
            about: Any = {"session": "s", "context": IN_NETWORK, "details": details, "flags": flags}
            self.add(Cell(layer=key, widths=at, latency_ms=stats(value), **about))
        whole = NetworkLine(
            plan=plan_hash(self.plan), widths=widths, latency_ms=stats(total), details=details, flags=flags, session="s"
        )
        self.add(whole)
        return total

    def add(self, line: Any) -> None:
        self.lut.add(line)

    def truth(self, widths: dict[str, int]) -> float:
        return sum(layer_ms(layer.widths(widths)) for layer in self.layers)

    def estimator(self, resource: str = "latency") -> NetworkEstimator:
        return NetworkEstimator(self.lut, self.plan, self.layers, resource)

    def some(self, count: int, seed: int, granularity: int = 8) -> list[dict[str, int]]:
        source = random.Random(seed)
        return [uneven_widths(self.plan, source, granularity=granularity) for _ in range(count)]


def stats(value: float) -> LatencyStats:
    return LatencyStats(median=value, p10=value, p90=value, n=20)


@pytest.fixture
def bench(identity: Identity) -> Bench:
    lut, plan = Lut(identity), chain()
    lut.add(Session(id="s", date="2026-01-01T00:00:00+00:00"))
    layers = fused_layers(plan, starts={"Conv"}, activations={"Relu"}, add=True, free=set())
    return Bench(lut, plan, layers, np.random.default_rng(7))


@pytest.fixture
def full_bench(bench: Bench) -> Bench:
    for widths in [FULL, *bench.some(24, 1)]:
        bench.look(widths)
    return bench


def test_block_of_kernels_is_found_and_unseen_widths_are_right(full_bench: Bench) -> None:
    models = layer_models(full_bench.lut, full_bench.plan, full_bench.layers)
    assert set(models) == {layer.key for layer in full_bench.layers}
    assert {model.trend.block for model in models.values()} == {16}
    middle = max(models.values(), key=lambda model: len(model.evidence.values))
    new = np.array([(i, o) for i in (24, 40, 56, 88) for o in (24, 32, 56, 64, 120)])
    seen = {tuple(point) for point in middle.evidence.points.tolist()}
    unseen = np.array([point for point in new.tolist() if tuple(point) not in seen])
    assert len(unseen) > 10
    ratios = middle.values(unseen) / [layer_ms(tuple(point)) for point in unseen.tolist()]
    assert np.abs(ratios - 1).mean() < NOISE
    assert np.abs(ratios - 1).max() < 3 * NOISE
    # 24 channels cost what 32 do, give or take noise; without blocks it would be a quarter less.
    same = middle.values(np.array([[24, 64], [32, 64]]))
    assert same[0] == pytest.approx(same[1], rel=2 * NOISE)


def test_smooth_kernels_have_no_blocks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = layer_ms
    monkeypatch.setitem(globals(), "layer_ms", lambda widths: smooth(widths, 1))
    for widths in bench.some(25, 2):
        bench.look(widths)
    models = layer_models(bench.lut, bench.plan, bench.layers)
    assert {model.trend.block for model in models.values()} == {1}


def test_evidence_averages_repeats_and_leaves_doubtful_lines_out(bench: Bench) -> None:
    key = bench.layers[2].key
    cell = Cell(layer=key, widths=(8, 16), session="s", context=IN_NETWORK, latency_ms=stats(1.0))
    lines = [
        cell,
        replace(cell, latency_ms=stats(6.0), details={PACE: 2.0}),  # the machine took twice as long: 3
        replace(cell, latency_ms=stats(9.0), flags=(REGION,)),
        replace(cell, latency_ms=stats(9.0), flags=("throttled",)),
        replace(cell, latency_ms=None, energy_mj=EnergyStats(total=1.0)),
        replace(cell, widths=(16, 16), latency_ms=stats(4.0)),
        replace(cell, widths=(8, 16), context="isolated", latency_ms=stats(5.0)),
        replace(cell, widths=(24, 16), context="isolated", latency_ms=stats(7.0), flags=("noisy",)),
        replace(cell, layer="never inside", context="isolated"),
    ]
    for line in lines:
        bench.add(line)
    found = evidence_of(bench.lut)
    assert set(found) == {key}
    evidence = found[key]
    assert evidence.points.tolist() == [[8, 16], [16, 16], [8, 16]]
    assert evidence.values.tolist() == [2.0, 4.0, 5.0]
    assert evidence.alone.tolist() == [False, False, True]
    assert evidence.counts.tolist() == [2, 1, 1]
    assert not evidence.only_alone


def test_a_line_of_other_sizes_spoils_no_layer(full_bench: Bench) -> None:
    key = full_bench.layers[2].key
    before = full_bench.estimator().estimate(FULL).value
    odd = Cell(layer=key, widths=(8,), session="s", context=IN_NETWORK, latency_ms=stats(1.0))
    full_bench.lut.cells.insert(0, odd)
    assert evidence_of(full_bench.lut)[key].points.shape[1] == 2
    assert full_bench.estimator().estimate(FULL).value == pytest.approx(before)
    # Where all lines are like that nothing is known of this network's layer.
    full_bench.lut.cells = [replace(cell, widths=cell.widths[:1]) for cell in full_bench.lut.cells]
    assert layer_models(full_bench.lut, full_bench.plan, full_bench.layers) == {}


def test_too_few_settings_make_no_model(bench: Bench) -> None:
    key = bench.layers[2].key

    def see(*widths: int, flags: tuple[str, ...] = ()) -> bool:
        line = Cell(layer=key, widths=widths, session="s", context=IN_NETWORK, latency_ms=stats(1.0), flags=flags)
        bench.add(line)
        return key in layer_models(bench.lut, bench.plan, bench.layers)

    assert layer_models(bench.lut, bench.plan, bench.layers) == {}
    assert not any(see(8, width) for width in (8, 16, 24, 24))
    assert not see(8, 32, flags=("throttled",))
    assert see(8, 40)  # the fourth


def test_pace_of_the_machine_is_no_time_of_a_layer(bench: Bench) -> None:
    for number, widths in enumerate([FULL, *bench.some(24, 1)]):
        bench.look(widths, noise=0.001, pace=1.0 if number < 8 else 1.4)
    estimator = bench.estimator()
    for widths in bench.some(5, 9):
        assert estimator.estimate(widths).value == pytest.approx(bench.truth(widths), rel=0.02)
    assert dict(networks_of(bench.lut, bench.plan)[0][0]) == FULL
    assert networks_of(bench.lut, bench.plan)[-1][1] == pytest.approx(bench.truth(bench.some(24, 1)[-1]), rel=0.005)


def test_estimate_is_the_sum_of_its_layers_and_says_how_sure_it_is(full_bench: Bench) -> None:
    estimator = full_bench.estimator()
    assert estimator.missing() == []
    assert estimator.anchored
    models = estimator.in_context
    errors = []
    for widths in full_bench.some(12, 5):
        at = {layer: np.array([layer.widths(widths)]) for layer in full_bench.layers}
        total = sum(float(models[layer.key].values(at[layer])[0]) for layer in full_bench.layers)
        found = estimator.estimate(widths)
        assert estimator.raw(widths) == found.raw == pytest.approx(total)
        assert found.value == pytest.approx((total + found.offset) * found.scale)
        parts = [models[layer.key].uncertainty(at[layer])[0] * models[layer.key].values(at[layer])[0] for layer in at]
        assert estimator.unsure(widths) == pytest.approx(np.sqrt(sum(part**2 for part in parts)))
        assert found.stderr is not None
        assert found.scale * estimator.unsure(widths) <= found.stderr < 0.1 * found.value
        errors.append(abs(found.value / full_bench.truth(widths) - 1))
    assert np.mean(errors) < NOISE
    curve = estimator.curve({"b": 40}, "a", np.array([8, 24, 64]))
    np.testing.assert_allclose(curve, [estimator.estimate({"a": a, "b": 40}).value for a in (8, 24, 64)])


def test_energy_is_still_read_from_lone_cells(full_bench: Bench) -> None:
    for layer in full_bench.layers:
        for share in (1, 2, 4, 8):
            widths = layer.widths({name: size // share for name, size in FULL.items()})
            drawn = EnergyStats(total=sum(widths))
            line = Cell(layer=layer.key, widths=widths, session="s", latency_ms=stats(1.0), energy_mj=drawn)
            if full_bench.lut.cell(layer.key, widths) is None:
                full_bench.add(line)
    energy = full_bench.estimator("energy")
    assert energy.in_context == {}
    found = energy.estimate({})
    assert found.stderr is None
    assert found.value == pytest.approx(sum(sum(layer.widths(FULL)) for layer in full_bench.layers))


def test_held_out_error_is_of_the_size_of_the_noise(full_bench: Bench) -> None:
    found = held_out(full_bench.estimator())
    assert found is not None
    assert found.networks == len(networks_of(full_bench.lut, full_bench.plan))
    assert 0 < found.error <= found.rms <= found.worst < 0.1
    assert found.error < 2 * NOISE


def test_held_out_shows_a_wrong_network(full_bench: Bench) -> None:
    before = held_out(full_bench.estimator())
    line = full_bench.lut.networks[5]
    assert line.latency_ms is not None
    full_bench.add(replace(line, latency_ms=stats(2 * line.latency_ms.median)))  # the latest line counts
    found = held_out(full_bench.estimator())
    assert before is not None
    assert found is not None
    assert found.networks == before.networks
    assert found.worst == pytest.approx(0.5, abs=0.1)  # its layers say half of it
    assert found.rms > 2 * before.rms


def test_held_out_needs_networks_and_their_layers(bench: Bench, full_bench: Bench) -> None:
    few = Bench(Lut(bench.lut.identity), bench.plan, bench.layers, bench.draw)
    few.add(Session(id="s", date="2026-01-01T00:00:00+00:00"))
    for widths in few.some(3, 1):
        few.look(widths)
    assert held_out(few.estimator()) is None
    assert held_out(full_bench.estimator("energy")) is None
