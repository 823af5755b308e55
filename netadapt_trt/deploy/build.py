"""``build``: the engine of a deployed model, made on the device that will run it, and opened on no other. No torch.

An engine is bound to one device and one version of its runtime. The bundle is a folder: the ONNX file, the engine, and
deploy.json with both checksums, what was promised and where the engine was built.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import CompileOptions, EngineBackend, load_backend
from netadapt_trt.deploy.artifact import find_artifact
from netadapt_trt.deploy.record import extend_record
from netadapt_trt.errors import BackendError, CheckError, IdentityError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netadapt_trt.backend import Backend, Executable
    from netadapt_trt.deploy.artifact import Artifact
    from netadapt_trt.progress import Progress

__all__ = ["BuildResult", "build", "open_artifact", "require_own_engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """Where the bundle lies. ``identity`` is None where the engine was built without the device at hand."""

    engine: Path
    record: Path
    backend: str
    identity: Identity | None
    size_bytes: int
    seconds: float
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "engine": str(self.engine),
            "record": str(self.record),
            "backend": self.backend,
            "identity": None if self.identity is None else self.identity.to_json(),
            "size_bytes": self.size_bytes,
            "seconds": self.seconds,
            "details": dict(self.details),
        }


def build(model: Path, output: Path, *, backend: str, progress: Progress = QUIET) -> BuildResult:
    """Build the engine of ``model`` (an ONNX file or the directory of one) and leave a bundle where it lies.

    ``output`` is the engine's file, or a directory, which gets ``<model>.engine``. The ONNX file is copied beside it.
    Precision is the file's.

    Raises:
        SpecError: a backend without engines, or something that is no ONNX file.
        BackendError: the runtime is missing, or refuses the model, with its reasons.
        CheckError: another file of the model's name lies where the bundle goes.
    """
    artifact = find_artifact(model / "model.onnx" if (model / "model.onnx").is_file() else model)
    if artifact.engine is not None:
        raise SpecError(f"{artifact.path} is an engine already; build takes the ONNX file it was made from")
    runtime = load_backend(backend)
    if not isinstance(runtime, EngineBackend):
        raise SpecError(f"{backend} runs ONNX files as they are, without engines; use: netadapt-trt bench {artifact.path}")
    options = CompileOptions(precision=artifact.precision, threads=runtime.default_threads())
    started = time.perf_counter()
    with progress.task(f"building with {backend}", None):
        built = runtime.build(artifact.content, options)
    seconds = time.perf_counter() - started
    path = output / f"{artifact.path.stem}.engine" if output.is_dir() or not output.suffix else output
    onnx = _beside(artifact, path)
    identity = _identity(runtime, artifact, progress)
    write_atomic(path, built.content)
    record = extend_record(onnx, path, _record(artifact, path, built.content, backend, identity, built.details))
    return BuildResult(
        engine=path,
        record=record,
        backend=backend,
        identity=identity,
        size_bytes=len(built.content),
        seconds=seconds,
        details=built.details,
    )


def _beside(artifact: Artifact, engine: Path) -> Path:
    """The ONNX file in the bundle's folder, copied there where it is not."""
    onnx = engine.with_name(artifact.path.name)
    if onnx == engine:
        raise SpecError(f"the engine would replace its own ONNX file {onnx}; give it another name")
    if not onnx.exists():
        engine.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(onnx, artifact.content)
    elif hashlib.sha256(onnx.read_bytes()).hexdigest() != artifact.sha256:
        raise CheckError(f"{onnx} is another file than {artifact.path}; build into another folder")
    return onnx


def _identity(runtime: Backend, artifact: Artifact, progress: Progress) -> Identity | None:
    try:
        return runtime.identity(precision=artifact.precision, batch=artifact.batch, threads=runtime.default_threads())
    except BackendError as error:
        progress.notice(f"the engine was built, but not for a device that is here, so nothing ties it to one: {error}")
        return None


def _record(
    artifact: Artifact,
    engine: Path,
    content: bytes,
    backend: str,
    identity: Identity | None,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    known = {key: value for key, value in artifact.record.items() if key not in ("format", "version")}
    files = {
        **known.get("files", {}),
        artifact.path.name: {"sha256": artifact.sha256, "size_bytes": len(artifact.content)},
        engine.name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)},
    }
    entry = {
        "backend": backend,
        "identity": None if identity is None else identity.to_json(),
        "precision": artifact.precision,
        "batch": artifact.batch,
        "built_from": artifact.path.name,
        "details": dict(details),
    }
    named = {"plan_hash": artifact.plan_hash, "widths": artifact.widths}
    return {**named, **known, "files": files, "engines": {**known.get("engines", {}), engine.name: entry}}


def require_own_engine(artifact: Artifact, runtime: Backend) -> None:
    """Refuse an engine of another backend, device or version; an ONNX file passes.

    Raises:
        IdentityError: with each key and both values, and what to do.
        SpecError: it is of another backend than ``runtime``.
    """
    engine = artifact.engine
    if engine is None:
        return
    if engine["backend"] != runtime.name:
        raise SpecError(f"{artifact.path} is an engine of {engine['backend']}, not of {runtime.name}; use that backend")
    if engine["identity"] is None:
        return
    here = runtime.identity(precision=artifact.precision, batch=artifact.batch, threads=runtime.default_threads())
    differences = Identity.from_json(engine["identity"]).differences(here)
    if differences:
        told = "; ".join(f"{key} is {there!r} there and {mine!r} here" for key, there, mine in differences)
        source = artifact.path.with_name(str(artifact.record["engines"][artifact.path.name].get("built_from", "model.onnx")))
        raise IdentityError(
            f"{artifact.path} was built elsewhere ({told}); engines do not travel. Build it here with: "
            f"netadapt-trt build {source} --backend {runtime.name} -o {artifact.path}"
        )


def open_artifact(artifact: Artifact, runtime: Backend, options: CompileOptions) -> Executable:
    """Ready to run: an engine as it is, an ONNX file compiled. Raises BackendError."""
    if artifact.engine is None:
        return runtime.compile(artifact.content, options)
    if not isinstance(runtime, EngineBackend):
        raise SpecError(f"{runtime.name} opens no engines; build {artifact.path} again for a backend that does")
    return runtime.open_engine(artifact.content, options)
