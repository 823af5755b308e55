"""Children of a search: the most probable network, and some drawn from theta; trained, and ready for the other verbs.

``children/NAME/`` is what ``export`` opens: ``network.json``, ``weights.safetensors`` (``weights.json`` beside it says how
it was trained), and ``child.json`` with what the table promises, which ``bench`` compares with in the end.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import backend_names
from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import exclusive_lock, finite, read_document, write_document
from netadapt_trt.progress import QUIET
from netadapt_trt.search.result import child_block
from netadapt_trt.search.run import data_begun_with
from netadapt_trt.search.steps import generator_of
from netadapt_trt.search.target import limits_of
from netadapt_trt.search.theta import Theta, read_theta
from netadapt_trt.search.within import most_probable_within
from netadapt_trt.space.store import load_space, preset_names, space_hash, space_to_json
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from netadapt_trt.progress import Progress
    from netadapt_trt.search.state import SearchDirectory
    from netadapt_trt.space.schema import Space
    from netadapt_trt.spec import Precision
    from netadapt_trt.training.fine_tune import FineTune

__all__ = [
    "FORMAT",
    "VERSION",
    "Child",
    "child_commands",
    "child_sizes",
    "child_spec",
    "choose_children",
    "runtime_of",
    "train_child",
]

FORMAT, VERSION = "netadapt-child", 1
_BUILT = ("trt", "trt_rtx")  # the others read ONNX themselves
_DRAWS = 200
"""For each child asked for; where theta is all but decided, different ones are rare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One network of the space. ``block``: its names, estimates and probabilities, as result.json has them."""

    name: str
    kind: str
    epoch: int
    columns: tuple[int, ...]
    block: dict[str, Any]


def choose_children(
    run: SearchDirectory, *, sample: int = 0, seed: int = 0, theta: Path | None = None, progress: Progress = QUIET
) -> list[Child]:
    """The most probable child that meets the search's targets; then ``sample`` others, drawn from theta, all different.

    ``theta`` is a file of this space in place of the search's latest. A child that was drawn need not meet a target.

    Raises:
        FileFormatError: no theta yet, a damaged one, or one of another space.
    """
    settings = run.settings
    if theta is None and not (run.path / "theta.json").is_file():
        raise FileFormatError(
            f"the search {run.path} has no theta yet; let it finish an epoch (search run --resume {run.path})"
        )
    values, epoch = read_theta(theta or run.path / "theta.json", run.space)
    finished = theta is None and epoch == settings.epochs
    if theta is None and not finished:
        progress.notice(f"{run.path} has not finished: theta after epoch {epoch} of {settings.epochs} is used")
    limits = list(limits_of(run.table, settings.latency_target_ms, settings.energy_target_mj).values())
    best = most_probable_within(values, limits)
    name = "argmax" if finished else f"argmax-{_digest(best)}"
    found = [Child(name=name, kind="argmax", epoch=epoch, columns=best, block=child_block(run, best, values))]
    for columns in _drawn(run, values, best, sample, seed):
        block = child_block(run, columns, values)
        found.append(Child(name=f"sample-{_digest(columns)}", kind="sampled", epoch=epoch, columns=columns, block=block))
    if len(found) <= sample:
        progress.notice(f"theta is nearly decided: only {len(found) - 1} different children were drawn from it")
    return found


def train_child(
    run: SearchDirectory, child: Child, training: FineTune, *, data: str | None = None, progress: Progress = QUIET
) -> dict[str, Any]:
    """Train ``child`` from fresh weights on all of the training set and leave it in ``children/NAME/``.

    An interrupted training goes on; a child that is trained already is only read. ``data``: where the search's data lie now.
    Returns what child.json holds: spec, blocks, estimate, accuracy on the test set (0 to 1), size, settings.

    Raises:
        LockedError: another process trains it. FileFormatError: begun with other settings. Else as ``train_network``.
    """
    directory = run.path / "children" / child.name
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(directory / "child.lock", what=f"the child {directory}"):
        begun = _begun(directory, training)
        if begun is not None and begun.get("accuracy") is not None:
            progress.notice(f"{directory} is trained already: accuracy {begun['accuracy']:.2%}")
            return begun
        spec = child_spec(run, child)
        record = _record(run, child, spec, training)
        _write(directory, record)
        settings = run.settings if data is None else replace(run.settings, data=data)
        images = data_begun_with(run, settings)
        return _trained(run, directory, record, spec, images, training, settings.data, progress)


def child_spec(run: SearchDirectory, child: Child, *, space: str | None = None) -> ModelSpec:
    """The child by name. ``space``: a preset's name, or the whole space where it is none, so that no file is needed."""
    classes = _classes(run)
    return ModelSpec(
        model="zoo:block_network",
        input_shape=(1, *run.space.input_shape),
        args={"space": space or _space_text(run), "blocks": "+".join(child.block["blocks"])},
        num_classes=None if classes == run.space.num_classes else classes,
    )


