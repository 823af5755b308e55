"""``export``: the final network as an ONNX file for one runtime, proven equal to PyTorch before it is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from netadapt_trt.backend import load_backend
from netadapt_trt.deploy.check import TOLERANCES, NumericCheck, compare_outputs, require_agreement
from netadapt_trt.deploy.record import write_record
from netadapt_trt.deploy.source import Source, open_source
from netadapt_trt.errors import BackendError, DataError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx
    from torch import Tensor

    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Precision
    from netadapt_trt.training.data import DataSet

__all__ = ["ExportRecord", "export_network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """What was written. ``content`` is deploy.json's."""

    model_path: Path
    record_path: Path
    sha256: str
    size_bytes: int
    precision: Precision
    opset: int
    ir_version: int
    plan_hash: str
    widths: dict[str, int]
    check: NumericCheck
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _DataArguments:
    data: str | None
    image_size: int | None
    normalize: str | None
    required: bool


def export_network(
    source: Path | ModelSpec,
    output: Path,
    *,
    weights: str | None = None,
    precision: Precision = "fp32",
    backend: str = "ort",
    opset: int | None = None,
    data: str | None = None,
    image_size: int | None = None,
    normalize: str | None = None,
    samples: int = 64,
    seed: int = 0,
    progress: Progress = QUIET,
) -> ExportRecord:
    """Write ``output`` (a ``.onnx`` file, or a directory that gets ``model.onnx``) and its deploy.json.

    ``source`` is a run, one of its network directories, or a model by name with ``weights``. ``backend`` decides opset and
    IR version (``opset`` overrides). The file is compared with PyTorch on ``samples`` test inputs of ``data``, default the
    run's own data set, else random inputs.

    Raises:
        BackendError: int8 (not there yet), or ONNX Runtime cannot run the file.
        CheckError: the file computes something else than PyTorch; nothing is written.
        SpecError, DataError, WeightsError, FileFormatError, TraceError: what the arguments name is not usable.
    """
    _require_precision(precision)
    if samples < 1:
        raise SpecError(f"the numerical check needs at least one input, not {samples}")
    target = load_backend(backend)
    if precision not in target.precisions():
        progress.notice(f"{backend} does not serve {precision}; the file is meant for a runtime that does (TensorRT)")
    with progress.task("opening the network", None):
        opened = open_source(source, weights, progress=progress)
    chosen = target.opset() if opset is None else (opset, _ir_version(opset))
    with progress.task("writing ONNX", None):
        model = _onnx_model(opened, precision, chosen)
    stored = opened.data
    if isinstance(source, ModelSpec) and data is not None:
        normalize = _as_weights_want(source, weights, data, normalize, progress)
    _require_used(stored, data, image_size, normalize, progress)
    arguments = _DataArguments(
        data=data if data is not None else stored.get("data"),
        image_size=image_size if image_size is not None else stored.get("image_size"),
        normalize=normalize if normalize is not None else stored.get("normalize"),
        required=data is not None,
    )
    dataset = _open_data(arguments, opened.network.spec, progress)
    serialized = model.SerializeToString()
    with progress.task("comparing with PyTorch", None):
        check = _check(opened, serialized, dataset, precision, samples, seed)
    require_agreement(check, f"the {precision} ONNX model")
    path = output if output.suffix == ".onnx" else output / "model.onnx"
    return _write(path, serialized, model, opened, precision, backend, dataset, check)


def _as_weights_want(spec: ModelSpec, weights: str | None, data: str, asked: str | None, progress: Progress) -> str | None:
    from netadapt_trt.training.weights_preprocessing import choose_normalization

    return choose_normalization(asked, data=data, weights=weights, spec=spec, progress=progress)


def _require_used(
    stored: Mapping[str, Any], data: str | None, image_size: int | None, normalize: str | None, progress: Progress
) -> None:
    """No option is passed over in silence."""
    if data is None and stored.get("data") is None and (image_size is not None or normalize is not None):
        raise SpecError("--image-size and --normalize say how the data are opened; add --data, or leave them out")
    known = stored.get("normalize")
    if normalize is not None and known not in (None, normalize):
        progress.notice(
            f"the network was trained with inputs normalised by {known}; --normalize {normalize} is used instead"
        )


def _trained_with(source: Source) -> dict[str, Any] | None:
    """The preprocessing for deploy.json where no data set is here to tell it; pictures have the size of the input."""
    if source.preprocessing is None:
        return None
    size = source.preprocessing.image_size
    return replace(source.preprocessing, image_size=size and source.network.spec.input_shape[-1]).to_json()


def _require_precision(precision: str) -> None:
    if precision == "int8":
        raise BackendError("int8 comes with the next version; export fp32, or fp16 for a runtime that serves it")
    if precision not in TOLERANCES:
        raise SpecError(f"unknown precision {precision!r}; known: {', '.join(TOLERANCES)}, int8")


def _ir_version(opset: int) -> int:
    import onnx

    try:
        return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))
    except ValueError as error:
        raise SpecError(f"opset {opset} is not known to the installed onnx {onnx.__version__}") from error


