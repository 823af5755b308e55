"""One step of a search's weights, with all paths and with sampled ones: seconds and peak memory.

Each way runs in processes of its own, in turn, so that neither warms or crowds the other; memory is the process's highest
resident size (VmHWM), and what of that lies above the same process before its first step.

    python tools/bench_search_step.py --space fbnet-cifar --batch-size 256 --rounds 3 --steps 5 -o docs/results/data/search-step.json
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def peak_bytes() -> int:
    """Highest resident size of this process so far. Not ru_maxrss, which a child inherits from the process that began it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(space_name: str, paths: Any, batch_size: int, steps: int, threads: int, seed: int) -> dict[str, Any]:
    """In this process. The first step of each way is left out of the times: it allocates."""
    import torch

    from netadapt_trt.search.steps import generator_of, step_weights
    from netadapt_trt.search.supernet import Supernet
    from netadapt_trt.search.theta import Theta
    from netadapt_trt.space.store import load_space

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    space = load_space(space_name)
    supernet = Supernet(space, space.num_classes, nested=paths == "sampled")
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    theta = Theta(space)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch_size, *space.input_shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, space.num_classes, (batch_size,))
    before, seconds = peak_bytes(), []
    for step in range(steps + 1):
        started = time.perf_counter_ns()
        step_weights(
            supernet, theta, optimizer, (images, labels), paths=paths, temperature=5.0,
            generator=generator_of(seed, step), gradient_clip=5.0,
        )  # fmt: skip
        seconds.append((time.perf_counter_ns() - started) / 1e9)
    return {"paths": paths, "seconds": seconds[1:], "peak_bytes": peak_bytes(), "before_bytes": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="fbnet-cifar")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--one", choices=("all", "sampled"), help="measure in this process and print JSON")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.space, given.one, given.batch_size, given.steps, given.threads, given.seed)))
        return
    rows: list[dict[str, Any]] = []
    for number in range(given.rounds):
        for paths in ("all", "sampled"):
            words = ["--space", given.space, "--batch-size", given.batch_size, "--steps", given.steps]
            words += ["--threads", given.threads, "--seed", number, "--one", paths]
            command = [sys.executable, __file__, *map(str, words)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
            print(f"round {number + 1}, {paths}: {statistics.median(rows[-1]['seconds']):.3f} s a step, "
                  f"peak {rows[-1]['peak_bytes'] / 2**20:.0f} MiB", file=sys.stderr)  # fmt: skip
    result = summary(rows)
    print(json.dumps(result, indent=1))
    if given.output is not None:
        settings = {name: getattr(given, name) for name in ("space", "batch_size", "rounds", "steps", "threads")}
        given.output.write_text(json.dumps({**settings, **result, "rows": rows}, indent=1) + "\n")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median step of each way, highest peak, and how they compare."""
    found: dict[str, Any] = {}
    for paths in ("all", "sampled"):
        mine = [row for row in rows if row["paths"] == paths]
        found[paths] = {
            "step_seconds": statistics.median(second for row in mine for second in row["seconds"]),
            "peak_bytes": max(row["peak_bytes"] for row in mine),
            "step_bytes": max(row["peak_bytes"] - row["before_bytes"] for row in mine),
        }
    every, one = found["all"], found["sampled"]
    found["times_faster"] = every["step_seconds"] / one["step_seconds"]
    found["share_of_peak"] = one["peak_bytes"] / every["peak_bytes"]
    found["share_of_step_memory"] = one["step_bytes"] / every["step_bytes"]
    return found


if __name__ == "__main__":
    main()
