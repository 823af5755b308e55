"""How well tables tell whole networks, over several networks: profile each into a fresh LUT, then validate it.

    python tools/bench_fidelity.py --output out/fidelity [--backend ort] [--threads 2] [--networks 25] [NETWORK ...]

A NETWORK is a model name with its factory's arguments behind commas: ``zoo:mobilenet_v1,width=0.25,stem=cifar``. Profile and
validation are the command line's own, with its defaults, each in a process of its own. Each network leaves its LUT, its
validation (for `netadapt-trt report`) and RESULT.json in the output folder; networks whose RESULT.json is there are not done
again, so a session that is cut goes on with the next network. table.md holds all of them. One that was cut in the middle is
begun anew, because its table's seconds would else be those of its last part.

"Cells of the full grid" is what a table of every layer at every width would take: per layer key, all settings of its widths
at the granularity.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import backend_names, load_backend
from netadapt_trt.files import write_atomic, write_document
from netadapt_trt.lut.store import read_lut
from netadapt_trt.plan.store import load_plan
from netadapt_trt.profile.grid import full_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

NETWORKS = (
    "zoo:mobilenet_v1",
    "torchvision:mobilenet_v2",
    "torchvision:resnet18",
    "torchvision:alexnet",
    "torchvision:efficientnet_b0",
)
FORMAT, VERSION = "netadapt-fidelity", 1
COLUMNS = (
    ("mean error", "mape"),
    ("with drift left in", "mape_without_drift_correction"),
    ("measurement against itself", "repeatability_mape"),
    ("within 10 %", "within_10pct"),
    ("within 3 x noise", "within_3x_repeatability"),
    ("within 1 sigma", "within_1_sigma"),
    ("sum of layers alone", "isolated_sum_mape"),
)


def command(*words: object) -> Any:
    """The JSON document of a verb; its progress goes on to this program's stderr. Ends the program where the verb fails."""
    line = [sys.executable, "-m", "netadapt_trt", *(str(word) for word in words), "--json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"netadapt-trt {' '.join(str(word) for word in words)} ended with {done.returncode}")
    return json.loads(done.stdout)


def take(network: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Profile and validate one network; what its RESULT.json holds."""
    model, *arguments = network.split(",")
    stem = asked.output / slug(network, asked)
    plan, lut = stem.with_suffix(".plan.json"), stem.with_suffix(".lut.jsonl")
    lut.unlink(missing_ok=True)
    named = [word for argument in arguments for word in ("--model-arg", argument)]
    command("plan", model, *named, "--input", asked.input, "-o", plan)
    threads = ["--threads", asked.threads] if asked.threads else []
    begun = time.monotonic()
    profiled = command(
        *("profile", plan, "--backend", asked.backend, "--precision", asked.precision, "--lut", lut),
        *("--power", "none", *threads),
    )
    middle = time.monotonic()
    more = ["--time-limit", asked.time_limit] if asked.time_limit else []
    validated = command(
        *("lut", "validate", lut, "--plan", plan, "--networks", asked.networks, "--seed", asked.seed),
        *("-o", stem.with_suffix(".validation.json"), *more),
    )
    ended = time.monotonic()
    loaded = load_plan(plan)
    grid = full_grid(loaded, load_backend(asked.backend).partition(loaded))
    # A layer that was seen inside networks and timed alone at one setting is one cell of the grid.
    table = read_lut(lut)
    cells = len({(cell.layer, cell.widths) for cell in table.cells})
    mapped = [share for line in table.networks if isinstance(share := line.details.get("mapped_share"), float)]
    return {
        "network": network,
        "input": asked.input,
        "cells": cells,
        "full_grid_cells": grid,
        "share_of_full_grid": cells / grid,
        "mapped_share": min(mapped) if mapped else None,
        "profile_seconds": middle - begun,
        "validate_seconds": ended - middle,
        "profile": profiled,
        "validation": validated,
    }


def slug(network: str, asked: argparse.Namespace) -> str:
    """A file name for what distinguishes results in one folder. No dot in it: suffixes are put behind."""
    words = [network.partition(":")[2] or network, asked.input, asked.backend, asked.precision]
    return re.sub(r"[^A-Za-z0-9_=-]+", "-", "-".join([*words, *([f"t{asked.threads}"] if asked.threads else [])]))


def row(result: dict[str, Any]) -> str:
    figures = result["validation"]
    identity, order, drift = figures["identity"], figures["spearman"], figures["drift"]
    shares = [*(figures.get(key) for _, key in COLUMNS), result["profile"]["held_out_error"], result.get("mapped_share")]
    cells = [
        result["network"],
        result["input"],
        f"{identity['backend']} {identity['precision']}, {identity['threads']} threads",
        str(len(figures["networks"])),
        *("-" if share is None else f"{100 * share:.1f} %" for share in shares),
        "-" if order is None else f"{order:.3f}",
        "-" if drift is None else f"{drift:.3f}",
        str(result["cells"]),
        f"{100 * result['share_of_full_grid']:.2f} % of {result['full_grid_cells']}",
        f"{result['profile_seconds']:.0f}",
        f"{result['validate_seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table of all results."""
    names = [
        "network",
        "input",
        "runtime",
        "held-out networks",
        *(name for name, _ in COLUMNS),
        "held-out error",
        "told by layer",
    ]
    names += ["rank correlation", "drift", "cells", "of the full grid", "profile s", "validate s"]
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return "\n".join([head, *(row(result) for result in results)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NETWORK", default=list(NETWORKS))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backend", default="ort", choices=backend_names())
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--threads", type=int, help="default: the backend's")
    parser.add_argument("--input", default="1x3x224x224")
    parser.add_argument("--networks", type=int, default=25, help="held-out networks of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time-limit", help="of each validation, such as 10m")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    for network in asked.models:
        kept = asked.output / f"{slug(network, asked)}.result.json"
        if kept.is_file():
            print(f"{network}: done before, {kept}")
            continue
        write_document(kept, format=FORMAT, version=VERSION, content=take(network, asked))
        results = [json.loads(path.read_text()) for path in sorted(asked.output.glob("*.result.json"))]
        write_atomic(asked.output / "table.md", markdown(results))
    print((asked.output / "table.md").read_text())


if __name__ == "__main__":
    main()