def child_commands(run: SearchDirectory, child: Child, *, data: str | None = None) -> list[str]:
    """What to do with a trained child next, as command lines: export, build, bench; profile, adapt.

    ``data``: where the search's data lie now.
    """
    directory = run.path / "children" / child.name
    onnx = directory / "deploy" / "model.onnx"
    backend, precision = runtime_of(run)
    runtime = ["--backend", backend, *(() if precision == "fp32" else ("--precision", precision))]
    preset = _preset_of(run)
    spec = child_spec(run, child, space=preset or str(run.path / "space.json"))
    model = [spec.model, *(word for key, value in spec.args.items() for word in ("--model-arg", f"{key}={value}"))]
    model += ["--input", "x".join(map(str, spec.input_shape))]
    if spec.num_classes is not None:
        model += ["--num-classes", str(spec.num_classes)]
    lut = str(directory / f"{backend}.lut.jsonl")
    images = ["--data", data or run.settings.data]
    weights = ["--weights", str(directory / "weights.safetensors"), *images]
    if run.settings.image_size is not None:
        weights += ["--image-size", str(run.settings.image_size)]
    if run.settings.normalize is not None:
        weights += ["--normalize", run.settings.normalize]
    budget = ["--lut", lut, "--budget", "latency=0.7x", "-o", str(directory / "adapted")]
    build = [["build", str(onnx), "--backend", backend, "-o", str(onnx.parent)]] if backend in _BUILT else []
    lines = [
        ["export", str(directory), *runtime, *(images if precision == "int8" else ()), "-o", str(onnx)],
        *build,
        ["bench", str(onnx)],
        ["profile", *model, *runtime, "--lut", lut],
        ["adapt", *model, *weights, *budget],
    ]
    return [shlex.join(["netadapt-trt", *line]) for line in lines]


def _classes(run: SearchDirectory) -> int:
    """Those of the data."""
    return int(run.facts.get("num_classes", run.space.num_classes))


def runtime_of(run: SearchDirectory) -> tuple[str, Precision]:
    """(backend, precision) that children are written for: those the table was measured with, where that is one of ours."""
    identity = run.table.identity
    if identity is not None and identity.backend in backend_names():
        return identity.backend, identity.precision
    return "ort", "fp32"


def _drawn(
    run: SearchDirectory, values: NDArray[np.float64], best: tuple[int, ...], count: int, seed: int
) -> list[tuple[int, ...]]:
    if count < 0:
        raise SpecError(f"{count} children cannot be drawn")
    theta = Theta(run.space)
    theta.load(values)
    generator = generator_of(seed, 0xC41D)
    found: dict[tuple[int, ...], None] = {}
    for _ in range(_DRAWS * count):
        columns = theta.draw(generator)
        if columns != best:
            found.setdefault(columns)
        if len(found) == count:
            break
    return list(found)


def _digest(columns: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps(list(columns)).encode()).hexdigest()[:8]


def _preset_of(run: SearchDirectory) -> str | None:
    wanted = space_hash(run.space)
    return next((name for name in preset_names() if space_hash(load_space(name)) == wanted), None)


def _space_text(run: SearchDirectory) -> str:
    return _preset_of(run) or json.dumps(space_to_json(run.space), separators=(",", ":"))


