"""Search runs as they are on disk, finished or under way: read for showing, never locked, never changed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import backend_names
from netadapt_trt.errors import FileFormatError, NetadaptError
from netadapt_trt.files import finite, read_document
from netadapt_trt.space.store import load_space
from netadapt_trt.webui.workspace import read_small_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.space.schema import Space

__all__ = ["Child", "SearchView", "bench_device", "probabilities", "read_search_view", "theta_of"]

_MOST = 1 << 31
_ON_CARD = ("trt", "trt_rtx")
_CHILD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child of a search: estimates (ms, mJ), test accuracy (0 to 1) once trained; ``onnx`` once exported.

    ``measured_ms`` and ``measured_mj`` are from the bench.json beside its ONNX file, None before a bench;
    ``measured_where`` is the device of that bench, ``comparable`` whether it is the one that the table was measured on, and
    the runtime, too; ``backend`` is the runtime of the table, empty where it is not known.
    """

    name: str
    path: Path
    blocks: tuple[str, ...]
    latency_ms: float | None
    energy_mj: float | None
    accuracy: float | None
    trained: bool
    onnx: Path | None
    measured_ms: float | None = None
    measured_mj: float | None = None
    measured_where: str = ""
    comparable: bool = False
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView:
    """What is known of a search. ``epochs`` is the whole number planned, ``history`` a line for each that is done.

    ``theta`` is float [places, columns] with NaN where nothing is offered, None before the first epoch; ``result`` is empty
    until the search has finished.
    """

    path: Path
    arguments: Mapping[str, Any]
    start: Mapping[str, Any]
    space: Space
    epochs: int
    history: tuple[Mapping[str, Any], ...]
    theta: np.ndarray | None
    theta_epoch: int
    result: Mapping[str, Any]
    notices: tuple[str, ...]
    children: tuple[Child, ...]

    @property
    def finished(self) -> bool:
        """Whether the search came to its end."""
        return bool(self.result)


def read_search_view(path: Path) -> SearchView:
    """Raises FileFormatError (and its kinds) for what is no search, or a damaged one."""
    run = read_document(path / "run.json", format="netadapt-search", version=1)
    arguments = run.get("arguments")
    if not isinstance(arguments, dict):
        raise FileFormatError(f"{path / 'run.json'} holds no arguments; it is damaged")
    space = load_space(path / "space.json")
    theta, epoch = theta_of(path, space)
    start = run.get("start")
    return SearchView(
        path=path,
        arguments=arguments,
        start=start if isinstance(start, dict) else {},
        space=space,
        epochs=_count(arguments.get("epochs")) or 0,
        history=tuple(_history(path / "history.jsonl")),
        theta=theta,
        theta_epoch=epoch,
        result=_optional(path / "result.json", "netadapt-search-result"),
        notices=_notices(path / "table.json"),
        children=tuple(_children(path / "children")),
    )


def theta_of(path: Path, space: Space) -> tuple[np.ndarray | None, int]:
    """(the latest theta, its epoch) of the search in ``path``; (None, 0) where there is none that fits ``space``."""
    content = _optional(path / "theta.json", "netadapt-theta")
    try:
        rows = [[np.nan if value is None else finite(value) for value in row] for row in content["theta"]]
        values, epoch = np.array(rows, dtype=object), _count(content["epoch"])
    except (KeyError, TypeError, ValueError):
        return None, 0
    fits = values.shape == (len(space.places), len(space.columns)) and all(value is not None for value in values.flat)
    return (values.astype(float), epoch) if fits and epoch is not None else (None, 0)


def probabilities(theta: np.ndarray) -> np.ndarray:
    """Softmax by row of theta [places, columns]; NaN where nothing is offered."""
    powers = np.exp(theta - np.nanmax(theta, axis=1, keepdims=True))
    return np.asarray(powers / np.nansum(powers, axis=1, keepdims=True))


