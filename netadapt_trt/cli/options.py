"""Options that several verbs share, each defined once, and how they become the library's own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import ModelSpec, Precision, parse_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "AmpOption",
    "AugmentOption",
    "BackendOption",
    "BatchSizeOption",
    "DataOption",
    "DeviceOption",
    "ImageSizeOption",
    "InputOption",
    "JsonOption",
    "LabelSmoothingOption",
    "LearningRateOption",
    "ModelArgOption",
    "ModelArgument",
    "MomentumOption",
    "NormalizeOption",
    "NumClassesOption",
    "PrecisionOption",
    "ResetHeadOption",
    "SeedOption",
    "ThreadsOption",
    "WarmupStepsOption",
    "WeightDecayOption",
    "WeightsOption",
    "model_spec",
    "parse_model_args",
    "require_given",
]

_MODEL_HELP = "torchvision:NAME, timm:NAME, zoo:NAME, package.module:factory or path/file.py:factory"

ModelArgument = Annotated[str, typer.Argument(help=_MODEL_HELP, metavar="MODEL", show_default=False)]
ModelArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg", metavar="KEY=VALUE", help="An argument of the model's factory; repeatable.", show_default=False
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option("--input", metavar="SHAPE", help="Input shape with the batch, such as 1x3x224x224.", show_default=False),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights: .safetensors, .pt, .pth, or torchvision:DEFAULT for the published ones.",
        show_default=False,
    ),
]
NumClassesOption = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="Classes of the output layer.", show_default=False)
]
ResetHeadOption = Annotated[
    bool, typer.Option("--reset-head", help="Replace the output layer by a fresh one of --num-classes.", show_default=False)
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="digits, imagefolder:DIR, cifar10:DIR, cifar100:DIR, fashion-mnist:DIR or module:factory.",
        show_default=False,
    ),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", min=1, help="Side that images are resized to.", show_default="the input's height"),
]
NormalizeOption = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        metavar="NAME",
        help="imagenet, cifar10, none or MEAN/STD (0.5,0.5,0.5/0.2,0.2,0.2).",
        show_default="the weights', else the data set's",
    ),
]
BackendOption = Annotated[
    str, typer.Option("--backend", metavar="NAME", help="The runtime: ort, trt, trt_rtx, fake or an installed plugin.")
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="What the runtime computes in.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the runtime.", show_default="physical cores")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Every random draw follows from it.")]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images per training step.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="Where training runs: cpu, cuda, cuda:1.")]
# Of a whole training, as in train and search child.
LearningRateOption = Annotated[float, typer.Option("--learning-rate", help="Peak of the cosine schedule.")]
MomentumOption = Annotated[float, typer.Option("--momentum", help="Nesterov momentum.")]
WeightDecayOption = Annotated[float, typer.Option("--weight-decay", help="Of weights only, not of biases and norms.")]
WarmupStepsOption = Annotated[int, typer.Option("--warmup-steps", min=0, help="Steps of linear warm-up.")]
LabelSmoothingOption = Annotated[float, typer.Option("--label-smoothing", help="0 is none.")]
AugmentOption = Annotated[bool, typer.Option("--augment/--no-augment", help="Shift, crop and mirror training images.")]
AmpOption = Annotated[bool, typer.Option("--amp/--no-amp", help="Mixed precision on CUDA.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout; progress stays on stderr.", show_default=False)
]


def require_given(verb: str, given: Collection[str], needed: Mapping[str, tuple[str, str]], *, resume: str = "") -> None:
    """``needed``: by its name in ``given``, what ``verb`` cannot do without, in words, and how to give it for example.

    ``resume``: what would go on with an earlier run instead.

    Raises:
        SpecError: some of it was not given.
    """
    missing = [(what, hint) for name, (what, hint) in needed.items() if name not in given]
    if missing:
        words, hints = " and ".join(what for what, _ in missing), " ".join(hint for _, hint in missing)
        instead = f" (or go on with one: {resume})" if resume else ""
        raise SpecError(f"{verb} needs {words}; add for example {hints}{instead}")


def parse_model_args(pairs: Sequence[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` strings as a mapping.

    Raises:
        SpecError: no ``=``, no key, or the same key twice.
    """
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise SpecError(f"--model-arg {pair!r} is not understood; write KEY=VALUE, for example --model-arg width=0.5")
        if key in found:
            raise SpecError(f"--model-arg {key} is given twice")
        found[key] = value
    return found


def model_spec(
    model: str,
    input_shape: str | None,
    model_arg: Sequence[str] | None = None,
    *,
    num_classes: int | None = None,
    reset_head: bool = False,
) -> ModelSpec:
    """The network that the common model options describe. Raises SpecError."""
    if input_shape is None:
        raise SpecError(f"which input does {model} take? Add --input, for example --input 1x3x224x224")
    if reset_head and num_classes is None:
        raise SpecError("--reset-head needs --num-classes: how many outputs should the new layer have?")
    return ModelSpec(
        model=model,
        input_shape=parse_shape(input_shape),
        args=parse_model_args(model_arg),
        num_classes=num_classes,
        reset_head=reset_head,
    )
