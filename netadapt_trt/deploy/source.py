"""Where the network to export comes from: a run, one of its networks, or a model by name with weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.deploy.record import file_sha256
from netadapt_trt.errors import FileFormatError, NetadaptError, SpecError
from netadapt_trt.files import read_document
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.graph.network import Network
    from netadapt_trt.progress import Progress
    from netadapt_trt.training.preprocessing import Preprocessing

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A network ready to export and what is known about it.

    ``plan_hash`` is that of the uncut network, which together with the widths names this network in LUTs and bench.json.
    ``promise`` holds what the run knew of it (estimate and measured latency, backend, device, precision), ``lut`` the table
    used, ``data`` the arguments (``data``, ``image_size``, ``normalize``) the run opened its data with, ``preprocessing``
    what the network was trained with; None where nobody says.
    """

    network: Network
    plan_hash: str
    origin: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    promise: Mapping[str, Any] = field(default_factory=dict)
    lut: Mapping[str, Any] | None = None


def open_source(source: Path | ModelSpec, weights: str | None = None, *, progress: Progress = QUIET) -> Source:
    """Open a run directory (its ``adapted/``, else the latest ``iter-NNN/``), one network directory, or a model by name.

    Raises:
        FileFormatError: the directory holds no network, or a damaged one. SpecError: ``weights`` for one that has its own.
        NetadaptError: whatever building, loading or tracing the model raises.
    """
    from netadapt_trt.graph.network import load_network, open_network, read_network
    from netadapt_trt.graph.planner import make_plan
    from netadapt_trt.plan.store import load_plan, plan_hash
    from netadapt_trt.training.weights_preprocessing import trained_preprocessing

    if isinstance(source, ModelSpec):
        network = open_network(source, weights)
        origin = {"kind": "model", "model": source.model, "weights": weights}
        trained = None if weights is None else trained_preprocessing(weights, source)
        return Source(network=network, plan_hash=plan_hash(make_plan(network)), origin=origin, preprocessing=trained)
    if weights is not None:
        raise SpecError(f"{source} is a directory of ours, which has its own weights; leave --weights {weights} out")
    directory = _network_directory(source, progress)
    run = next((path for path in (directory.parent, directory) if (path / "run.json").is_file()), None)
    network = load_network(directory)
    if run is not None and (run / "plan.json").is_file():
        plan = load_plan(run / "plan.json")
    else:
        plan = make_plan(open_network(network.spec))
    recorded = _run_record(run) or read_network(directory)
    arguments = recorded["arguments"] if isinstance(recorded.get("arguments"), dict) else {}
    data, trained = _data(arguments, recorded.get("preprocessing"))
    return Source(
        network=network,
        plan_hash=plan_hash(plan),
        origin={"kind": "run" if run else "network", "directory": str(source), "network": directory.name},
        data=data,
        preprocessing=trained,
        promise=_promise(run, directory.name) if run else _child_promise(directory),
        lut=_lut(arguments, progress),
    )


def _network_directory(source: Path, progress: Progress) -> Path:
    if (source / "network.json").is_file():
        return source
    if not (source / "run.json").is_file():
        raise FileFormatError(
            f"{source} holds no network: neither run.json nor network.json is there; "
            "give a run directory, one of its iter-NNN directories, or a model with --weights"
        )
    if (source / "adapted" / "network.json").is_file():
        return source / "adapted"
    steps = sorted(path.parent for path in source.glob("iter-*/network.json"))
    if not steps:
        raise FileFormatError(f"the run {source} has no network yet; let it decide a step first (adapt --resume {source})")
    progress.notice(f"{source} has not finished: {steps[-1].name} is taken, before long-term fine-tuning")
    return steps[-1]


def _run_record(run: Path | None) -> Mapping[str, Any]:
    return {} if run is None else read_document(run / "run.json", format="netadapt-run", version=1)


def _data(arguments: Mapping[str, Any], preprocessing: Any) -> tuple[dict[str, Any], Preprocessing | None]:
    """What opens the data as the run had them. What was really used wins over what was asked for, which may be nothing."""
    from netadapt_trt.training.preprocessing import Preprocessing, normalization_text

    data = {key: arguments.get(key) for key in ("data", "image_size", "normalize")}
    if not isinstance(preprocessing, dict):
        return data, None
    trained = Preprocessing.from_json(preprocessing)
    return data | {"normalize": normalization_text(trained.mean, trained.std)}, trained


def _promise(run: Path, name: str) -> dict[str, Any]:
    """Latency as the run knew it: from result.json for final networks, from the decision for those of a step."""
    found: dict[str, Any] = {}
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {}
    if isinstance(result, dict):
        found |= {key: result[key] for key in ("backend", "precision", "device") if key in result}
        block = result.get(name)
        if isinstance(block, dict):
            return found | {key: block[key] for key in ("accuracy", "latency_ms", "energy_mj") if key in block}
    for line in _history(run / "history.jsonl"):
        if line.get("type") == "decision" and name == f"iter-{line.get('iteration', -1):03d}":
            latency = line.get("resources", {}).get("latency", {})
            pair = {kind: latency.get(kind) for kind in ("estimate", "measured")}
            return found | {"latency_ms": pair, "accuracy_holdout": line.get("accuracy")}
    return found


def _child_promise(directory: Path) -> dict[str, Any]:
    """What a search's table promised for a child; nothing where the directory holds another network."""
    path = directory / "child.json"
    if not path.is_file():
        return {}
    child = read_document(path, format="netadapt-child", version=1)
    estimate, table = (child[key] if isinstance(child.get(key), dict) else {} for key in ("estimate", "table"))
    identity = table["identity"] if isinstance(table.get("identity"), dict) else {}
    found = {key: identity[key] for key in ("backend", "precision", "device") if key in identity}
    pairs = {
        key: {
            "estimate": estimate.get(key),
            "measured": None,
            # Tables of others hold the blocks alone. Of a child from before that was noted, nobody says.
            "covers": "blocks" if table.get(f"fixed_{key}", math.nan) == 0 else "network",
        }
        for key in ("latency_ms", "energy_mj")
    }
    return found | {"accuracy": child.get("accuracy"), **pairs}


def _history(path: Path) -> list[dict[str, Any]]:
    """The whole lines; a torn last one is what a kill leaves."""
    try:
        rows = path.read_text(encoding="utf-8").split("\n")[:-1]
        lines = [json.loads(row) for row in rows]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    return [line for line in lines if isinstance(line, dict)]


def _lut(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any] | None:
    """The table the run used, with its checksum and conditions where the file is still at hand."""
    if not arguments.get("lut"):
        return None
    path = Path(arguments["lut"])
    found: dict[str, Any] = {"path": str(path), "sha256": None, "identity": None}
    if path.is_file():
        from netadapt_trt.lut.store import read_lut

        try:
            found |= {"sha256": file_sha256(path), "identity": read_lut(path).identity.to_json()}
        except NetadaptError as error:
            progress.notice(f"the LUT of the run cannot be read, its conditions are left out of deploy.json: {error}")
    return found
