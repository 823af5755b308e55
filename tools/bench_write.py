"""How long writing a candidate, making a plan and asking for help take.

    python tools/bench_write.py [--model torchvision:mobilenet_v2] [--input 1x3x224x224] [--repeats 5]

Every distinct layer of the network is written at random widths; ``plan`` and ``--help`` are whole processes. Medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from netadapt_trt.backend import load_backend
from netadapt_trt.plan.store import load_plan
from netadapt_trt.plan.write import write_layer

if TYPE_CHECKING:
    from netadapt_trt.plan.schema import Plan

COMMAND = [sys.executable, "-m", "netadapt_trt"]


def command_s(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def write_ms(plan: Plan, repeats: int) -> list[float]:
    """Milliseconds of each write, the first of every layer left out: it makes the fragment, which is kept."""
    backend, draw = load_backend("ort"), random.Random(0)
    opset, ir_version = backend.opset()
    times = []
    for layer in {layer.key: layer for layer in backend.partition(plan)}.values():
        full = layer.widths(plan.full_widths())
        for repeat in range(repeats + 1):
            widths = tuple(draw.randint(1, size) for size in full)
            begin = time.perf_counter_ns()
            write_layer(plan, layer, widths, opset=opset, ir_version=ir_version)
            if repeat:
                times.append((time.perf_counter_ns() - begin) * 1e-6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="torchvision:mobilenet_v2")
    parser.add_argument("--input", default="1x3x224x224")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "plan.json"
        plans = [
            command_s("plan", arguments.model, "--input", arguments.input, "-o", str(path)) for _ in range(arguments.repeats)
        ]
        writes = write_ms(load_plan(path), 4 * arguments.repeats)
    helps = [command_s("--help") for _ in range(2 * arguments.repeats)]
    print(f"| what ({arguments.model}, {arguments.input}) | median | worst | asked |\n|---|---|---|---|")
    print(f"| writing one candidate ONNX | {statistics.median(writes):.2f} ms | {max(writes):.2f} ms | under 1 ms |")
    print(f"| `plan`, whole process | {statistics.median(plans):.1f} s | {max(plans):.1f} s | under 15 s |")
    print(f"| `--help`, whole process | {statistics.median(helps):.2f} s | {max(helps):.2f} s | under 0.5 s |")


if __name__ == "__main__":
    main()
