"""Does a search find what was planted in cost? In each layer one block, drawn by the seed, costs a tenth of the others.

    python tools/bench_planted.py --output out/planted [--space fbnet-cifar] [--seeds 10] [--data digits] [--alpha 1]

What is planted is cost alone: the loss is CE + alpha * LAT, a layer takes about 2 s, 0.2 s with the planted block. With
alpha 1 and the 22 layers of fbnet-cifar LAT begins near 40 and CE near 2.3, so accuracy hardly has a say: to find everything
here is to find what is cheap, not to weigh cost against accuracy. With --alpha 0.05 both begin about equal.

Real searches by the command line's own code (supernet, sampled paths, 80/20 split), one process for each of two at a time;
finished ones are not done again. Prints for each seed in how many layers the planted block was found, and in the last line
in how many seeds that was all of them.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.search.settings import SearchSettings
from netadapt_trt.space.store import load_space

BETA = 1.0
OTHERS_S, PLANTED_S = (1.8, 2.2), 0.2
"""What a layer costs, in seconds."""


def settings_of(seed: int, asked: argparse.Namespace) -> SearchSettings:
    return SearchSettings(
        space=asked.space,
        tables=(asked.output / f"planted-{seed}.txt",),
        data=asked.data,
        output=asked.output / f"search-{seed}",
        paths="sampled",
        alpha=asked.alpha,
        beta=BETA,
        epochs=asked.epochs,
        warmup_epochs=1,
        batch_size=64,
        theta_learning_rate=0.1,
        threads=1,
        tensorboard=False,
        seed=seed,
    )


def refuse_others(settings: SearchSettings) -> None:
    """Raise SpecError where the directory holds a search of other settings, whose result would be taken for this one's."""
    run = settings.output / "run.json"
    if not run.is_file():
        return
    arguments, asked = json.loads(run.read_text(encoding="utf-8"))["arguments"], settings.to_json()
    for name in ("space", "data", "epochs", "alpha", "beta"):
        if arguments[name] != asked[name]:
            raise SpecError(
                f"{settings.output} was made with {name} {arguments[name]}, now it is {asked[name]}; name another --output"
            )


def planted(seed: int, asked: argparse.Namespace) -> tuple[int, int]:
    """(layers in which the planted block was found, layers)."""
    from netadapt_trt.search.run import resume_search, search

    space, draw, settings = load_space(asked.space), np.random.default_rng(seed), settings_of(seed, asked)
    costs = draw.uniform(*OTHERS_S, (len(space.places), len(space.columns)))
    best = [int(draw.choice(place.candidates)) for place in space.places]
    costs[range(len(best)), best] = PLANTED_S
    rows = "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in costs)
    write_atomic(settings.tables[0], rows)
    folder = settings.output
    if not (folder / "result.json").is_file():
        if (folder / "run.json").is_file():
            resume_search(folder)
        else:
            search(settings)
    blocks = json.loads((folder / "result.json").read_text(encoding="utf-8"))["child"]["blocks"]
    found = sum(name == space.columns[column] for name, column in zip(blocks, best, strict=True))
    return found, len(best)


def compare(asked: argparse.Namespace) -> None:
    """All searches. Raises NetadaptError for what makes no sense, before the first."""
    load_space(asked.space)
    for seed in range(asked.seeds):
        refuse_others(settings_of(seed, asked))
    asked.output.mkdir(parents=True, exist_ok=True)
    print(
        f"planted in cost: CE + {asked.alpha:g} * LAT^{BETA:g}, a layer takes {OTHERS_S[0]:g} to {OTHERS_S[1]:g} s, "
        f"{PLANTED_S:g} s with the planted block",
        flush=True,
    )
    complete = 0
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(planted, seed, asked) for seed in range(asked.seeds)]
        for seed, job in enumerate(jobs):
            found, layers = job.result()
            complete += found == layers
            print(f"seed {seed}: {found} of {layers} layers", flush=True)
    print(f"all layers in {complete} of {asked.seeds} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--space", default="fbnet-cifar")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--alpha", type=float, default=1.0, help="factor of the latency in seconds (default 1)")
    try:
        compare(parser.parse_args())
    except NetadaptError as error:
        raise SystemExit(f"bench_planted: {error}") from error


if __name__ == "__main__":
    main()
