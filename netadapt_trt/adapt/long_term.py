"""Training to convergence, once the budget is met: the adapted network, and the uniform one for comparison.

The same seeds, data and optimiser for both. Each repetition is checkpointed while it runs and written down when it is done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from netadapt_trt.adapt.proposal import cut_network, derive_seed, open_data_set, open_splits, stored_network
from netadapt_trt.training.tensorboard_log import tensorboard_log

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.adapt.ground import Ground
    from netadapt_trt.adapt.resources import Widths
    from netadapt_trt.adapt.state import Record, RunDirectory
    from netadapt_trt.progress import Progress

__all__ = ["long_term", "train_uniform_start"]


def train_uniform_start(ground: Ground, run: RunDirectory, widths: Widths, iterations: int, progress: Progress) -> Path:
    """Cut the seed network to ``widths`` and train it as long as the winners' path was trained: iterations x short steps.

    Returns the directory that holds it. Same seed weights, importance, data and optimiser as the adapted network.
    """
    from netadapt_trt.graph.network import save_network
    from netadapt_trt.training.fine_tune import fine_tune

    output = run.path / "uniform-start"
    if run.history.of("uniform_start", iteration=iterations) and (output / "network.json").is_file():
        return output
    started = time.perf_counter_ns()
    seed = derive_seed(ground.settings.seed, "uniform")
    training = ground.settings.short_term(seed=seed, rounds=iterations, device=ground.devices[0])
    fit, _ = open_splits(ground.data)
    network = cut_network(stored_network(run.iteration(0)), widths, ground.settings.importance, fit, training)
    checkpoint = run.path / "checkpoints" / f"uniform-start-{iterations:03d}.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    with _log(ground, run, "uniform-start") as log:
        fine_tune(network.model, fit, training, progress=progress, log=log, checkpoint=checkpoint)
    save_network(network, output)
    seconds = round((time.perf_counter_ns() - started) / 1e9, 3)
    run.history.append("uniform_start", iteration=iterations, widths=widths, seconds={"fine_tune": seconds})
    checkpoint.unlink(missing_ok=True)
    return output


def long_term(ground: Ground, run: RunDirectory, name: str, start: Path, iteration: int, progress: Progress) -> list[Record]:
    """Train the network in ``start`` to convergence with every seed; the first seed's network is kept as ``run/name``.

    What the history has already is not trained again. Returns the ``long_term`` lines, by seed.
    """
    for seed in range(ground.settings.long_seeds):
        if not run.history.of("long_term", network=name, seed=seed, iteration=iteration):
            _one(ground, run, name, start, iteration, seed, progress)
    records = [
        run.history.of("long_term", network=name, seed=s, iteration=iteration) for s in range(ground.settings.long_seeds)
    ]
    return [found[-1] for found in records]


def _one(ground: Ground, run: RunDirectory, name: str, start: Path, iteration: int, seed: int, progress: Progress) -> None:
    from netadapt_trt.graph.network import load_network, save_network
    from netadapt_trt.training.evaluate import evaluate
    from netadapt_trt.training.fine_tune import fine_tune

    data = open_data_set(ground.data)
    network = load_network(start)
    training = ground.settings.long_term(seed=derive_seed(ground.settings.seed, "long term", seed), device=ground.devices[0])
    checkpoint = run.path / "checkpoints" / f"{name}-{iteration:03d}-{seed}.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    started = time.perf_counter_ns()
    progress.notice(f"long-term fine-tuning: {name}, seed {seed + 1} of {ground.settings.long_seeds}")
    with _log(ground, run, f"{name}-{seed}") as log:
        fine_tune(network.model, data.train, training, progress=progress, log=log, checkpoint=checkpoint)
    tuned = time.perf_counter_ns()
    accuracy = evaluate(network.model, data.test, device=ground.devices[0])
    evaluated = time.perf_counter_ns()
    facts: dict[str, Any] = {"accuracy_test": accuracy, "preprocessing": data.preprocessing.to_json()}
    if seed == 0:
        save_network(network, run.path / name, **facts)
    run.history.append(
        "long_term",
        network=name,
        seed=seed,
        iteration=iteration,
        accuracy_test=accuracy,
        seconds={"fine_tune": round((tuned - started) / 1e9, 3), "evaluate": round((evaluated - tuned) / 1e9, 3)},
    )
    checkpoint.unlink(missing_ok=True)


def _log(ground: Ground, run: RunDirectory, name: str) -> Any:
    return tensorboard_log(run.path / "tensorboard" / name if ground.settings.tensorboard else None)
