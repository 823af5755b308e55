"""``profile``: measure what a LUT lacks of a network."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.cli.errors import EXIT_FAILURE, verb
from netadapt_trt.cli.options import (
    BackendOption,
    InputOption,
    JsonOption,
    ModelArgOption,
    NumClassesOption,
    PrecisionOption,
    ResetHeadOption,
    ThreadsOption,
    model_spec,
)
from netadapt_trt.cli.output import Output, number
from netadapt_trt.cli.power import open_meter
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.profile.energy import EnergyProfile
    from netadapt_trt.profile.run import ProfileResult
    from netadapt_trt.spec import ModelSpec

__all__ = ["parse_duration", "plan_of", "run"]

_DURATION = re.compile(r"(?P<number>\d+\.?\d*)(?P<unit>s|m|min|h|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


@verb
def run(
    source: Annotated[
        str, typer.Argument(metavar="PLAN|MODEL", help="A plan file, or a model (needs PyTorch).", show_default=False)
    ],
    lut: Annotated[Path, typer.Option("--lut", metavar="FILE", help="The LUT to complete.", show_default=False)],
    backend: BackendOption = "ort",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="TIME", help="Stop after 90s, 10m or 1h, energy included.", show_default=False),
    ] = None,
    cells: Annotated[
        int | None, typer.Option("--cells", min=0, help="Measure at most so many cells.", show_default=False)
    ] = None,
    target_error: Annotated[
        float,
        typer.Option(
            "--target-error",
            min=0.001,
            max=1.0,
            help="Look into networks until estimates of others are off by this on average, where the runtime can tell.",
        ),
    ] = 0.03,
    networks: Annotated[
        int | None,
        typer.Option(
            "--networks",
            min=1,
            help="Look into at most so many networks.",
            show_default="40, and no more cells than 600 or 4.9 % of a full grid",
        ),
    ] = None,
    granularity: Annotated[
        int, typer.Option("--granularity", min=1, help="Measured widths are multiples of it; as adapt's.")
    ] = 8,
    power: Annotated[
        str,
        typer.Option(
            "--power", metavar="SOURCE", help="Energy, too: auto, none, ina, jtop, tegrastats, rapl, nvml, csv:FILE."
        ),
    ] = "auto",
    energy_cells: Annotated[
        int, typer.Option("--energy-cells", min=0, help="Energy windows are long: so many cells, the rest is modelled.")
    ] = 40,
    as_json: JsonOption = False,
) -> None:
    """Measure what a LUT lacks of a network on this device, and append it. Stop and restart at will.

    Where the runtime can tell a network's time by layer (ort, trt), networks of chosen widths are looked into until the
    held-out error is small enough, and few layers are timed alone; elsewhere all of them are, the coarse grid first. A plan
    needs no PyTorch here.

    Examples:

        netadapt-trt profile net.plan.json --backend ort --lut cpu.lut.jsonl --time-limit 5m

        netadapt-trt profile zoo:mobilenet_v1 --model-arg width=0.5 --model-arg stem=cifar --num-classes 10 --input 1x3x32x32 --backend fake --lut fake.lut.jsonl
    """  # noqa: E501
    with Output(as_json) as out:
        from netadapt_trt.backend import load_backend
        from netadapt_trt.profile.run import profile
        from netadapt_trt.profile.sampling import sampling_for

        limit_s, begun = None if time_limit is None else parse_duration(time_limit), time.monotonic()
        runtime = load_backend(backend)
        plan = plan_of(source, input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)
        # Before the first cell: a source that is not there is no news to be told after an hour of latencies.
        meter = open_meter(power, runtime) if energy_cells else None
        most = {} if networks is None else {"most": networks, "grid_share": 1.0}
        result = profile(
            plan,
            runtime,
            lut,
            precision=precision,
            threads=threads,
            time_limit_s=limit_s,
            max_cells=cells,
            granularity=granularity,
            sampling=sampling_for(runtime, target_error=target_error, **most),
            progress=out.progress,
        )
        energy = None
        over = limit_s is not None and time.monotonic() - begun >= limit_s
        if meter is not None and (result.stopped == "cell limit" or (result.stopped and over)):
            out.progress.notice(f"stopped at the {result.stopped}: no energy was measured; run the same command again")
        elif meter is not None:
            from netadapt_trt.profile.energy import profile_energy

            energy = profile_energy(
                plan,
                runtime,
                lut,
                meter,
                cells=energy_cells,
                # What the latencies have left of the limit; with nothing left the model still learns from what is there.
                time_limit_s=None if limit_s is None else limit_s - (time.monotonic() - begun),
                granularity=granularity,
                progress=out.progress,
            )
        document = result if energy is None else {**asdict(result), "energy": asdict(energy)}
        out.result(document, lambda console: _show(console, result, energy))
    if result.failed:
        raise typer.Exit(EXIT_FAILURE)


def plan_of(
    source: str,
    input_shape: str | None,
    model_arg: list[str] | None,
    *,
    num_classes: int | None = None,
    reset_head: bool = False,
) -> Plan:
    """The plan in the file ``source``, or of the model that it names."""
    path = Path(source)
    if path.suffix == ".json" or (path.is_file() and path.suffix != ".py"):
        if input_shape or model_arg or num_classes or reset_head:
            raise SpecError(f"{source} is a plan; --input, --model-arg, --num-classes and --reset-head belong to a model")
        from netadapt_trt.plan.store import load_plan

        return load_plan(path)
    return _traced(model_spec(source, input_shape, model_arg, num_classes=num_classes, reset_head=reset_head))


def _traced(spec: ModelSpec) -> Plan:
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan

    return make_plan(open_network(spec))


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m``, ``10min`` or ``1h``. Raises SpecError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match["number"]) <= 0:
        raise SpecError(f"time {text!r} is not understood; write for example 90s, 10m or 1h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def _show(console: Console, result: ProfileResult, energy: EnergyProfile | None) -> None:
    console.print(
        f"{result.measured} cells measured in {number(result.seconds)} s, {result.present} were there, "
        f"{result.missing} missing, {result.noisy} noisy"
    )
    if result.disturbed:
        console.print(f"under {result.disturbed} cells the device's state moved twice; they are flagged and wanted again")
    if result.held_out_error is not None:
        added = f"{result.networks} networks looked into" if result.networks else "no further network looked into"
        console.print(
            f"{added}; estimates of each network of the table from the others are off by "
            f"{result.held_out_error:.1%} on average, noise included"
        )
    if result.failed:
        console.print(f"{result.failed} cells could not be measured; the reasons are above")
    console.print(f"whole network, measured: {number(result.network_ms)} ms")
    if energy is not None:
        console.print(
            f"energy of {energy.measured} cells and {energy.networks} networks measured, {energy.modelled} modelled "
            f"(model error {'unknown' if energy.model_error is None else f'{energy.model_error:.1%}'}), "
            f"{energy.unresolved} below what the sensor resolves"
            f"{f', {energy.missing} missing' if energy.missing else ''}"
        )
    console.print(f"LUT: {result.lut}", markup=False)
