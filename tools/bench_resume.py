"""Kill a run at random moments, resume it each time, and compare what it decided with a run that was left alone.

    python tools/bench_resume.py --kills 20 --workers 1 2

A tiny network on the embedded digits, on the fake backend. Each worker count runs once undisturbed and once killed with
SIGKILL, each time after a random number of new lines in its history and a random delay; decisions, widths and measured
values of all runs must be equal. Prints one JSON document.
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
        unit(1, 64, 1), unit(64, 96, 2), unit(96, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )
"""


def prepare(folder: Path) -> dict[str, Any]:
    """A network, its plan profiled on the fake backend, weights; returns the settings of a run without its output."""
    from netadapt_trt.adapt.settings import AdaptSettings
    from netadapt_trt.backend import load_backend
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan
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
        budgets=(parse_budget("latency=0.5x"), parse_budget("params=0.5x")),
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


def start(arguments: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--work", str(arguments)], env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(arguments: Path) -> float:
    """Let the run go to its end; returns the seconds it took."""
    started = time.monotonic()
    status = start(arguments).wait()
    if status != 0:
        raise SystemExit(f"the run of {arguments} ended with status {status}")
    return time.monotonic() - started


def lines_of(arguments: Path) -> int:
    """Whole lines in the history of a run; 0 where it has not begun."""
    path = arguments.with_suffix("") / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def kill_often(arguments: Path, moments: list[tuple[int, float]]) -> int:
    """Start or resume the run once for each moment and kill it there; returns the kills that hit a run under way.

    A moment is so many new lines of the history and then so many seconds: how fast the machine is today does not matter.
    """
    hit = 0
    for lines, delay in moments:
        before = lines_of(arguments)
        process = start(arguments)
        while process.poll() is None and lines_of(arguments) < before + lines:
            time.sleep(0.005)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hit += 1
    return hit


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


def describe(folder: Path, settings: dict[str, Any], name: str, workers: int) -> Path:
    """Write down the arguments of one run; its directory has the same name."""
    arguments = folder / f"{name}.json"
    arguments.write_text(json.dumps({**settings, "output": str(arguments.with_suffix("")), "workers": workers}))
    return arguments


def outcome(arguments: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the run decided and what it came to."""
    return decisions(arguments.with_suffix("")), final(arguments.with_suffix(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="leave one worker alone, kill two: half the time, for the tests"
    )
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
        for workers in [1] if options.quick else options.workers:
            draw = random.Random(options.seed + workers)
            quiet, killed = (describe(folder, settings, f"workers{workers}-{kind}", workers) for kind in ("quiet", "killed"))
            whole = finish(quiet)
            # Late enough to get somewhere, early enough that all kills find the run under way.
            lines = lines_of(quiet)
            reach = max(1, lines // (options.kills + 1))
            moments = [(draw.randint(1, reach), draw.uniform(0, whole / lines)) for _ in range(options.kills)]
            found.append(outcome(quiet))
            if options.quick:
                killed = describe(folder, settings, "quick-killed", 3 - workers)
            hit = kill_often(killed, moments)
            finish(killed)
            found.append(outcome(killed))
            rows.append(
                {"workers": workers, "kills": hit, "iterations": len(found[-1][0]), "undisturbed_s": round(whole, 1)}
            )
        same = all(entry == found[0] for entry in found)
        print(json.dumps({"same": same, "runs": rows, "final": found[0][1]}, indent=1))
        if not same:
            raise SystemExit("the runs differ")


if __name__ == "__main__":
    main()
