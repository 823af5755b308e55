"""What a search came to: result.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.files import read_document, write_document
from netadapt_trt.search.theta import probabilities
from netadapt_trt.space.plan import names_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from netadapt_trt.search.state import SearchDirectory

__all__ = ["SearchResult", "child_block", "read_result", "write_result"]

FORMAT, VERSION = "netadapt-search-result", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A finished search. ``content`` is what result.json holds."""

    path: Path
    content: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        return dict(self.content)


def child_block(run: SearchDirectory, columns: Sequence[int], theta: NDArray[np.float64]) -> dict[str, Any]:
    """A child's blocks, what the table promises for it, and how probable each of its blocks is."""
    chances = probabilities(theta)[np.arange(len(columns)), list(columns)]
    energy = run.table.energy(columns)
    return {
        "blocks": list(names_of(run.space, columns)),
        "latency_ms": run.table.latency(columns),
        "energy_mj": None if math.isnan(energy) else energy,
        "probabilities": [round(float(chance), 6) for chance in chances],
    }


def write_result(
    run: SearchDirectory,
    *,
    child: Sequence[int],
    argmax: Sequence[int],
    theta: NDArray[np.float64],
    history: Sequence[Mapping[str, Any]],
) -> SearchResult:
    """``child``: the most probable one within the targets; ``argmax``: without them."""
    last = history[-1]
    settings = run.settings
    content = {
        "space": run.space.name,
        "child": child_block(run, child, theta),
        "argmax": child_block(run, argmax, theta),
        "start": run.facts.get("start"),
        "targets": {"latency_ms": settings.latency_target_ms, "energy_mj": settings.energy_target_mj},
        "knobs": {**settings.knobs.to_json(), "alpha": last["alpha"], "gamma": last["gamma"]},
        "expected": {"lat_s": last["lat_s"], "ener_j": last["ener_j"]},
        "val_accuracy": last["val_accuracy"],
        "entropy": last["entropy"],
        "epochs": len(history),
        "seconds": round(sum(float(line["seconds"]) for line in history), 3),
    }
    write_document(run.path / "result.json", format=FORMAT, version=VERSION, content=content)
    return read_result(run.path)


def read_result(path: Path) -> SearchResult:
    """Of the finished search in ``path``. Raises FileFormatError."""
    return SearchResult(path=path, content=read_document(path / "result.json", format=FORMAT, version=VERSION))
