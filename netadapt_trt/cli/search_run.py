"""``search run``: the search itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import DataOption, ImageSizeOption, JsonOption, NormalizeOption, require_given
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.errors import SpecError
from netadapt_trt.search.settings import Paths, SearchSettings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["parse_amount", "run"]

_DEFAULTS = {field.name: field.default for field in fields(SearchSettings) if field.default is not MISSING}
_LOSS, _TRAINING, _MACHINE = "The loss", "Training", "Machine"


def _option(name: str, *flags: str, help: str, panel: str, default: str | None = None, **more: Any) -> Any:
    shown = str(_DEFAULTS[name]) if default is None else default
    return typer.Option(*flags, help=help, show_default=shown, rich_help_panel=panel, **more)


SpaceOption = Annotated[
    str | None, typer.Option("--space", metavar="SPACE", help="A preset, or a JSON file of a space.", show_default=False)
]
TableOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="What blocks cost: a LUT of this space, or HANNA's text files; twice for latency and energy in two files.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="RUN", help="The directory to make.", show_default=False)
]
ResumeOption = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this search.", show_default=False)
]
AlphaOption = Annotated[float | None, _option("alpha", "--alpha", help="Factor of latency.", panel=_LOSS)]
BetaOption = Annotated[float | None, _option("beta", "--beta", help="Power of latency, in seconds.", panel=_LOSS)]
GammaOption = Annotated[float | None, _option("gamma", "--gamma", help="Factor of energy.", panel=_LOSS)]
DeltaOption = Annotated[float | None, _option("delta", "--delta", help="Power of energy, in joules.", panel=_LOSS)]
LatencyTargetOption = Annotated[
    str | None,
    _option(
        "latency_target_ms",
        "--latency-target",
        metavar="TIME",
        help="What the child may take, as 4ms; alpha is then set by the search.",
        panel=_LOSS,
        default="none",
    ),
]
EnergyTargetOption = Annotated[
    str | None,
    _option(
        "energy_target_mj",
        "--energy-target",
        metavar="ENERGY",
        help="What the child may spend, as 2mJ; gamma is then set by the search.",
        panel=_LOSS,
        default="none",
    ),
]
PathsOption = Annotated[
    Paths | None,
    _option(
        "paths",
        "--paths",
        help="all: every candidate runs, as in FBNet; sampled: one or two a step, several times faster.",
        panel=_TRAINING,
    ),
]
EpochsOption = Annotated[int | None, _option("epochs", "--epochs", min=1, help="With the warm-up.", panel=_TRAINING)]
WarmupOption = Annotated[
    int | None,
    _option("warmup_epochs", "--warmup-epochs", min=0, help="First epochs, in which only weights learn.", panel=_TRAINING),
]
BatchOption = Annotated[int | None, _option("batch_size", "--batch-size", min=2, help="Images per step.", panel=_TRAINING)]
RateOption = Annotated[
    float | None,
    _option("learning_rate", "--learning-rate", help="Of the weights; falls along a cosine.", panel=_TRAINING),
]
MomentumOption = Annotated[float | None, _option("momentum", "--momentum", help="Of the weights.", panel=_TRAINING)]
DecayOption = Annotated[
    float | None, _option("weight_decay", "--weight-decay", help="Of the weights, not of norms.", panel=_TRAINING)
]
ThetaRateOption = Annotated[
    float | None, _option("theta_learning_rate", "--theta-learning-rate", help="Of Adam on theta.", panel=_TRAINING)
]
ThetaStartOption = Annotated[
    float | None, _option("theta_start", "--theta-start", help="What every theta begins with.", panel=_TRAINING)
]
ThetaShareOption = Annotated[
    float | None,
    _option("theta_share", "--theta-share", help="Of the training set, on which theta learns.", panel=_TRAINING),
]
TemperatureOption = Annotated[
    float | None, _option("temperature", "--temperature", help="Of the Gumbel-softmax at first.", panel=_TRAINING)
]
TemperatureDecayOption = Annotated[
    float | None,
    _option("temperature_decay", "--temperature-decay", help="Times this after each epoch.", panel=_TRAINING),
]
ClipOption = Annotated[
    float | None,
    _option("gradient_clip", "--gradient-clip", help="Largest norm of the weights' gradient.", panel=_TRAINING),
]
AugmentOption = Annotated[
    bool | None,
    _option("augment", "--augment/--no-augment", help="Shift and mirror what weights learn on.", panel=_TRAINING),
]
SeedOption = Annotated[
    int | None, _option("seed", "--seed", min=0, help="Every random draw follows from it.", panel=_TRAINING)
]
DeviceOption = Annotated[
    str | None, _option("device", "--device", metavar="DEVICE", help="cpu, cuda, cuda:1.", panel=_MACHINE)
]
ThreadsOption = Annotated[
    int | None,
    _option("threads", "--threads", min=1, help="Of the CPU.", panel=_MACHINE, default="as torch takes"),
]
TensorboardOption = Annotated[
    bool | None,
    _option("tensorboard", "--tensorboard/--no-tensorboard", help="Write RUN/tensorboard.", panel=_MACHINE),
]


@verb
def run(
    output: OutputOption = None,
    resume: ResumeOption = None,
    space: SpaceOption = None,
    tables: TableOption = None,
    data: DataOption = None,
    image_size: ImageSizeOption = None,
    normalize: NormalizeOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    gamma: GammaOption = None,
    delta: DeltaOption = None,
    latency_target: LatencyTargetOption = None,
    energy_target: EnergyTargetOption = None,
    paths: PathsOption = None,
    epochs: EpochsOption = None,
    warmup_epochs: WarmupOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    momentum: MomentumOption = None,
    weight_decay: DecayOption = None,
    theta_learning_rate: ThetaRateOption = None,
    theta_start: ThetaStartOption = None,
    theta_share: ThetaShareOption = None,
    temperature: TemperatureOption = None,
    temperature_decay: TemperatureDecayOption = None,
    gradient_clip: ClipOption = None,
    augment: AugmentOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    tensorboard: TensorboardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the blocks of a network: accuracy, latency and energy in one loss. Kill it at will, `--resume` goes on.

    Says vLAT, vENER and both dominance ratios before anything is trained. Weights learn on 80 % of the training set, theta
    on the rest; `search child` then trains the most probable network.

    Examples:

        netadapt-trt search run --space fbnet-small --table small.lut.jsonl --data cifar10:data --latency-target 60us --paths sampled -o runs/search

        netadapt-trt search run --space fbnet-cifar --table rpi_speed.txt --table new_rpi_energy.txt --data cifar10:data --alpha 0.2 --beta 0.6 --gamma 0.05 --delta 0.6 -o runs/hanna

        netadapt-trt search run --resume runs/search
    """  # noqa: E501
    given = _given(locals())
    with Output(as_json) as out:
        from netadapt_trt.search.run import resume_search, search

        if resume is None:
            found = search(_settings(given), progress=out.progress)
        else:
            found = resume_search(resume, overrides=given, progress=out.progress)
        content = {**found.to_json(), "run": str(found.path)}
        out.result(content, lambda console: _show(console, content))