def _onnx_model(source: Source, precision: Precision, target: tuple[int, int]) -> onnx.ModelProto:
    """The checked model with its identity in ``metadata_props``."""
    import onnx

    from netadapt_trt.graph.export import export_onnx

    opset, ir_version = target
    spec = source.network.spec
    model = export_onnx(source.network.model, spec.input_shape, opset=opset)
    if precision == "fp16":
        model = _half(model)
    model.ir_version = ir_version
    for key, value in {
        "netadapt.model": spec.model,
        "netadapt.plan_hash": source.plan_hash,
        "netadapt.widths": json.dumps(dict(source.network.widths)),
        "netadapt.precision": precision,
    }.items():
        entry = next((entry for entry in model.metadata_props if entry.key == key), None) or model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    return model


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """fp16 weights and arithmetic, fp32 input and output."""
    try:
        import onnx_ir
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise BackendError(f"fp16 export needs {error.name}; run: pip install 'netadapt-trt[ort,torch]'") from error
    with warnings.catch_warnings():
        # It warns of every weight that fp16 cannot hold exactly; the comparison with PyTorch judges the sum of them.
        warnings.simplefilter("ignore", UserWarning)
        converted = onnx_ir.from_proto(convert_float_to_float16(model, keep_io_types=True))
    # The conversion appends its casts at the end of the graph; ONNX wants producers before consumers.
    converted.graph.sort()
    proto: onnx.ModelProto = onnx_ir.to_proto(converted)
    return proto


def _open_data(arguments: _DataArguments, spec: ModelSpec, progress: Progress) -> DataSet | None:
    if arguments.data is None:
        progress.notice("no data set is given: the comparison with PyTorch uses random inputs")
        return None
    from netadapt_trt.training.data import open_data

    try:
        return open_data(
            arguments.data,
            image_size=arguments.image_size,
            normalize=arguments.normalize,
            input_shape=spec.input_shape,
        )
    except (DataError, SpecError) as error:
        if arguments.required:
            raise
        progress.notice(f"the run's data set is not here, so the comparison uses random inputs: {error}")
        return None


def _check(
    source: Source, model: bytes, dataset: DataSet | None, precision: Precision, samples: int, seed: int
) -> NumericCheck:
    shape = source.network.spec.input_shape
    kind: Literal["data", "random"] = "random" if dataset is None else "data"
    batches = _random_batches(shape, samples, seed) if dataset is None else _data_batches(dataset, shape, samples)
    return compare_outputs(source.network.model, model, batches, inputs=kind, tolerance=TOLERANCES[precision])


def _data_batches(dataset: DataSet, shape: tuple[int, ...], samples: int) -> Iterator[Tensor]:
    """Test inputs from all over the set; a file with a fixed batch takes whole batches, so the first may repeat."""
    import numpy as np

    batch = shape[0]
    count = -(-min(samples, len(dataset.test)) // batch) * batch
    chosen = np.linspace(0, len(dataset.test) - 1, count).round().astype(np.int64)
    split = dataset.test.subset(chosen)
    for inputs, _ in split.batches(batch, shuffle_seed=None, augment=False, device="cpu", channels_last=False):
        yield inputs


def _random_batches(shape: tuple[int, ...], samples: int, seed: int) -> Iterator[Tensor]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(-(-samples // shape[0])):
        yield torch.randn(shape, generator=generator)


def _write(
    path: Path,
    serialized: bytes,
    model: onnx.ModelProto,
    source: Source,
    precision: Precision,
    backend: str,
    dataset: DataSet | None,
    check: NumericCheck,
) -> ExportRecord:
    digest = hashlib.sha256(serialized).hexdigest()
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    widths = {name: int(width) for name, width in source.network.widths.items()}
    content: dict[str, Any] = {
        "files": {path.name: {"sha256": digest, "size_bytes": len(serialized)}},
        "model": source.network.spec.to_json(),
        "plan_hash": source.plan_hash,
        "widths": widths,
        "precision": precision,
        "backend": backend,
        "opset": opset,
        "ir_version": model.ir_version,
        "inputs": _values(model.graph.input),
        "outputs": _values(model.graph.output),
        "preprocessing": _trained_with(source) if dataset is None else dataset.preprocessing.to_json(),
        "classes": None if dataset is None else list(dataset.classes),
        "source": dict(source.origin),
        "promise": dict(source.promise),
        "lut": None if source.lut is None else dict(source.lut),
        "check": check.to_json(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
    }
    write_atomic(path, serialized)
    record = ExportRecord(
        model_path=path,
        record_path=path,
        sha256=digest,
        size_bytes=len(serialized),
        precision=precision,
        opset=opset,
        ir_version=model.ir_version,
        plan_hash=source.plan_hash,
        widths=widths,
        check=check,
        content=content,
    )
    return replace(record, record_path=write_record(path, content))


def _values(values: Any) -> list[dict[str, Any]]:
    import onnx

    return [
        {
            "name": value.name,
            "shape": [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            "dtype": str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
        }
        for value in values
    ]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("netadapt-trt", "torch", "onnx", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
