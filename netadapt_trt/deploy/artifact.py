"""A deployed file, ONNX or an engine, and what it says about itself. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from netadapt_trt.deploy.record import find_record, read_record
from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import finite
from netadapt_trt.spec import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

__all__ = ["Artifact", "Covers", "find_artifact"]

Covers: TypeAlias = Literal["network", "blocks"]
"""What an estimate is a sum of: all layers, or a search's blocks without stem and head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file to run and what it says about itself; ``record`` is its deploy.json, empty where there is none.

    ``engine`` is that record's entry for an engine (backend, identity, details), None for an ONNX file.
    """

    path: Path
    content: bytes
    sha256: str
    model: str | None
    plan_hash: str | None
    widths: Mapping[str, int] | None
    precision: Precision
    batch: int
    record: Mapping[str, Any]
    engine: Mapping[str, Any] | None = None

    def promised(self) -> tuple[float | None, Mapping[str, Any]]:
        """(estimated latency in ms, conditions it was made for: identity of the LUT, or backend, device and precision)."""
        promise = self.record.get("promise")
        if not isinstance(promise, dict):
            return None, {}
        pair = promise.get("latency_ms")
        estimate = pair.get("estimate") if isinstance(pair, dict) else None
        lut = self.record.get("lut")
        identity = lut.get("identity") if isinstance(lut, dict) else None
        conditions = identity or {key: promise[key] for key in ("backend", "device", "precision") if key in promise}
        return finite(estimate), conditions

    def covers(self) -> Covers:
        """What :meth:`promised` is of; ``network`` where nobody says."""
        promise = self.record.get("promise")
        pair = promise.get("latency_ms") if isinstance(promise, dict) else None
        return "blocks" if isinstance(pair, dict) and pair.get("covers") == "blocks" else "network"


def find_artifact(path: Path) -> Artifact:
    """Read an ONNX file or an engine, with its deploy.json.

    Of a directory: the engine of its deploy.json where that names one, else ``model.onnx``, else the only ``*.onnx``.

    Raises:
        SpecError: nothing there, or not clear which.
        FileFormatError: neither an ONNX model nor an engine. CheckError: deploy.json describes another content.
    """
    if path.is_dir():
        path = _in_directory(path)
    if not path.is_file():
        raise SpecError(f"there is no file {path}; make one with: netadapt-trt export RUN -o {path}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    record = find_record(path, digest) or {}
    engine = record.get("engines", {}).get(path.name)
    if engine is not None:
        return _engine(path, content, digest, record, engine)
    model = _parse(path, content)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Artifact(
        path=path,
        content=content,
        sha256=digest,
        model=metadata.get("netadapt.model"),
        plan_hash=metadata.get("netadapt.plan_hash"),
        widths=_widths(metadata.get("netadapt.widths")),
        precision=_precision(model, metadata.get("netadapt.precision")),
        batch=_batch(model),
        record=record,
    )


def _in_directory(path: Path) -> Path:
    record = path / "deploy.json"
    names = list(read_record(record).get("engines", {})) if record.is_file() else []
    engines = [path / str(name) for name in names if (path / str(name)).is_file()]
    found = engines or sorted(path.glob("*.onnx"))
    if path / "model.onnx" in found:
        return path / "model.onnx"
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise SpecError(f"{path} should hold one engine, model.onnx or only one ONNX file (found: {there}); name the file")
    return found[0]


def _engine(path: Path, content: bytes, digest: str, record: Mapping[str, Any], engine: Mapping[str, Any]) -> Artifact:
    """An engine holds nothing that can be read without its runtime: the record speaks for it."""
    try:
        return Artifact(
            path=path,
            content=content,
            sha256=digest,
            model=record["model"]["model"] if isinstance(record.get("model"), dict) else None,
            plan_hash=record.get("plan_hash"),
            widths=record.get("widths"),
            precision=engine["precision"],
            batch=int(engine["batch"]),
            record=record,
            engine={"backend": str(engine["backend"]), "identity": engine["identity"], "details": engine["details"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"the entry of {path.name} in deploy.json is damaged ({error!r}); build it again") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx's own dependency, without types

    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise FileFormatError(
            f"{path} is not an ONNX model, and no deploy.json beside it calls it an engine; "
            "take the file that export wrote, or an engine together with the folder that build left it in"
        ) from error
    if not model.graph.node or not model.graph.input:
        raise FileFormatError(f"{path} is not an ONNX model: it has no operators or no input")
    return model


def _widths(text: str | None) -> dict[str, int] | None:
    try:
        widths = json.loads(text) if text else None
    except ValueError:
        return None
    if not isinstance(widths, dict) or not all(isinstance(width, int) for width in widths.values()):
        return None
    return widths


def _precision(model: onnx.ModelProto, said: str | None) -> Precision:
    """What the file says of itself, else what its operators and weights show."""
    if said in get_args(Precision):
        return cast("Precision", said)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    half = sum(tensor.data_type == 10 for tensor in model.graph.initializer)  # TensorProto.FLOAT16
    return "fp16" if half > len(model.graph.initializer) / 2 else "fp32"


def _batch(model: onnx.ModelProto) -> int:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[0].dim_value or 1 if dims else 1
