"""Which mix of evidence estimates whole networks best: one table, the networks of its validation, several estimators.

    python tools/bench_estimates.py PLAN --lut cpu.lut.jsonl --lone lone.lut.jsonl --validation v.json [--output out.json]

PLAN and LUT as `netadapt-trt plan` and `profile` made them, ``--validation`` what `lut validate -o` wrote of that LUT.
``--lone`` is a table of layers timed alone on the whole grid; with ``--measure-lone`` it is measured here first (minutes;
the runtime's way to tell a network's time by layer is hidden from the profile then). Nothing else is timed: every estimator
says the same held-out networks, whose measured times are the validation's, with the drift that the validation took out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import load_backend
from netadapt_trt.files import write_atomic
from netadapt_trt.lut.context import layer_models
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.reading import networks_of
from netadapt_trt.lut.schema import IN_NETWORK, ISOLATED
from netadapt_trt.lut.store import parse_lut, read_lut
from netadapt_trt.plan.store import load_plan, plan_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from netadapt_trt.lut.store import Lut
    from netadapt_trt.plan.schema import Layer, Plan

Widths = dict[str, int]
NO_DEVIATION = {"spread": 1e-4}


def part(path: Path, *, contexts: Sequence[str], networks: int | None = None) -> Lut:
    """The table at ``path`` with the cells of these contexts, and only what its first ``networks`` whole networks showed.

    A profile writes a network's cells behind its line.
    """
    header, *lines = path.read_bytes().splitlines(keepends=True)
    kept, seen = [header], 0
    for line in lines:
        record = json.loads(line)
        seen += record["type"] == "network"
        late = networks is not None and seen > networks
        if record["type"] == "network" and late:
            continue
        if record["type"] == "cell" and (record["context"] not in contexts or (late and record["context"] == IN_NETWORK)):
            continue
        kept.append(line)
    return parse_lut(b"".join(kept), path)


def modelled(
    lut: Lut, plan: Plan, layers: Sequence[Layer], change: Mapping[str, float] | None = None
) -> Callable[[Widths], float]:
    """Sum of the layers' models, scaled to the table's whole networks."""
    models = layer_models(lut, plan, layers, change=change)

    def total(widths: Widths) -> float:
        axes = [np.array(layer.widths(widths), dtype=np.int64)[None] for layer in layers]
        return float(sum(models[layer.key].values(at)[0] for layer, at in zip(layers, axes, strict=True)))

    ratios = np.array([total(widths) / value for widths, value in networks_of(lut, plan)])
    scale = ratios.sum() / (ratios**2).sum()
    return lambda widths: total(widths) * scale


def lone_variants(lone: Lut, plan: Plan, layers: Sequence[Layer]) -> dict[str, Callable[[Widths], float]]:
    """What can be said from layers timed alone: their sum, scaled, and decision 6's offset and scale."""
    estimator = NetworkEstimator(lone, plan, layers)
    full = plan.full_widths()
    uncut = next(value for widths, value in networks_of(lone, plan) if widths == full)
    scale = uncut / estimator.raw(full)
    return {
        "sum of lone layers": estimator.raw,
        "sum of lone layers, scaled by the uncut network": lambda widths: estimator.raw(widths) * scale,
        "sum of lone layers, offset and scale (ADR 6)": lambda widths: estimator.estimate(widths).value,
    }


def variants(lut: Lut, lone: Lut | None, plan: Plan, layers: Sequence[Layer]) -> dict[str, Callable[[Widths], float]]:
    """Every estimator by name."""
    path = Path(lut.path or "")
    inside = part(path, contexts=[IN_NETWORK])
    found = {} if lone is None else lone_variants(lone, plan, layers)
    found["in networks: trend only"] = modelled(inside, plan, layers, NO_DEVIATION)
    found["in networks: trend and deviations, whole blocks not kept apart"] = modelled(inside, plan, layers, {"apart": 1.0})
    found["in networks: trend and deviations"] = modelled(inside, plan, layers)
    both = NetworkEstimator(lut, plan, layers)
    found["in networks and alone (what is used)"] = lambda widths: both.estimate(widths).value
    for count in range(9, len(lut.networks), 10):
        few = NetworkEstimator(part(path, contexts=[IN_NETWORK, ISOLATED], networks=count), plan, layers)
        if not few.missing() and few.in_context:
            found[f"as used, from the first {count} networks"] = lambda widths, few=few: few.estimate(widths).value  # type: ignore[misc]
    return found


def measure_lone(plan: Plan, lut: Lut, path: Path) -> Lut:
    """Profile every layer alone, as on a runtime that cannot say where a network's time went."""
    from netadapt_trt.profile.run import profile

    class Mute(type(load_backend(lut.identity.backend))):  # type: ignore[misc]
        def compile(self, model: bytes, options: Any) -> Any:
            exe = super().compile(model, options)
            exe.attribute = None  # no method any more: the protocol is not met
            return exe

    identity = lut.identity
    profile(plan, Mute(), path, precision=identity.precision, threads=identity.threads)
    return read_lut(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--lut", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--lone", type=Path)
    parser.add_argument("--measure-lone", action="store_true")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    plan, lut = load_plan(asked.plan), read_lut(asked.lut)
    layers = load_backend(lut.identity.backend).partition(plan)
    lone = None
    if asked.lone is not None:
        lone = measure_lone(plan, lut, asked.lone) if asked.measure_lone else read_lut(asked.lone)
    validation = json.loads(asked.validation.read_text(encoding="utf-8"))
    if validation["plan"] != plan_hash(plan):
        raise SystemExit(f"{asked.validation} is of another network than {asked.plan}")
    held = [
        (entry["widths"], entry["measured_ms"] / (entry["estimate_ms"] / entry["table_ms"]))
        for entry in validation["networks"]
    ]
    print(f"{'estimator':70} {'mean error':>10} {'worst':>7} {'mean ratio':>10}")
    result = {}
    for name, estimate in variants(lut, lone, plan, layers).items():
        ratios = np.array([estimate({**plan.full_widths(), **widths}) / value for widths, value in held])
        errors = np.abs(ratios - 1)
        result[name] = {"mape": float(errors.mean()), "worst": float(errors.max()), "mean_ratio": float(ratios.mean())}
        print(f"{name:70} {errors.mean():10.2%} {errors.max():7.1%} {ratios.mean():10.3f}")
    if asked.output:
        write_atomic(asked.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
