"""A run directory with plausible figures, written by a function so that a test can change one thing in it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _groups(count: int) -> dict[str, int]:
    sizes = [16, 32, 64, 64, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512]
    return {f"features.{i}.1.0": sizes[i * len(sizes) // count] for i in range(count)}


def _network(accuracy: float, estimate: float, measured: float | None, share: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "latency_ms": {"estimate": estimate, "measured": measured},
        "energy_mj": {"estimate": None, "measured": None},
        "params": round(823_722 * share),
        "macs": round(46_300_000 * share**0.9),
        "memory_bytes": round(3_900_000 * share),
        "size_bytes": round(3_320_000 * share),
    }


def write_sample_run(
    path: Path,
    *,
    model: str = "zoo:mobilenet_v1",
    groups: int = 14,
    steps: int = 9,
    finished: bool = True,
    uniform: bool = True,
    seed: int = 0,
) -> Path:
    """A run of ``steps`` decisions towards latency=0.5x, measured at every one; unfinished ones lack the last part."""
    draw = random.Random(seed)
    path.mkdir(parents=True)
    sizes = _groups(groups)
    arguments = {
        "spec": {"model": model, "input_shape": [1, 3, 32, 32], "args": {"width": "0.5", "stem": "cifar"}},
        "weights": "seed.safetensors",
        "data": "imagefolder:pictures",
        "backend": "ort",
        "budgets": ["latency=0.5x"],
        "reduction": 0.06,
        "decay": 0.98,
        "winner": "ratio",
        "seed": seed,
    }
    document = {"format": "netadapt-run", "version": 1, "arguments": arguments, "versions": {"torch": "2.13.0"}}
    (path / "run.json").write_text(json.dumps(document))
    start, widths, accuracy = 0.505, dict(sizes), 0.861
    lines: list[dict[str, Any]] = [
        {"format": "netadapt-history", "version": 1},
        {
            "type": "initial",
            "widths": widths,
            "accuracy_holdout": accuracy,
            "accuracy_test": 0.8612,
            "resources": {
                "latency": {"estimate": 0.505, "measured": start, "scale": 0.78},
                "macs": {"estimate": 46_300_000.0, "measured": None, "scale": 1.0},
            },
        },
    ]
    latency, scale = start, 0.78
    for step in range(1, steps + 1):
        target = start - 0.5 * start * step / steps
        chosen = draw.choice(sorted(sizes)[: max(1, groups - 2)])
        for name in sizes:
            accuracy_here = accuracy - abs(draw.gauss(0.012, 0.02)) + 0.004
            lines.append(
                {
                    "type": "proposal",
                    "iteration": step,
                    "group": name,
                    "width": max(8, widths[name] - 16),
                    "widths": widths,
                    "resources": {"latency": target * draw.uniform(0.97, 1.0)},
                    "accuracy": accuracy_here,
                    "loss": 0.5,
                    "seconds": {"fine_tune": 9.1, "evaluate": 1.2},
                    "worker": 0,
                }
            )
        widths = {**widths, chosen: max(8, widths[chosen] * 5 // 8 // 8 * 8)}
        accuracy -= draw.uniform(-0.001, 0.006)
        latency = target * draw.uniform(0.975, 0.995)
        scale *= draw.uniform(0.98, 1.02)
        lines.append(
            {
                "type": "decision",
                "iteration": step,
                "group": chosen,
                "widths": widths,
                "targets": {"latency": target},
                "resources": {
                    "latency": {"estimate": latency, "measured": latency * draw.uniform(0.97, 1.03), "scale": scale}
                },
                "accuracy": accuracy,
                "seconds": {"search": 0.004, "fine_tune": 9.1 * groups, "evaluate": 1.2 * groups, "measure": 4.0},
            }
        )
    if finished:
        for number in range(3):
            for name, base in (("adapted", 0.8535), ("uniform", 0.8391)):
                test = base + 0.0015 * (number - 1)
                lines.append({"type": "long_term", "seed": number, "network": name, "accuracy_test": test})
        lines.append({"type": "end", "reason": "budget met", "reached": True})
        result = {
            "model": model,
            "backend": "ort",
            "precision": "fp32",
            "device": "2-core server CPU",
            "budgets": [{"budget": "latency=0.5x", "resource": "latency", "limit": start / 2, "reached": True}],
            "iterations": steps,
            "seconds": {
                "profile": 301.5,
                "search": 0.04,
                "fine_tune": 1146.0,
                "evaluate": 151.0,
                "long_term": 2402.0,
                "total": 4040.0,
            },
            "initial": _network(0.8612, start, start, 1.0),
            "adapted": _network(0.8535, 0.2475, 0.2492, 0.41),
            "uniform": _network(0.8391, 0.2551, 0.2480, 0.46) if uniform else None,
        }
        (path / "result.json").write_text(json.dumps(result))
        for name, cut in (("adapted", widths), ("uniform", {g: max(8, s * 5 // 8 // 8 * 8) for g, s in sizes.items()})):
            if name == "adapted" or uniform:
                (path / name).mkdir()
                content = {"format": "netadapt-network", "version": 1, "widths": cut}
                (path / name / "network.json").write_text(json.dumps(content))
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def write_run() -> Callable[..., Path]:
    return write_sample_run
