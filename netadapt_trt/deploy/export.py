"""``export``: the final network as an ONNX file for one runtime, proven equal to PyTorch before it is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from netadapt_trt.backend import load_backend
from netadapt_trt.deploy.calibrate import CALIBRATIONS, Calibration
from netadapt_trt.deploy.check import MIN_AGREEMENT, TOLERANCES, NumericCheck, compare_outputs, require_agreement
from netadapt_trt.deploy.record import write_record
from netadapt_trt.deploy.source import Source, open_source
from netadapt_trt.errors import DataError, SpecError
from netadapt_trt.files import write_atomic
from netadapt_trt.progress import QUIET
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx
    from torch import Tensor

    from netadapt_trt.plan.precision import Ranges
    from netadapt_trt.progress import Progress
    from netadapt_trt.spec import Precision
    from netadapt_trt.training.split import DataSet, Split

__all__ = ["ExportRecord", "export_network"]

_EXPLAINED = 32  # inputs that a failed int8 export is taken apart on


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
class _Int8:
    recipe: str
    method: Calibration
    samples: int
    keep_float: tuple[str, ...] = ()


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
    recipe: str | None = None,
    calibration: Calibration = "minmax",
    calibration_samples: int = 256,
    keep_float: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = QUIET,
) -> ExportRecord:
    """Write ``output`` (a ``.onnx`` file, or a directory that gets ``model.onnx``) and its deploy.json.

    ``source`` is a run, one of its network directories, or a model by name with ``weights``. ``backend`` decides opset and
    IR version (``opset`` overrides). The file is compared with PyTorch on ``samples`` test inputs of ``data``, default the
    run's own data set, else random inputs.

    int8 takes a data set: activations are calibrated on ``calibration_samples`` training inputs by method ``calibration``,
    and quantised by ``recipe``, default what ``backend`` runs fast. Its result must also agree on the class of test inputs.
    Layers in ``keep_float``, by their names in the network, stay in float.

    Raises:
        BackendError: ONNX Runtime is missing or cannot run the file.
        CheckError: the file computes something else than PyTorch; nothing is written.
        SpecError, DataError, WeightsError, FileFormatError, TraceError: what the arguments name is not usable.
    """
    if precision not in TOLERANCES:
        raise SpecError(f"unknown precision {precision!r}; known: {', '.join(TOLERANCES)}")
    if samples < 1:
        raise SpecError(f"the numerical check needs at least one input, not {samples}")
    int8 = _int8_settings(backend, recipe, calibration, calibration_samples, keep_float) if precision == "int8" else None
    if int8 is None and keep_float:
        raise SpecError(f"--keep-float is for int8; in {precision} there is nothing to keep")
    target = load_backend(backend)
    if precision not in target.precisions():
        progress.notice(
            f"{backend} does not serve {precision}; the file is meant for a runtime that does: for TensorRT add "
            f"--backend trt, which also chooses the opset that it reads"
        )
    with progress.task("opening the network", None):
        opened = open_source(source, weights, progress=progress)
    chosen = target.opset() if opset is None else (opset, _ir_version(opset))
    if isinstance(source, ModelSpec) and data is not None:
        normalize = _as_weights_want(source, weights, data, normalize, progress)
    _require_used(opened.data, data, image_size, normalize, progress)
    arguments = _data_arguments(opened, data, image_size, normalize, required=int8 is not None)
    dataset = _open_data(arguments, opened.network.spec, progress)
    with progress.task("writing ONNX", None):
        model = _onnx_model(opened, precision, chosen)
    exact, ranges = model, None
    if int8 is not None and dataset is not None:
        model, ranges = _quantised(exact, opened.network.spec.input_shape, dataset, int8, progress)
    serialized = model.SerializeToString()
    with progress.task("comparing with PyTorch", None):
        check = _check(opened, serialized, dataset, precision, samples, seed)
    reason = None
    if int8 is not None and dataset is not None and ranges is not None and not check.passed:
        with progress.task("looking for the layers that differ", None):
            reason = _reason(exact, model, ranges, opened.network.spec.input_shape, dataset, min(samples, _EXPLAINED), int8)
    require_agreement(check, f"the {precision} ONNX model", reason)
    path = output if output.suffix == ".onnx" else output / "model.onnx"
    return _write(path, serialized, model, opened, precision, backend, dataset, check, int8)


def _int8_settings(backend: str, recipe: str | None, method: Calibration, samples: int, keep_float: Sequence[str]) -> _Int8:
    from netadapt_trt.plan.precision import RECIPES, recipe_of_backend

    recipe = recipe or recipe_of_backend(backend)
    if recipe not in RECIPES:
        raise SpecError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    if method not in CALIBRATIONS:
        raise SpecError(f"unknown calibration {method!r}; known: {', '.join(CALIBRATIONS)}")
    if samples < 1:
        raise SpecError(f"calibration needs at least one input, not {samples}")
    return _Int8(recipe=recipe, method=method, samples=samples, keep_float=tuple(keep_float))


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


def _ir_version(opset: int) -> int:
    import onnx

    try:
        return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))
    except ValueError as error:
        raise SpecError(f"opset {opset} is not known to the installed onnx {onnx.__version__}") from error


def _onnx_model(source: Source, precision: Precision, target: tuple[int, int]) -> onnx.ModelProto:
    """The checked model with its identity in ``metadata_props``; int8 is still fp32 here."""
    import onnx

    from netadapt_trt.graph.export import export_onnx
    from netadapt_trt.plan.precision import to_fp16

    opset, ir_version = target
    spec = source.network.spec
    model = export_onnx(source.network.model, spec.input_shape, opset=opset)
    if precision == "fp16":
        model = to_fp16(model)
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


def _quantised(
    model: onnx.ModelProto, shape: tuple[int, ...], dataset: DataSet, int8: _Int8, progress: Progress
) -> tuple[onnx.ModelProto, Ranges]:
    """int8 with ranges as the training data show them, and those: the test set judges the file, so it takes no part."""
    import onnx

    from netadapt_trt.deploy.calibrate import activation_ranges
    from netadapt_trt.plan.precision import calibrated_tensors, to_int8

    tensors = calibrated_tensors(model, int8.recipe, int8.keep_float)
    split = _spread(dataset.train, shape, int8.samples)
    ranges = activation_ranges(
        model,
        tensors,
        lambda: (inputs.numpy() for inputs in _batches(split, shape)),
        method=int8.method,
        samples=len(split),
        progress=progress,
    )
    quantised = to_int8(model, recipe=int8.recipe, ranges=ranges, keep=int8.keep_float)
    quantised.metadata_props.append(onnx.StringStringEntryProto(key="netadapt.recipe", value=int8.recipe))
    onnx.checker.check_model(quantised)
    return quantised, ranges


def _reason(
    exact: onnx.ModelProto,
    quantised: onnx.ModelProto,
    ranges: Ranges,
    shape: tuple[int, ...],
    dataset: DataSet,
    samples: int,
    int8: _Int8,
) -> str:
    """Which layers an int8 model goes wrong in, on test inputs, and what to try."""
    from netadapt_trt.deploy.quantisation_error import advice, explain, layer_errors

    batches = (inputs.numpy() for inputs in _batches(_spread(dataset.test, shape, samples), shape))
    errors = layer_errors(exact, quantised, ranges, batches)
    return f"{explain(errors)}. What to try: {advice(errors, int8.method, min(int8.samples, len(dataset.train)))}"


def _data_arguments(
    source: Source, data: str | None, image_size: int | None, normalize: str | None, *, required: bool
) -> _DataArguments:
    """What was asked, else what the run opened its data with. Raises DataError for a ``required`` set that nobody names."""
    stored = source.data
    name = data if data is not None else stored.get("data")
    if required and name is None:
        raise DataError("int8 export needs data to calibrate activations on; name the data set with --data")
    return _DataArguments(
        data=name,
        image_size=image_size if image_size is not None else stored.get("image_size"),
        normalize=normalize if normalize is not None else stored.get("normalize"),
        required=required or data is not None,
    )


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
    if dataset is None:
        batches = _random_batches(shape, samples, seed)
    else:
        batches = _batches(_spread(dataset.test, shape, samples), shape)
    return compare_outputs(
        source.network.model,
        model,
        batches,
        inputs=kind,
        tolerance=TOLERANCES[precision],
        min_agreement=MIN_AGREEMENT.get(precision),
    )


def _spread(split: Split, shape: tuple[int, ...], samples: int) -> Split:
    """Examples from all over the set; a file with a fixed batch takes whole batches, so the first may repeat."""
    import numpy as np

    batch = shape[0]
    count = -(-min(samples, len(split)) // batch) * batch
    return split.subset(np.linspace(0, len(split) - 1, count).round().astype(np.int64))


def _batches(split: Split, shape: tuple[int, ...]) -> Iterator[Tensor]:
    for inputs, _ in split.batches(shape[0], shuffle_seed=None, augment=False, device="cpu", channels_last=False):
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
    int8: _Int8 | None,
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
        "quantisation": None if int8 is None else asdict(int8),
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
