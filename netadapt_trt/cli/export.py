"""``export``: the final network as an ONNX file, checked against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import (
    BackendOption,
    DataOption,
    ImageSizeOption,
    InputOption,
    JsonOption,
    ModelArgOption,
    NormalizeOption,
    NumClassesOption,
    PrecisionOption,
    ResetHeadOption,
    SeedOption,
    WeightsOption,
    model_spec,
)
from netadapt_trt.cli.output import Output, bytes_text
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.deploy.export import ExportRecord
    from netadapt_trt.spec import ModelSpec

__all__ = ["run"]

RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME", help="int8: qdq-ort-x86 or qdq-trt.", show_default="what the backend runs fast"
    ),
]
CalibrationOption = Annotated[
    Literal["minmax", "percentile", "entropy"],
    typer.Option("--calibration", help="int8: how the range of an activation follows from the data."),
]
CalibrationSamplesOption = Annotated[
    int, typer.Option("--calibration-samples", min=1, help="int8: training inputs that ranges are taken from.")
]

KeepFloatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        metavar="LAYER",
        help="int8: this layer stays in float; repeatable.",
        show_default=False,
    ),
]


@verb
def run(
    source: Annotated[
        str,
        typer.Argument(metavar="RUN|MODEL", help="A run, one of its network directories, or a model.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="model.onnx, or a directory for it.", show_default=False)
    ],
    precision: PrecisionOption = "fp32",
    backend: BackendOption = "ort",
    opset: Annotated[
        int | None, typer.Option("--opset", min=1, help="ONNX opset.", show_default="what the backend takes")
    ] = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    weights: WeightsOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    data: DataOption = None,
    image_size: ImageSizeOption = None,
    normalize: NormalizeOption = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Inputs that the check compares.")] = 64,
    recipe: RecipeOption = None,
    calibration: CalibrationOption = "minmax",
    calibration_samples: CalibrationSamplesOption = 256,
    keep_float: KeepFloatOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the adapted network (or any model) as ONNX, after its outputs were compared with PyTorch's on real inputs.

    Beside it goes deploy.json: checksums, preprocessing, widths, the check, the LUT used and what it promised.

    Examples:

        netadapt-trt export runs/digits -o deploy/model.onnx

        netadapt-trt export runs/digits --precision int8 --data digits --backend trt -o deploy/int8.onnx

        netadapt-trt export zoo:mobilenet_v1 --model-arg width=0.5 --model-arg stem=cifar --num-classes 10 --input 1x3x32x32 --weights seed.safetensors --data digits -o deploy/seed.onnx
    """  # noqa: E501
    with Output(as_json) as out:
        origin = _origin(source, input_shape, model_arg, num_classes, reset_head)
        from netadapt_trt.deploy.export import export_network

        record = export_network(
            origin,
            output,
            weights=weights,
            precision=precision,
            backend=backend,
            opset=opset,
            data=data,
            image_size=image_size,
            normalize=normalize,
            samples=samples,
            recipe=recipe,
            calibration=calibration,
            calibration_samples=calibration_samples,
            keep_float=keep_float or (),
            seed=seed,
            progress=out.progress,
        )
        out.result(record, lambda console: _show(console, record))


def _origin(
    source: str, input_shape: str | None, model_arg: list[str] | None, num_classes: int | None, reset_head: bool
) -> Path | ModelSpec:
    if Path(source).is_dir():
        if input_shape or model_arg or num_classes or reset_head:
            raise SpecError(f"{source} is a directory of ours, which knows its model; leave the model options out")
        return Path(source)
    if ":" not in source:
        raise SpecError(f"{source} is neither a directory nor a model; a model reads like torchvision:resnet18")
    return model_spec(source, input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)


def _show(console: Console, record: ExportRecord) -> None:
    check = record.check
    console.print(
        f"agrees with PyTorch on {check.samples} {check.inputs} inputs: largest error {check.relative_error:.2e} of the "
        f"largest output, tolerance {check.tolerance:.0e}"
    )
    if check.top1_agreement is not None and record.precision == "int8":
        console.print(f"same class as PyTorch: {check.top1_agreement:.1%} of them")
    console.print(
        f"{record.precision}, opset {record.opset}, {bytes_text(record.size_bytes)}: {record.model_path}", markup=False
    )
    console.print(f"record: {record.record_path}", markup=False)
