"""Does a search find what was planted? In each layer of a space one block, drawn by the seed, costs a tenth of the others.

    python tools/bench_planted.py --output out/planted [--space fbnet-cifar] [--seeds 10] [--data digits]

Real searches by the command line's own code (supernet, sampled paths, 80/20 split), one process for each of two at a time;
finished ones are not done again. Prints for each seed in how many layers the planted block was found.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from netadapt_trt.files import write_atomic
from netadapt_trt.space.store import load_space


def planted(seed: int, asked: argparse.Namespace) -> tuple[int, int]:
    """(layers in which the planted block was found, layers)."""
    from netadapt_trt.search.run import resume_search, search
    from netadapt_trt.search.settings import SearchSettings

    space, draw = load_space(asked.space), np.random.default_rng(seed)
    costs = draw.uniform(1.8, 2.2, (len(space.places), len(space.columns)))
    best = [int(draw.choice(place.candidates)) for place in space.places]
    costs[range(len(best)), best] = 0.2
    table, folder = asked.output / f"planted-{seed}.txt", asked.output / f"search-{seed}"
    write_atomic(table, "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in costs))  # seconds
    if not (folder / "result.json").is_file():
        settings = SearchSettings(
            space=asked.space,
            tables=(table,),
            data=asked.data,
            output=folder,
            paths="sampled",
            alpha=1.0,
            beta=1.0,
            epochs=asked.epochs,
            warmup_epochs=1,
            batch_size=64,
            theta_learning_rate=0.1,
            threads=1,
            tensorboard=False,
            seed=seed,
        )
        if folder.exists():
            resume_search(folder)
        else:
            search(settings)
    blocks = json.loads((folder / "result.json").read_text(encoding="utf-8"))["child"]["blocks"]
    found = sum(name == space.columns[column] for name, column in zip(blocks, best, strict=True))
    return found, len(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--space", default="fbnet-cifar")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(planted, seed, asked) for seed in range(asked.seeds)]
        for seed, job in enumerate(jobs):
            found, layers = job.result()
            print(f"seed {seed}: {found} of {layers} layers", flush=True)


if __name__ == "__main__":
    main()