def _history(path: Path) -> list[dict[str, Any]]:
    """Lines with an epoch; a torn last line is left out, and a number that is not finite is not known."""
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        lines = [json.loads(row) for row in whole.split(b"\n") if row]
    except (OSError, ValueError, RecursionError):
        return []
    return [
        {key: None if isinstance(value, int | float) and finite(value) is None else value for key, value in line.items()}
        for line in lines
        if isinstance(line, dict) and _count(line.get("epoch")) is not None
    ]


def _count(value: object) -> int | None:
    """A number of epochs; None for what is none: JSON has integers of any length."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None


def _optional(path: Path, format: str) -> dict[str, Any]:
    """A document that may not be there yet, or may be of another version: then there is nothing to show of it."""
    if not path.is_file():
        return {}
    try:
        return read_document(path, format=format, version=1)
    except NetadaptError:
        return {}


def _notices(path: Path) -> tuple[str, ...]:
    found = _optional(path, "netadapt-space-table").get("notices")
    return tuple(str(text) for text in found) if isinstance(found, list) else ()


def _children(folder: Path) -> list[Child]:
    try:
        names = sorted(path.name for path in folder.iterdir() if _CHILD.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []
    return [_child(folder / name) for name in names]


def _child(path: Path) -> Child:
    record = _optional(path / "child.json", "netadapt-child")
    estimate = record.get("estimate")
    estimate = estimate if isinstance(estimate, dict) else {}
    blocks = record.get("blocks")
    onnx = path / "deploy" / "model.onnx"
    measured = _bench(path / "deploy" / "bench.json")
    table = record.get("table")
    promised = table.get("identity") if isinstance(table, dict) else None
    return Child(
        name=path.name,
        path=path,
        blocks=tuple(str(block) for block in blocks) if isinstance(blocks, list) else (),
        latency_ms=finite(estimate.get("latency_ms")),
        energy_mj=finite(estimate.get("energy_mj")),
        accuracy=finite(record.get("accuracy")),
        trained=record.get("accuracy") is not None and (path / "network.json").is_file(),
        onnx=onnx if onnx.is_file() else None,
        measured_ms=_entry(measured.get("latency_ms"), "median"),
        measured_mj=_entry(measured.get("energy_mj"), "total"),
        measured_where=_place(measured.get("identity")),
        backend=str(promised.get("backend", "")) if isinstance(promised, dict) else "",
        comparable=bool(_place(promised)) and _place(promised) == _place(measured.get("identity")),
    )


def bench_device(onnx: Path) -> str:
    """What a bench of ``onnx`` occupies: the graphics card for a runtime that works there, by its deploy.json.

    The runtime is the one that bench takes: that of the promise, of its table first, else what it was exported for.
    """
    own = onnx.with_name(f"{onnx.stem}.deploy.json")
    record = _optional(own if own.is_file() else onnx.with_name("deploy.json"), "netadapt-deploy")
    lut, promise = (part if isinstance(part, dict) else {} for part in (record.get("lut"), record.get("promise")))
    of_table = lut.get("identity") if promise else None
    named = of_table.get("backend") if isinstance(of_table, dict) and of_table else promise.get("backend")
    backend = named if named in backend_names() else record.get("backend")
    return "cuda:0" if backend in _ON_CARD else "cpu"


def _bench(path: Path) -> dict[str, Any]:
    """What bench wrote of the one artifact in its file; empty where there is none."""
    try:
        content = read_small_json(path) if path.is_file() else {}
    except FileFormatError:
        return {}
    artifacts = content.get("artifacts")
    first = artifacts[0] if isinstance(artifacts, list) and artifacts else {}
    return first if isinstance(first, dict) else {}


def _place(identity: object) -> str:
    """Device and runtime in words; empty where they are not known."""
    if not isinstance(identity, dict) or not isinstance(identity.get("device"), str):
        return ""
    return f"{identity['device']}, {identity.get('backend')}"


def _entry(value: object, key: str) -> float | None:
    return finite(value.get(key)) if isinstance(value, dict) else None
