"""``bench``: how long a deployed file takes here, end to end, beside another one and beside what was promised. No torch.

Files are timed turn by turn, so that a slow minute hits all of them; every ratio comes with its spread over the rounds.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.deploy.record import find_record
from netadapt_trt.errors import BackendError, FileFormatError, SpecError
from netadapt_trt.files import write_document
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice
from netadapt_trt.measure.stopwatch import time_interleaved
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import Identity, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx

    from netadapt_trt.backend import Backend
    from netadapt_trt.measure.stopwatch import RoundTimings
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import EnergyStats, LatencyStats

__all__ = ["Artifact", "BenchResult", "BenchRow", "Comparison", "bench", "find_artifact"]

_FORMAT, _VERSION = "netadapt-bench", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file to time and what it says about itself; ``record`` is its deploy.json, empty where there is none."""

    path: Path
    content: bytes
    sha256: str
    model: str | None
    plan_hash: str | None
    widths: Mapping[str, int] | None
    precision: Precision
    batch: int
    record: Mapping[str, Any]

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
        return (float(estimate) if isinstance(estimate, (int, float)) else None), conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One file's measurement. ``odd_even_ratio`` is odd rounds over even ones, 1 where the measurement repeats itself.

    ``estimate_ms`` is what the LUT promised, ``estimate_differs`` the conditions in which that promise was another one
    (key, promised for, measured under); ``measured_over_estimate`` is None where there is no promise.
    """

    artifact: Artifact
    identity: Identity
    latency: LatencyStats
    round_medians_ms: tuple[float, ...]
    odd_even_ratio: float | None
    energy: EnergyStats | None
    estimate_ms: float | None
    estimate_differs: tuple[tuple[str, Any, Any], ...]

    @property
    def measured_over_estimate(self) -> float | None:
        """Median latency divided by the promise."""
        return None if not self.estimate_ms else self.latency.median / self.estimate_ms

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. ``plan_hash`` and ``widths`` name the network for ``adapt --measured``."""
        artifact = self.artifact
        return {
            "path": str(artifact.path),
            "sha256": artifact.sha256,
            "size_bytes": len(artifact.content),
            "model": artifact.model,
            "plan_hash": artifact.plan_hash,
            "widths": None if artifact.widths is None else dict(artifact.widths),
            "precision": artifact.precision,
            "identity": self.identity.to_json(),
            "latency_ms": self.latency.to_json(),
            "round_medians_ms": list(self.round_medians_ms),
            "odd_even_ratio": self.odd_even_ratio,
            "energy_mj": None if self.energy is None else self.energy.to_json(),
            "estimate_ms": self.estimate_ms,
            "estimate_differs": [list(difference) for difference in self.estimate_differs],
            "measured_over_estimate": self.measured_over_estimate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Latency of the first file over that of another, taken round by round: median, 10th and 90th percentile."""

    first: Path
    other: Path
    ratio: float
    p10: float
    p90: float
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "first": str(self.first),
            "other": str(self.other),
            "ratio": self.ratio,
            "p10": self.p10,
            "p90": self.p90,
            "rounds": self.rounds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """All rows in the order given, the first one's comparison with each other one, and the state of the machine."""

    rows: tuple[BenchRow, ...]
    comparisons: tuple[Comparison, ...]
    session: Mapping[str, Any]
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Content of bench.json; ``identity``, ``plan_hash``, ``widths`` and ``latency_ms`` on top are the first file's."""
        first = self.rows[0].to_json()
        return {
            **{key: first[key] for key in ("identity", "plan_hash", "widths", "latency_ms")},
            "session": dict(self.session),
            "artifacts": [row.to_json() for row in self.rows],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "notices": list(self.notices),
        }


def bench(
    artifact: Path,
    vs: Sequence[Path] = (),
    *,
    backend: str | None = None,
    threads: int | None = None,
    rounds: int = 7,
    round_ms: float = 200.0,
    output: Path | None = None,
    progress: Progress = QUIET,
) -> BenchResult:
    """Time ``artifact`` and every file of ``vs`` in interleaved rounds; write bench.json to ``output`` when given.

    Backend and threads default to those the promise was made for (deploy.json, its LUT), then to ``ort`` and the physical
    cores. Precision is the file's.

    Raises:
        SpecError: no such file, an unknown backend, fewer than two rounds.
        FileFormatError: a file that is not ONNX. CheckError: a deploy.json of another file.
        BackendError: the runtime is missing or refuses a file.
    """
    if rounds < 2:
        raise SpecError(f"bench needs at least two rounds to tell how well it repeats itself, not {rounds}")
    artifacts = [find_artifact(path) for path in (artifact, *vs)]
    runtime = load_backend(backend or _recorded(artifacts[0], "backend") or "ort")
    count = threads or _recorded(artifacts[0], "threads") or runtime.default_threads()
    load = other_load()
    notices = [text for text in (quiet_notice(load),) if text]
    session = {**machine_state().to_json(), "other_load": load, "rounds": rounds, "round_ms": round_ms}
    with progress.task(f"timing {len(artifacts)} file(s), {rounds} rounds", None), ExitStack() as stack:
        executables = [
            stack.enter_context(runtime.compile(each.content, CompileOptions(precision=each.precision, threads=count)))
            for each in artifacts
        ]
        timings = time_interleaved(executables, rounds=rounds, round_ms=round_ms)
    rows = tuple(_row(runtime, each, timing, count) for each, timing in zip(artifacts, timings, strict=True))
    notices += [_differs_notice(row) for row in rows if row.estimate_ms is not None and row.estimate_differs]
    for text in notices:
        progress.notice(text)
    comparisons = tuple(_compare(rows[0], row) for row in rows[1:])
    result = BenchResult(rows=rows, comparisons=comparisons, session=session, notices=tuple(notices))
    if output is not None:
        write_document(output, format=_FORMAT, version=_VERSION, content=result.to_json())
    return result


def find_artifact(path: Path) -> Artifact:
    """Read an ONNX file, or the one in a directory (``model.onnx``, else the only ``*.onnx``), with its deploy.json.

    Raises:
        SpecError: nothing there, or not clear which.
        FileFormatError: not an ONNX model. CheckError: deploy.json describes another content.
    """
    if path.is_dir():
        found = sorted(path.glob("*.onnx"))
        if path / "model.onnx" in found:
            found = [path / "model.onnx"]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise SpecError(f"{path} should hold model.onnx or exactly one ONNX file (found: {names}); name the file")
        path = found[0]
    if not path.is_file():
        raise SpecError(f"there is no file {path}; make one with: netadapt-trt export RUN -o {path}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
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
        record=find_record(path, digest) or {},
    )


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx's own dependency, without types

    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise FileFormatError(f"{path} is not an ONNX model; bench takes the file that export wrote") from error
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


def _recorded(artifact: Artifact, key: str) -> Any:
    """A condition of the promise: from its LUT's identity, else (backend) from the record."""
    conditions = artifact.promised()[1]
    return conditions.get(key) or (artifact.record.get(key) if key == "backend" else None)


def _row(backend: Backend, artifact: Artifact, timing: RoundTimings, threads: int) -> BenchRow:
    identity = backend.identity(precision=artifact.precision, batch=artifact.batch, threads=threads)
    here = identity.to_json()
    estimate, conditions = artifact.promised()
    differs = tuple((key, value, here[key]) for key, value in conditions.items() if key in here and here[key] != value)
    medians = timing.medians_ms
    return BenchRow(
        artifact=artifact,
        identity=identity,
        latency=timing.stats,
        round_medians_ms=medians,
        odd_even_ratio=timing.odd_even_ratio if min(medians) > 0 else None,
        energy=timing.energy,
        estimate_ms=estimate,
        estimate_differs=differs,
    )


def _differs_notice(row: BenchRow) -> str:
    parts = "; ".join(f"{key}: {promised} there, {here} here" for key, promised, here in row.estimate_differs)
    return f"the estimate of {row.artifact.path} was made for other conditions ({parts}); measured / estimate says little"


def _compare(first: BenchRow, other: BenchRow) -> Comparison:
    pairs = zip(first.round_medians_ms, other.round_medians_ms, strict=True)
    ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
    if not ratios:
        raise BackendError(f"{other.artifact.path} takes 0 ms by the runtime's clock; there is no ratio to it")
    p10, median, p90 = np.percentile(ratios, (10, 50, 90))
    return Comparison(
        first=first.artifact.path,
        other=other.artifact.path,
        ratio=float(median),
        p10=float(p10),
        p90=float(p90),
        rounds=len(ratios),
    )
