"""Does the search find better children than chance? Children of several seeds against random ones of equal latency.

    python tools/bench_search.py --output out/search --data imagefolder:DATA [--space fbnet-small] [--seeds 1 2 3]

Measures the space's blocks with `search profile`, runs `search run --latency-target` once for each seed, and draws for each
child RANDOM others whose estimated latency is within one per cent of it. All are trained with the same settings and the same
training seed, then timed turn by turn with networks of the table among them, which tell the machine's drift. Everything is
kept in OUTPUT: a run that was cut goes on. Prints a Markdown table, also written to OUTPUT/table.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.files import write_atomic
from netadapt_trt.lut.store import read_lut
from netadapt_trt.plan.store import plan_hash
from netadapt_trt.space.children import arrangement
from netadapt_trt.space.plan import child_plan, names_of
from netadapt_trt.space.store import load_space
from netadapt_trt.space.table import read_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.space.table import SpaceTable

_EQUAL = 0.01
_ANCHORS = 4
Columns = tuple[int, ...]


def run(*words: object) -> None:
    """One verb of the command line, with its progress."""
    print("netadapt-trt", *words, flush=True)
    subprocess.run([sys.executable, "-m", "netadapt_trt", *map(str, words)], check=True)


def search(seed: int, target_ms: float, lut: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """What the search with this seed ends with."""
    folder = asked.output / f"search-{seed}"
    if not (folder / "result.json").is_file():
        words = (
            *("--space", asked.space, "--table", lut, "--data", asked.data, "--latency-target", f"{target_ms:.6g}ms"),
            *("--paths", "sampled", "--epochs", asked.epochs, "--warmup-epochs", asked.warmup, "--batch-size", asked.batch),
            *("--learning-rate", asked.rate, "--theta-learning-rate", asked.theta_rate),
            *("--threads", 1, "--seed", seed, "--no-tensorboard"),
        )
        run("search", "run", *(("--resume", folder) if folder.exists() else (*words, "-o", folder)))
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def random_equals(table: SpaceTable, child: Columns, count: int, seed: int) -> list[Columns]:
    """``count`` different children whose estimate is within one per cent of that of ``child``, uniformly drawn."""
    draw, wanted = np.random.default_rng(seed), table.latency(child)
    found: dict[Columns, None] = {}
    for _ in range(1_000_000):
        columns = tuple(int(draw.choice(place.candidates)) for place in table.space.places)
        if columns != child and abs(table.latency(columns) / wanted - 1) <= _EQUAL:
            found.setdefault(columns)
        if len(found) == count:
            return list(found)
    raise SystemExit(f"only {len(found)} random children are as fast as {child}")


def train(space: str, data: str, columns: Columns, folder: Path, epochs: float, batch: int) -> float:
    """Accuracy on the test set of the child ``columns``; one thread, so that two trainings fit on two cores."""
    import torch

    from netadapt_trt.spec import ModelSpec
    from netadapt_trt.training.data import open_data
    from netadapt_trt.training.fine_tune import FineTune
    from netadapt_trt.training.seed_network import train_network

    torch.set_num_threads(1)
    loaded = load_space(space)
    output = folder / f"{'-'.join(map(str, columns))}.safetensors"
    record = output.with_suffix(".json")
    if not record.is_file():
        shape = (1, *loaded.input_shape)
        spec = ModelSpec(
            model="zoo:block_network",
            input_shape=shape,
            args={"space": space, "blocks": "+".join(names_of(loaded, columns))},
        )
        images = open_data(data, input_shape=shape)
        settings = FineTune(epochs=epochs, batch_size=batch, learning_rate=0.1, schedule="cosine", warmup_steps=100, seed=1)
        train_network(spec, None, images, settings, output)
    return float(json.loads(record.read_text(encoding="utf-8"))["accuracy"])


def measure(table: SpaceTable, lut: Path, children: Sequence[Columns], rounds: int) -> tuple[list[float], float]:
    """(measured over estimated latency of each child, drift of the machine, which has been taken out)."""
    from netadapt_trt.search.sweep_measure import measure_children

    space, known = table.space, read_lut(lut)
    anchors: list[Columns] = []
    then: list[float] = []
    for columns in arrangement(space, 0):
        line = known.network(plan_hash(child_plan(space, names_of(space, columns))), {})
        if line is not None and line.latency_ms is not None and len(anchors) < _ANCHORS:
            anchors.append(columns)
            then.append(line.latency_ms.median)
    names = [names_of(space, columns) for columns in (*anchors, *children)]
    _, found = measure_children(space, names, backend="ort", threads=1, rounds=rounds, round_ms=80.0)
    now = [entry["latency_ms"]["median"] for entry in found]
    drift = geometric_mean([after / before for after, before in zip(now, then, strict=False)])
    return [
        value / drift / table.latency(columns) for value, columns in zip(now[len(anchors) :], children, strict=True)
    ], drift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--space", default="fbnet-small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--random", type=int, default=10, help="random children of each seed")
    parser.add_argument("--target", type=float, default=0.8, help="of the expected latency of the undecided space")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate of the weights")
    parser.add_argument("--theta-rate", type=float, default=0.02)
    parser.add_argument("--child-epochs", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2, help="searches and trainings at once, each on one thread")
    parser.add_argument(
        "--measure-later", action="store_true", help="stop before the children are timed; call again when all is quiet"
    )
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    lut, space = asked.output / "space.lut.jsonl", load_space(asked.space)
    run("search", "profile", asked.space, "--backend", "ort", "--threads", 1, "--lut", lut)
    table = read_tables(space, [lut])
    target_ms = asked.target * table.expected_latency(table.uniform())
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(search, seed, target_ms, lut, asked) for seed in asked.seeds]
        searches = [job.result() for job in running]
        groups: list[list[Columns]] = []
        for seed, result in zip(asked.seeds, searches, strict=True):
            own = tuple(space.columns.index(name) for name in result["child"]["blocks"])
            groups.append([own, *random_equals(table, own, asked.random, seed)])
        every = list(dict.fromkeys(columns for group in groups for columns in group))
        same = (asked.space, asked.data), (asked.output / "trained", asked.child_epochs, asked.batch)
        (asked.output / "trained").mkdir(exist_ok=True)
        jobs = [pool.submit(train, *same[0], columns, *same[1]) for columns in every]
        accuracy = dict(zip(every, (job.result() for job in jobs), strict=True))
    if asked.measure_later:
        return
    ratios, drift = measure(table, lut, every, asked.rounds)
    ratio = dict(zip(every, ratios, strict=True))
    lines = [
        "| search seed | minutes | child | accuracy | random children | beaten | estimate ms | measured / estimate |",
        "|---" * 8 + "|",
    ]
    for seed, result, (own, *others) in zip(asked.seeds, searches, groups, strict=True):
        scores = sorted(accuracy[columns] for columns in others)
        beaten = sum(score < accuracy[own] for score in scores)
        told = f"{scores[0]:.2%} to {scores[-1]:.2%}, median {float(np.median(scores)):.2%}"
        names = " ".join(names_of(space, own))
        lines.append(
            f"| {seed} | {result['seconds'] / 60:.1f} | {names} | {accuracy[own]:.2%} | {told} | {beaten} of {len(scores)} "
            f"| {table.latency(own):.4f} | {ratio[own]:.3f} |"
        )
    off = np.abs(1 / np.array(ratios) - 1)
    errors = f"{off.mean():.1%} on average, {off.max():.1%} at most"
    lines.append(f"\nEstimates of all {len(every)} children are off by {errors}; drift {drift:.3f} taken out.")
    write_atomic(asked.output / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
