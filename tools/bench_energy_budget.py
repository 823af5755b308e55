"""An energy budget against the latency budget of equal cost, on the fake device, whose power depends on the layer.

    python tools/bench_energy_budget.py [--ratio 0.7] [--seed 0]

MobileNetV1 at width 0.5 on the embedded digits, trained first, is adapted to ``energy=RATIO`` and then to the latency that
this network came to. The fake device draws 5 W where it computes and 3 W where it waits for memory; on it nothing is timed,
so that the figures are exactly repeatable. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from netadapt_trt import (
    AdaptSettings,
    ModelSpec,
    adapt_network,
    load_backend,
    make_plan,
    open_data,
    open_network,
    parse_budget,
    profile_plan,
    train_network,
)
from netadapt_trt.cli.progress import progress_for
from netadapt_trt.training.fine_tune import FineTune

if TYPE_CHECKING:
    from netadapt_trt.progress import Progress


def prepare(folder: Path, budget: str, seed: int, progress: Progress) -> AdaptSettings:
    """Seed weights and a table; the settings of a run with ``budget``."""
    arguments = {"width": "0.5", "stem": "cifar", "num_classes": "10"}
    spec = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args=arguments)
    weights = folder / "seed.safetensors"
    data = open_data("digits", input_shape=spec.input_shape)
    training = FineTune(epochs=5, batch_size=64, learning_rate=0.05, schedule="cosine", seed=seed)
    train_network(spec, None, data, training, weights, progress=progress)
    profile_plan(make_plan(open_network(spec)), load_backend("fake"), folder / "fake.lut.jsonl", progress=progress)
    return AdaptSettings(
        spec=spec,
        data="digits",
        budgets=(parse_budget(budget),),
        output=folder,
        weights=str(weights),
        lut=folder / "fake.lut.jsonl",
        short_steps=6,
        batch_size=64,
        long_epochs=2,
        reduction=0.06,
        seed=seed,
        uniform=False,
        tensorboard=False,
    )


def adapted(settings: AdaptSettings, budget: str, progress: Progress) -> dict[str, Any]:
    output = settings.output / budget.partition("=")[0]
    result = adapt_network(replace(settings, output=output, budgets=(parse_budget(budget),)), progress=progress)
    return result.to_json()


def row(budget: str, result: dict[str, Any]) -> str:
    initial, network = result["initial"], result["adapted"]
    values = [
        f"{network[key]['measured']:.4g} ({network[key]['measured'] / initial[key]['measured']:.3f})"
        for key in ("latency_ms", "energy_mj")
    ]
    power = network["energy_mj"]["measured"] / network["latency_ms"]["measured"]
    widths = " ".join(str(width) for width in network["widths"].values())
    reached = "yes" if result["reached"] else "no"
    accuracy = f"{100 * network['accuracy']:.1f} %"
    cells = [f"`{budget}`", reached, *values, f"{power:.3f}", accuracy, str(result["iterations"]), widths]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    progress = progress_for(Console(stderr=True))
    with tempfile.TemporaryDirectory() as directory:
        budget = f"energy={arguments.ratio:g}x"
        settings = prepare(Path(directory), budget, arguments.seed, progress)
        energy = adapted(settings, budget, progress)
        share = energy["adapted"]["latency_ms"]["measured"] / energy["initial"]["latency_ms"]["measured"]
        same = f"latency={share:.4f}x"
        latency = adapted(settings, same, progress)
    print("| budget | reached | ms (of initial) | mJ (of initial) | average W | accuracy | steps | widths |")
    print("|---|---|---|---|---|---|---|---|")
    print(row(budget, energy))
    print(row(same, latency))
    different = sum(width != latency["adapted"]["widths"][group] for group, width in energy["adapted"]["widths"].items())
    print(f"\n{different} of {len(energy['adapted']['widths'])} groups have another width.")


if __name__ == "__main__":
    main()