_OURS = {"resume", "as_json", "latency_target", "energy_target"}
_NEEDED = {
    "space": ("a space", "--space fbnet-small"),
    "tables": ("a table of what blocks cost", "--table FILE"),
    "data": ("data to train on", "--data digits"),
    "output": ("a directory", "-o runs/search"),
}


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, by their name in SearchSettings and in its types."""
    given = {name: value for name, value in arguments.items() if name not in _OURS and value is not None and value != []}
    if "tables" in given:
        given["tables"] = tuple(given["tables"])
    for option, name, unit, knob in (
        ("latency_target", "latency_target_ms", "ms", "alpha"),
        ("energy_target", "energy_target_mj", "mJ", "gamma"),
    ):
        text = arguments[option]
        if text is None:
            continue
        if knob in given:
            raise SpecError(f"--{option.replace('_', '-')} sets {knob} by itself; leave --{knob} out")
        given[name] = parse_amount(text, unit, option=f"--{option.replace('_', '-')}")
    return given


def parse_amount(text: str, unit: str, *, option: str) -> float:
    """``4ms`` in ms, ``0.002J`` in mJ: ``unit`` is ms or mJ. Raises SpecError naming ``option``."""
    known = {"ms": {"s": 1e3, "ms": 1.0, "us": 1e-3}, "mJ": {"J": 1e3, "mJ": 1.0, "uJ": 1e-3}}[unit]
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2] not in known:
        raise SpecError(f"{option} {text!r} is not understood; write a number with {', '.join(known)}, as {option} 4{unit}")
    return float(match[1]) * known[match[2]]


def _settings(given: dict[str, Any]) -> SearchSettings:
    require_given("search run", given, _NEEDED, resume="--resume RUN")
    return SearchSettings(**given)


def _show(console: Console, content: Mapping[str, Any]) -> None:
    child = content["child"]
    rows = [
        (str(place), name, f"{chance:.1%}")
        for place, (name, chance) in enumerate(zip(child["blocks"], child["probabilities"], strict=True), 1)
    ]
    console.print(table("the most probable child", ("layer", "block", "probability"), rows))
    energy = "" if child["energy_mj"] is None else f", {number(child['energy_mj'])} mJ"
    console.print(f"estimate: {number(child['latency_ms'])} ms{energy} (LAT and ENER of the loss are in s and J)")
    targets = content["targets"]
    for what, unit, cost in (("latency_ms", "ms", child["latency_ms"]), ("energy_mj", "mJ", child["energy_mj"])):
        if targets[what] is not None:
            console.print(f"target: {number(targets[what])} {unit}; the child needs {cost / targets[what]:.1%} of it")
    console.print(f"train it: netadapt-trt search child {content['run']}", markup=False)
