"""Kill a run at random moments, resume it each time, and compare what it decided with a run that was left alone.

    python tools/bench_resume.py --kills 20 --workers 1 2

A tiny network on the embedded digits, on the fake backend. Each worker count runs once undisturbed and once killed with
SIGKILL after random delays; decisions, widths and measured values of all runs must be equal. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FACTORY = """
from torch import nn

def network():
    def unit(inputs, outputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(
        unit(1, 32, 1), unit(32, 48, 2), unit(48, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )
"""


def prepare(folder: Path) -> dict[str, Any]:
    """A network, its plan profiled on the fake backend, weights; returns the settings of a run without its output."""
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan

    from netadapt_trt.adapt.settings import AdaptSettings
    from netadapt_trt.backend import load_backend
    from netadapt_trt.profile.run import profile
    from netadapt_trt.spec import ModelSpec, parse_budget
    from netadapt_trt.zoo.weights import save_weights

    factory = folder / "tiny.py"
    factory.write_text(FACTORY)
    spec = ModelSpec(model=f"{factory}:network", input_shape=(1, 1, 8, 8))
    network = open_network(spec)
    save_weights(network.model, folder / "seed.safetensors")
    profile(make_plan(network), load_backend("fake"), folder / "fake.lut.jsonl")
    settings = AdaptSettings(
        spec=spec,
        data="digits",
        budgets=(parse_budget("latency=0.75x"), parse_budget("params=0.6x")),
        output=folder / "none",
        weights=str(folder / "seed.safetensors"),
        lut=folder / "fake.lut.jsonl",
        short_steps=10,
        batch_size=64,
        long_epochs=1.0,
        threads_per_worker=1,
        tensorboard=False,
    )
    return settings.to_json()


def work(arguments: Path) -> None:
    """One process of a run: start it, or resume it where it has begun."""
    from netadapt_trt.adapt.run import adapt, resume
    from netadapt_trt.adapt.settings import AdaptSettings

    settings = AdaptSettings.from_json(json.loads(arguments.read_text()))
    if (settings.output / "run.json").is_file():
        resume(settings.output)
    else:
        adapt(settings)


def run(settings: dict[str, Any], output: Path, *, workers: int, kills: int, seed: int) -> tuple[int, float]:
    """Run to the end with at most ``kills`` kills; returns the kills that hit and the seconds it took."""
    arguments = output.with_suffix(".json")
    arguments.write_text(json.dumps({**settings, "output": str(output), "workers": workers}))
    draw = random.Random(seed)
    hit, started = 0, time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while True:
        process = subprocess.Popen([sys.executable, __file__, "--work", str(arguments)], env=environment)
        try:
            status = process.wait(timeout=draw.uniform(4.0, 12.0) if hit < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hit += 1
            continue
        if status != 0:
            raise SystemExit(f"the run in {output} ended with status {status}")
        return hit, time.monotonic() - started


def decisions(output: Path) -> list[dict[str, Any]]:
    """What a run decided, without how long it took."""
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()[1:]]
    kept = ("iteration", "group", "widths", "targets", "resources", "accuracy")
    return [{key: line[key] for key in kept} for line in lines if line["type"] == "decision"]


def final(output: Path) -> dict[str, Any]:
    """What a run came to."""
    result = json.loads((output / "result.json").read_text())
    return {
        name: {"accuracy": result[name]["accuracy"], "widths": result[name]["widths"]} for name in ("adapted", "uniform")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new directory to leave the runs in")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        settings = prepare(folder)
        rows, found = [], []
        for workers in options.workers:
            for kills in dict.fromkeys([0, options.kills]):
                output = folder / f"workers{workers}-kills{kills}"
                hit, seconds = run(settings, output, workers=workers, kills=kills, seed=options.seed + workers)
                found.append((decisions(output), final(output)))
                rows.append(
                    {"workers": workers, "kills": hit, "seconds": round(seconds, 1), "iterations": len(found[-1][0])}
                )
        same = all(entry == found[0] for entry in found)
        print(json.dumps({"same": same, "runs": rows, "final": found[0][1]}, indent=1))
        if not same:
            raise SystemExit("the runs differ")


if __name__ == "__main__":
    main()
