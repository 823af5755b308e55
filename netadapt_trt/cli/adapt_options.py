"""The options of ``adapt``. None means "not given": the defaults live in AdaptSettings alone and are only shown here."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from netadapt_trt.adapt.settings import AdaptSettings, ImportanceMethod, SearchMethod, WinnerRule

__all__ = [
    "AmpOption",
    "AugmentOption",
    "BackendOption",
    "BatchSizeOption",
    "BudgetOption",
    "ChannelsLastOption",
    "DecayOption",
    "DevicesOption",
    "DropoutOption",
    "GranularityOption",
    "GroupGranularityOption",
    "HoldoutOption",
    "ImportanceOption",
    "LabelSmoothingOption",
    "LinearGranularityOption",
    "LongEpochsOption",
    "LongLearningRateOption",
    "LongSeedsOption",
    "LutOption",
    "MaxIterationsOption",
    "MeasureOption",
    "MeasuredOption",
    "ModelArgument",
    "MomentumOption",
    "OutputOption",
    "ReductionOption",
    "ResumeOption",
    "RoundsOption",
    "SearchOption",
    "SeedOption",
    "ShortLearningRateOption",
    "ShortStepsOption",
    "TensorboardOption",
    "ThreadsOption",
    "UniformOption",
    "WeightDecayOption",
    "WinnerOption",
    "WorkersOption",
]

_DEFAULTS = {field.name: field.default for field in fields(AdaptSettings) if field.default is not MISSING}


def _option(name: str, *flags: str, help: str, default: str | None = None, panel: str | None = None, **more: Any) -> Any:
    shown = default if default is not None else str(_DEFAULTS[name])
    return typer.Option(*flags, help=help, show_default=shown, rich_help_panel=panel, **more)


_LOOP, _TRAINING, _MACHINE = "The loop", "Training", "Machine"

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="torchvision:NAME, timm:NAME, zoo:NAME, package.module:factory or path/file.py:factory.",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help="latency=0.5x, latency=4.0ms, energy=0.7x, energy@RAIL=0.7x, memory=8MiB, macs=300M, params=1.5M; repeatable.",
        show_default=False,
    ),
]
LutOption = Annotated[
    Path | None,
    typer.Option(
        "--lut", metavar="FILE", help="Measurements of the device; latency and energy need it.", show_default=False
    ),
]
BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="The runtime to measure with.", show_default="the LUT's")
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="RUN", help="The run directory to make.", show_default=False)
]
ResumeOption = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="Continue this run; needs nothing else.", show_default=False)
]
MeasuredOption = Annotated[
    Path | None,
    typer.Option(
        "--measured", metavar="FILE", help="bench.json from the device: corrects the estimate.", show_default=False
    ),
]

MaxIterationsOption = Annotated[
    int | None, _option("max_iterations", "--max-iterations", min=1, help="Most steps.", panel=_LOOP)
]
ReductionOption = Annotated[
    float | None,
    _option("reduction", "--reduction", help="First step, as a share of the uncut network's value.", panel=_LOOP),
]
DecayOption = Annotated[
    float | None, _option("decay", "--decay", help="Each step is so much of the one before.", panel=_LOOP)
]
SearchOption = Annotated[
    SearchMethod | None, _option("width_search", "--search", help="How the widest width that fits is found.", panel=_LOOP)
]
WinnerOption = Annotated[
    WinnerRule | None,
    _option("winner", "--winner", help="ratio: least accuracy lost per saving; paper: highest accuracy.", panel=_LOOP),
]
ImportanceOption = Annotated[
    ImportanceMethod | None, _option("importance", "--importance", help="Which channels stay.", panel=_LOOP)
]
GranularityOption = Annotated[
    int | None,
    _option(
        "granularity",
        "--granularity",
        min=1,
        help="Widths are multiples of this.",
        default="what the LUT's own staircase shows, else 8",
        panel=_LOOP,
    ),
]
LinearGranularityOption = Annotated[
    int | None,
    _option(
        "linear_granularity",
        "--linear-granularity",
        min=1,
        help="The same for linear layers.",
        default="64 from 1024 features on",
        panel=_LOOP,
    ),
]
GroupGranularityOption = Annotated[
    list[str] | None,
    _option(
        "group_granularity",
        "--group-granularity",
        metavar="GROUP=N",
        help="The same for one group; repeatable.",
        default="none",
        panel=_LOOP,
    ),
]
UniformOption = Annotated[
    bool | None,
    _option("uniform", "--uniform/--no-uniform", help="Train the width-multiplier baseline beside it.", panel=_LOOP),
]

ShortStepsOption = Annotated[
    int | None, _option("short_steps", "--short-steps", min=0, help="Steps of each proposal.", panel=_TRAINING)
]
ShortLearningRateOption = Annotated[
    float | None, _option("short_learning_rate", "--short-learning-rate", help="Of these steps.", panel=_TRAINING)
]
LongEpochsOption = Annotated[
    float | None, _option("long_epochs", "--long-epochs", min=0, help="Epochs of the final fine-tuning.", panel=_TRAINING)
]
LongLearningRateOption = Annotated[
    float | None,
    _option("long_learning_rate", "--long-learning-rate", help="Its peak; the schedule is cosine.", panel=_TRAINING),
]
LongSeedsOption = Annotated[
    int | None, _option("long_seeds", "--long-seeds", min=1, help="Repeat it for mean and spread.", panel=_TRAINING)
]
BatchSizeOption = Annotated[
    int | None, _option("batch_size", "--batch-size", min=1, help="Images per step.", panel=_TRAINING)
]
MomentumOption = Annotated[float | None, _option("momentum", "--momentum", help="Nesterov momentum.", panel=_TRAINING)]
WeightDecayOption = Annotated[
    float | None, _option("weight_decay", "--weight-decay", help="Of weights, not of biases and norms.", panel=_TRAINING)
]
LabelSmoothingOption = Annotated[
    float | None, _option("label_smoothing", "--label-smoothing", help="0 is none.", panel=_TRAINING)
]
DropoutOption = Annotated[
    float | None, _option("dropout", "--dropout", help="Of all dropout layers.", default="the model's", panel=_TRAINING)
]
AugmentOption = Annotated[
    bool | None, _option("augment", "--augment/--no-augment", help="Shift, crop and mirror images.", panel=_TRAINING)
]
AmpOption = Annotated[bool | None, _option("amp", "--amp/--no-amp", help="Mixed precision on CUDA.", panel=_TRAINING)]
ChannelsLastOption = Annotated[
    bool | None,
    _option(
        "channels_last",
        "--channels-last/--no-channels-last",
        help="Train with channels innermost in memory; usually faster.",
        panel=_TRAINING,
    ),
]
HoldoutOption = Annotated[
    float | None, _option("holdout", "--holdout", help="Share of the training set that scores proposals.", panel=_TRAINING)
]
SeedOption = Annotated[int | None, _option("seed", "--seed", min=0, help="Every draw follows from it.", panel=_TRAINING)]

WorkersOption = Annotated[
    int | None, _option("workers", "--workers", min=1, help="Proposals trained at once.", panel=_MACHINE)
]
DevicesOption = Annotated[
    str | None,
    _option(
        "devices",
        "--devices",
        metavar="LIST",
        help="cuda:0,cuda:1: one worker on each.",
        default="CUDA if present",
        panel=_MACHINE,
    ),
]
ThreadsOption = Annotated[
    int | None,
    _option(
        "threads_per_worker",
        "--threads",
        min=1,
        help="CPU threads of each worker.",
        default="the cores shared out",
        panel=_MACHINE,
    ),
]
MeasureOption = Annotated[
    bool | None,
    _option(
        "measure", "--measure/--no-measure", help="Time the real network where the LUT's device is here.", panel=_MACHINE
    ),
]
RoundsOption = Annotated[int | None, _option("rounds", "--rounds", min=2, help="Interleaved rounds of it.", panel=_MACHINE)]
TensorboardOption = Annotated[
    bool | None, _option("tensorboard", "--tensorboard/--no-tensorboard", help="Write logs.", panel=_MACHINE)
]
