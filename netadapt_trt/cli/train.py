"""``train``: a seed network, when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import (
    AmpOption,
    AugmentOption,
    BatchSizeOption,
    DataOption,
    DeviceOption,
    ImageSizeOption,
    InputOption,
    JsonOption,
    LabelSmoothingOption,
    LearningRateOption,
    ModelArgOption,
    ModelArgument,
    MomentumOption,
    NormalizeOption,
    NumClassesOption,
    ResetHeadOption,
    SeedOption,
    WarmupStepsOption,
    WeightDecayOption,
    WeightsOption,
    model_spec,
)
from netadapt_trt.cli.output import Output
from netadapt_trt.errors import SpecError

__all__ = ["run"]


@verb
def run(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The .safetensors file to write.", show_default=False)
    ],
    data: DataOption = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    weights: WeightsOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    image_size: ImageSizeOption = None,
    normalize: NormalizeOption = None,
    epochs: Annotated[float, typer.Option("--epochs", min=0, help="Passes over the training set.")] = 10,
    batch_size: BatchSizeOption = 128,
    learning_rate: LearningRateOption = 0.05,
    momentum: MomentumOption = 0.9,
    weight_decay: WeightDecayOption = 1e-4,
    warmup_steps: WarmupStepsOption = 0,
    label_smoothing: LabelSmoothingOption = 0.0,
    dropout: Annotated[
        float | None, typer.Option("--dropout", help="Probability of all dropout layers.", show_default="the model's")
    ] = None,
    augment: AugmentOption = True,
    amp: AmpOption = False,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", metavar="DIR", help="TensorBoard logs.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on all of the training set and score it on the test set. An interrupted training continues.

    Writes FILE.safetensors and a record beside it (FILE.json: model, data, preprocessing, settings, accuracy).

    Example:

        netadapt-trt train zoo:mobilenet_v1 --model-arg width=0.5 --model-arg stem=cifar --num-classes 10 --input 1x3x32x32 --data digits --epochs 5 --batch-size 64 -o seed.safetensors
    """  # noqa: E501
    with Output(as_json) as out:
        spec = model_spec(model, input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)
        if data is None:
            raise SpecError("which data? Add --data, for example --data digits or --data imagefolder:DIR")
        from netadapt_trt.training.data import open_data
        from netadapt_trt.training.fine_tune import FineTune
        from netadapt_trt.training.seed_network import train_network
        from netadapt_trt.training.weights_preprocessing import choose_normalization

        settings = FineTune(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule="cosine",
            warmup_steps=warmup_steps,
            label_smoothing=label_smoothing,
            dropout=dropout,
            augment=augment,
            seed=seed,
            device=device,
            amp=amp,
        )
        normalize = choose_normalization(normalize, data=data, weights=weights, spec=spec, progress=out.progress)
        images = open_data(
            data, input_shape=spec.input_shape, image_size=image_size, normalize=normalize, progress=out.progress
        )
        record = train_network(spec, weights, images, settings, output, progress=out.progress, log_dir=log_dir)
        out.result(
            {**record, "output": str(output)},
            lambda console: console.print(f"test accuracy {record['accuracy']:.2%}, weights: {output}", markup=False),
        )
