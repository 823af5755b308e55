"""Runs of either kind for scripts: how far they are, and the files of them that may be taken away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import SpecError
from netadapt_trt.files import finite, shown
from netadapt_trt.webui.compare import rows_of
from netadapt_trt.webui.searches import read_search_view

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.webui.searches import SearchView
    from netadapt_trt.webui.workspace import Workspace

__all__ = ["file_of", "remaining_s", "status_of"]

_FILES = re.compile(
    r"(theta|result|run|table|space|plan)\.json|history\.jsonl|report\.html|theta/epoch-\d{3,6}\.json"
    r"|children/[A-Za-z0-9][A-Za-z0-9._+-]{0,99}/((child|network)\.json|deploy/(model\.onnx|(deploy|bench)\.json))"
)
"""What can be downloaded of a run: results, never checkpoints."""


def file_of(workspace: Workspace, run: object, file: object) -> Path:
    """The file of a run. Raises SpecError for one that is not offered or not there, and for links out of the workspace."""
    item = workspace.find(run, "adapt", "search")
    if not isinstance(file, str) or not _FILES.fullmatch(file):
        raise SpecError(f"{shown(file)} is no file of a run that can be downloaded; theta.json and result.json are")
    path = item.path / file
    if not path.is_file() or not path.resolve().is_relative_to(workspace.root):
        raise SpecError(f"{item.name} has no {file} yet")
    return path


def remaining_s(view: SearchView) -> float | None:
    """Seconds until a search ends, by its last epochs; None before the second one."""
    known = [finite(line.get("seconds")) for line in view.history[-5:]]
    seconds = [value for value in known if value is not None]
    left = view.epochs - len(view.history)
    return finite(sum(seconds) / len(seconds) * left) if len(view.history) > 1 and seconds and left > 0 else None


def status_of(workspace: Workspace, run: object) -> dict[str, Any]:
    """How far a run is and what it found so far. Raises SpecError, FileFormatError."""
    item = workspace.find(run, "adapt", "search")
    networks = [
        {
            "network": row.network,
            "accuracy": row.accuracy,
            "latency_ms": {"estimate": row.estimate_ms, "measured": row.measured_ms},
            "energy_mj": {"estimate": row.estimate_mj, "measured": row.measured_mj},
            "note": row.note,
        }
        for row in rows_of(item)
    ]
    if item.kind == "search":
        view = read_search_view(item.path)
        return {
            "run": item.name,
            "kind": "search",
            "finished": view.finished,
            "epoch": len(view.history),
            "epochs": view.epochs,
            "start": dict(view.start),
            "last": dict(view.history[-1]) if view.history else None,
            "seconds_left": remaining_s(view),
            "result": dict(view.result) or None,
            "notices": [workspace.unplaced(text) for text in view.notices],
            "networks": networks,
        }
    from netadapt_trt.report.read import read_run

    data = read_run(item.path)
    return {
        "run": item.name,
        "kind": "adapt",
        "finished": bool(data.result),
        "iteration": len(data.decisions),
        "last": dict(data.decisions[-1]) if data.decisions else None,
        "end": dict(data.end) or None,
        "missing": list(data.missing),
        "networks": networks,
    }