def _begun(directory: Path, training: FineTune) -> dict[str, Any] | None:
    """What child.json says, if it is there. Raises FileFormatError for a training with other settings."""
    path = directory / "child.json"
    if not path.is_file():
        return None
    record = read_document(path, format=FORMAT, version=VERSION)
    found, wanted = record.get("training"), training.to_json()
    accuracy = record.get("accuracy")
    if not isinstance(found, dict) or (accuracy is not None and finite(accuracy) is None):
        raise FileFormatError(
            f"{path} is damaged: it does not say how the child is trained, or how well; remove its directory to train anew"
        )
    for key in wanted:
        if key != "device" and found.get(key) != wanted[key]:
            raise FileFormatError(
                f"{directory} was begun with {key} {found.get(key)!r}, now it is {wanted[key]!r}; give the same settings to "
                f"go on, or remove that directory to train the child anew"
            )
    return record


def child_sizes(space: Space, blocks: Sequence[str], num_classes: int) -> tuple[int, int]:
    """(parameters, multiply-accumulates) of the child with these blocks and an output for each of ``num_classes``."""
    from netadapt_trt.plan.sizes import PlanSizes
    from netadapt_trt.space.plan import child_plan

    sizes = PlanSizes(child_plan(replace(space, num_classes=num_classes), blocks))
    widths = np.zeros((1, 0), dtype=np.int64)  # a child has no open widths
    return int(sizes.params(widths)[0]), int(sizes.macs(widths)[0])


def _record(run: SearchDirectory, child: Child, spec: ModelSpec, training: FineTune) -> dict[str, Any]:
    params, macs = child_sizes(run.space, child.block["blocks"], _classes(run))
    identity = run.table.identity
    return {
        "kind": child.kind,
        "space": run.space.name,
        "space_hash": space_hash(run.space),
        "epoch": child.epoch,
        "model": spec.model,
        "spec": spec.to_json(),
        "blocks": child.block["blocks"],
        "probabilities": child.block["probabilities"],
        "estimate": {"latency_ms": child.block["latency_ms"], "energy_mj": child.block["energy_mj"]},
        "table": {
            "source": run.table.source,
            "identity": None if identity is None else identity.to_json(),
            "files": run.facts.get("tables", []),
            # Of stem and head, which are in the estimate; 0 where the table lacks them.
            "fixed_latency_ms": run.table.fixed_latency_ms,
            "fixed_energy_mj": run.table.fixed_energy_mj if run.table.has_energy else None,
            "notices": list(run.table.notices),
        },
        "params": params,
        "macs": macs,
        "training": training.to_json(),
        "accuracy": None,
        "loss": None,
    }


def _trained(
    run: SearchDirectory,
    directory: Path,
    record: dict[str, Any],
    spec: ModelSpec,
    images: Any,
    training: FineTune,
    data: str,
    progress: Progress,
) -> dict[str, Any]:
    from netadapt_trt.graph.network import FORMAT as NETWORK_FORMAT
    from netadapt_trt.graph.network import VERSION as NETWORK_VERSION
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.training.seed_network import train_network

    log_dir = directory / "tensorboard" if run.settings.tensorboard else None
    done = train_network(spec, None, images, training, directory / "weights.safetensors", progress=progress, log_dir=log_dir)
    identity = run.table.identity
    tables = run.facts.get("tables", [])
    content = {
        "spec": spec.to_json(),
        "widths": open_network(spec).widths,
        "arguments": {
            "data": data,
            "image_size": run.settings.image_size,
            "normalize": run.settings.normalize,
            # a text table has no conditions that a measurement could be compared by
            "lut": tables[0]["path"] if identity is not None and tables else None,
        },
        "preprocessing": images.preprocessing.to_json(),
    }
    write_document(directory / "network.json", format=NETWORK_FORMAT, version=NETWORK_VERSION, content=content)
    loss = done["loss"]
    record |= {"accuracy": done["accuracy"], "loss": loss if loss is not None and math.isfinite(loss) else None}
    _write(directory, record)
    return record


def _write(directory: Path, record: dict[str, Any]) -> None:
    write_document(directory / "child.json", format=FORMAT, version=VERSION, content=record)
