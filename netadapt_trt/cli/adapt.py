"""``adapt``: the NetAdapt loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from netadapt_trt.cli import adapt_options as opt
from netadapt_trt.cli.errors import fail, verb
from netadapt_trt.cli.options import (
    DataOption,
    ImageSizeOption,
    InputOption,
    JsonOption,
    ModelArgOption,
    NormalizeOption,
    NumClassesOption,
    ResetHeadOption,
    WeightsOption,
    model_spec,
    require_given,
)
from netadapt_trt.cli.output import Output
from netadapt_trt.cli.result_table import show_result
from netadapt_trt.errors import BudgetError, SpecError
from netadapt_trt.spec import parse_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["run"]


@verb
def run(
    model: opt.ModelArgument = None,
    output: opt.OutputOption = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    weights: WeightsOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    data: DataOption = None,
    image_size: ImageSizeOption = None,
    normalize: NormalizeOption = None,
    lut: opt.LutOption = None,
    budgets: opt.BudgetOption = None,
    backend: opt.BackendOption = None,
    resume: opt.ResumeOption = None,
    measured: opt.MeasuredOption = None,
    max_iterations: opt.MaxIterationsOption = None,
    reduction: opt.ReductionOption = None,
    decay: opt.DecayOption = None,
    width_search: opt.SearchOption = None,
    winner: opt.WinnerOption = None,
    importance: opt.ImportanceOption = None,
    granularity: opt.GranularityOption = None,
    linear_granularity: opt.LinearGranularityOption = None,
    group_granularity: opt.GroupGranularityOption = None,
    uniform: opt.UniformOption = None,
    short_steps: opt.ShortStepsOption = None,
    short_learning_rate: opt.ShortLearningRateOption = None,
    long_epochs: opt.LongEpochsOption = None,
    long_learning_rate: opt.LongLearningRateOption = None,
    long_seeds: opt.LongSeedsOption = None,
    batch_size: opt.BatchSizeOption = None,
    momentum: opt.MomentumOption = None,
    weight_decay: opt.WeightDecayOption = None,
    label_smoothing: opt.LabelSmoothingOption = None,
    dropout: opt.DropoutOption = None,
    augment: opt.AugmentOption = None,
    amp: opt.AmpOption = None,
    channels_last: opt.ChannelsLastOption = None,
    holdout: opt.HoldoutOption = None,
    seed: opt.SeedOption = None,
    workers: opt.WorkersOption = None,
    devices: opt.DevicesOption = None,
    threads_per_worker: opt.ThreadsOption = None,
    measure: opt.MeasureOption = None,
    rounds: opt.RoundsOption = None,
    tensorboard: opt.TensorboardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shrink a network step by step until the budgets hold, then fine-tune it. Kill it at will, `--resume` goes on.

    Each step, every channel group proposes the width that meets the step's target by the LUT; each proposal is fine-tuned
    briefly and scored on held-out training images; the best one stays. Ends with 1 where the budget is out of reach.

    Examples:

        netadapt-trt adapt zoo:mobilenet_v1 --model-arg width=0.5 --model-arg stem=cifar --num-classes 10 --input 1x3x32x32 --weights seed.safetensors --data digits --lut cpu.lut.jsonl --budget latency=0.6x --reduction 0.12 --short-steps 6 --long-epochs 4 --batch-size 64 -o runs/other

        netadapt-trt adapt --resume runs/digits
    """  # noqa: E501
    given = _given(locals())
    with Output(as_json) as out:
        if resume is not None:
            directory = resume
            start = _resume(resume, model, given, out)
        else:
            given["spec"] = model_spec(_model(model), input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)
            start = _start(given, out)
            directory = given["output"]
        failure = None
        try:
            start()
        except BudgetError as error:
            failure = error
            if not (directory / "result.json").is_file():
                raise
        result = {**json.loads((directory / "result.json").read_text()), "run": str(directory)}
        out.result(result, lambda console: show_result(console, result))
    if failure is not None:
        fail(failure)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, by their name in AdaptSettings and in its types."""
    ours = {"model", "input_shape", "model_arg", "num_classes", "reset_head", "resume", "as_json"}
    given = {name: value for name, value in arguments.items() if name not in ours and value is not None and value != []}
    if "budgets" in given:
        given["budgets"] = tuple(parse_budget(text) for text in given["budgets"])
    if "devices" in given:
        given["devices"] = tuple(name.strip() for name in given["devices"].split(",") if name.strip())
    if "group_granularity" in given:
        given["group_granularity"] = dict(_group_granularity(text) for text in given["group_granularity"])
    return given


def _group_granularity(text: str) -> tuple[str, int]:
    group, equals, number = text.rpartition("=")
    if not equals or not group or not number.isdecimal():
        raise SpecError(f"--group-granularity {text!r} is not understood; write GROUP=N, for example classifier.1=64")
    return group, int(number)


def _model(model: str | None) -> str:
    if model is None:
        raise SpecError("which network? Name a MODEL, or continue a run with --resume RUN")
    return model


_NEEDED = {
    "data": ("data to train on", "--data digits"),
    "output": ("a directory for the run", "-o runs/first"),
    "budgets": ("a budget", "--budget latency=0.6x"),
}
"""What a new run cannot do without: in words, and how to give it."""


def _start(given: dict[str, Any], out: Output) -> Callable[[], object]:
    from netadapt_trt.adapt.settings import AdaptSettings

    require_given("adapt", given, _NEEDED)
    settings = AdaptSettings(**given)
    from netadapt_trt.adapt.run import adapt

    return lambda: adapt(settings, progress=out.progress)


def _resume(directory: Path, model: str | None, given: dict[str, Any], out: Output) -> Callable[[], object]:
    if model is not None:
        raise SpecError(f"{directory} has its model already; leave out {model} (a new run takes one, with -o)")
    from netadapt_trt.adapt.run import resume

    return lambda: resume(directory, overrides=given, progress=out.progress)
