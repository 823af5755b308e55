"""``search space``, ``search profile`` and ``search knobs``: what is searched, what it costs, and what the knobs weigh."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import BackendOption, JsonOption, PrecisionOption, ThreadsOption
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.cli.power import open_meter
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from netadapt_trt.profile.space import SpaceProfile
    from netadapt_trt.space.knobs import Knobs, Start
    from netadapt_trt.space.schema import Space
    from netadapt_trt.space.table import SpaceTable

__all__ = [
    "AlphaOption",
    "BetaOption",
    "DeltaOption",
    "GammaOption",
    "SpaceOption",
    "TableOption",
    "knobs",
    "profile",
    "space",
]

_SPACE_HELP = "fbnet-cifar, fbnet-imagenet, fbnet-small or a JSON file; `search space` lists them."

SpaceOption = Annotated[str, typer.Option("--space", metavar="NAME|FILE", help=_SPACE_HELP, show_default=False)]
TableOption = Annotated[
    list[Path],
    typer.Option(
        "--table",
        metavar="FILE",
        help="A LUT, or a text table of seconds; a second one for energy (joules).",
        show_default=False,
    ),
]
AlphaOption = Annotated[float, typer.Option("--alpha", help="Loss: CE + alpha * LAT^beta + gamma * ENER^delta.")]
BetaOption = Annotated[float, typer.Option("--beta", help="LAT is in seconds.")]
GammaOption = Annotated[float, typer.Option("--gamma", help="0 leaves energy out.")]
DeltaOption = Annotated[float, typer.Option("--delta", help="ENER is in joules.")]


@verb
def space(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help=_SPACE_HELP, show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write it as JSON, to make another of.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a search space: its layers, and which blocks may stand in each. Without a name, the spaces that come along.

    Examples:

        netadapt-trt search space

        netadapt-trt search space fbnet-cifar

        netadapt-trt search space fbnet-small -o mine.json
    """
    with Output(as_json) as out:
        from netadapt_trt.space.store import load_space, preset_names, save_space

        if name is None:
            if output is not None:
                raise SpecError(
                    "which space is to be written? Name one, for example: netadapt-trt search space fbnet-small -o mine.json"
                )
            presets = [load_space(preset) for preset in preset_names()]
            out.result([_about(preset) for preset in presets], lambda console: _list(console, presets))
            return
        found = load_space(name)
        if output is not None:
            if output.exists():
                raise SpecError(f"{output} exists, and is not written over; name another file")
            save_space(found, output)
        out.result(_about(found), lambda console: _show_space(console, found, output))


def _about(space: Space) -> dict[str, Any]:
    from netadapt_trt.space.store import space_hash, space_to_json

    places = [
        {
            "layer": place.number,
            "stage": place.stage + 1,
            "in_channels": place.in_channels,
            "out_channels": place.out_channels,
            "stride": place.stride,
            "height": place.height,
            "width": place.width,
            "candidates": [space.columns[column] for column in place.candidates],
        }
        for place in space.places
    ]
    return {**space_to_json(space), "hash": space_hash(space), "columns": space.columns, "places": places}


def _children(space: Space) -> float:
    """How many networks the space holds."""
    product = 1.0
    for place in space.places:
        product *= len(place.candidates)
    return product


def _list(console: Console, spaces: list[Space]) -> None:
    rows = [
        (
            space.name,
            "x".join(str(size) for size in space.input_shape),
            space.num_classes,
            len(space.places),
            len(space.columns),
            f"{_children(space):.1e}",
        )
        for space in spaces
    ]
    console.print(table("Search spaces", ["name", "input", "classes", "layers", "blocks", "networks"], rows))
    console.print("look at one: netadapt-trt search space NAME; write another: ... -o mine.json", markup=False)


def _show_space(console: Console, space: Space, output: Path | None) -> None:
    stem = space.stem
    console.print(
        f"{space.name}: {'x'.join(str(size) for size in space.input_shape)}, {space.num_classes} classes, "
        f"{len(space.places)} layers, {_children(space):.1e} networks; "
        f"{'with' if space.batch_norm else 'without'} batch norm",
        markup=False,
    )
    rows = [
        (
            place.number,
            place.stage + 1,
            f"{place.in_channels} to {place.out_channels}",
            f"{place.height}x{place.width}",
            place.stride,
            "all" if len(place.candidates) == len(space.columns) else f"all but {space.columns[-1]}",
        )
        for place in space.places
    ]
    console.print(table("Layers", ["layer", "stage", "channels", "picture", "stride", "blocks"], rows))
    blocks = [(block.name, f"{block.kernel}x{block.kernel}", block.expansion, block.groups) for block in space.blocks]
    console.print(table("Blocks, in the order of a table's columns", ["block", "kernel", "expansion", "groups"], blocks))
    console.print(
        f"{'then skip: the input passed on; ' if space.skip else ''}stem {stem.kernel}x{stem.kernel} to {stem.channels} "
        f"with stride {stem.stride}, head 1x1 to {space.head_channels}",
        markup=False,
    )
    if output is not None:
        console.print(f"written: {output}", markup=False)


@verb
def profile(
    name: Annotated[str, typer.Argument(metavar="SPACE", help=_SPACE_HELP, show_default=False)],
    lut: Annotated[Path, typer.Option("--lut", metavar="FILE", help="The LUT to complete.", show_default=False)],
    backend: BackendOption = "ort",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Each round measures every block once at every place, in other company.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the company.")] = 0,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="TIME", help="Stop after 90s, 10m or 1h.", show_default=False)
    ] = None,
    power: Annotated[
        str,
        typer.Option(
            "--power", metavar="SOURCE", help="Energy, too: auto, none, ina, jtop, tegrastats, rapl, nvml, csv:FILE."
        ),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure what a LUT lacks of a search space on this device, and append it. Stop and restart at will.

    Whole networks of the space are timed, chosen so that a handful shows every block at every place, and looked into by
    layer where the runtime can tell (ort, trt); elsewhere layers are timed alone. Needs no PyTorch.

    Examples:

        netadapt-trt search profile fbnet-small --backend fake --lut space.lut.jsonl

        netadapt-trt search profile fbnet-cifar --backend ort --threads 2 --lut cifar.lut.jsonl --time-limit 20m
    """
    with Output(as_json) as out:
        from netadapt_trt.backend import load_backend
        from netadapt_trt.cli.profile import parse_duration
        from netadapt_trt.profile.space import profile_space
        from netadapt_trt.space.store import load_space

        begun = time.monotonic()
        limit_s = None if time_limit is None else parse_duration(time_limit)
        found, runtime = load_space(name), load_backend(backend)
        meter = open_meter(power, runtime)
        result = profile_space(
            found,
            runtime,
            lut,
            precision=precision,
            threads=threads,
            rounds=rounds,
            seed=seed,
            time_limit_s=None if limit_s is None else max(limit_s - (time.monotonic() - begun), 0.001),
            meter=meter,
            progress=out.progress,
        )
        out.result(result, lambda console: _show_profile(console, result))


def _show_profile(console: Console, result: SpaceProfile) -> None:
    console.print(
        f"{result.measured} children measured in {number(result.seconds)} s, {result.present} were there, "
        f"{result.missing} missing; {result.cells} layers timed alone"
        f"{f', {result.lacking} still to be' if result.lacking else ''}",
        markup=False,
    )
    held_out = (
        ("latency", result.held_out_children, result.held_out_error, result.worst_error),
        ("energy", result.energy_held_out_children, result.energy_held_out_error, result.energy_worst_error),
    )
    for what, children, error, worst in held_out:
        if error is not None:
            console.print(
                f"{what}: estimates of {children} children, each from the others, are off by {error:.1%} on average, "
                f"{worst:.1%} at worst, noise included",
                markup=False,
            )
    energy = f"energy of {result.with_energy} children is known" if result.with_energy else "nothing is known of energy"
    console.print(f"{energy}; LUT: {result.lut}", markup=False)


@verb
def knobs(
    space: SpaceOption,
    tables: TableOption,
    alpha: AlphaOption = 0.2,
    beta: BetaOption = 0.6,
    gamma: GammaOption = 0.0,
    delta: DeltaOption = 0.6,
    as_json: JsonOption = False,
) -> None:
    """What the knobs of a search weigh at its start, before anything is trained.

    The loss is CE + alpha * LAT^beta + gamma * ENER^delta, LAT in seconds and ENER in joules. A search starts with equal
    probabilities of all blocks; vLAT and vENER are the two terms there. The cross entropy of ten classes starts at 2.3.

    Examples:

        netadapt-trt search knobs --space fbnet-cifar --table luts/raspberry-pi-3b/pytorch-fp32.lut.jsonl

        netadapt-trt search knobs --space fbnet-cifar --table rpi_speed.txt --table new_rpi_energy.txt --gamma 0.1
    """
    with Output(as_json) as out:
        from netadapt_trt.space.knobs import Knobs, doubtful_weight, start
        from netadapt_trt.space.store import load_space, space_hash
        from netadapt_trt.space.table import read_tables

        found = load_space(space)
        costs = read_tables(found, tables)
        chosen = Knobs(alpha=alpha, beta=beta, gamma=gamma, delta=delta)
        begin = start(costs, chosen)
        notices = (*doubtful_weight(begin, found.num_classes), *costs.notices)
        document = {
            "space": found.name,
            "space_hash": space_hash(found),
            "table": costs.source,
            "knobs": chosen,
            "start": begin,
            "notices": notices,
        }
        out.result(document, lambda console: _show_knobs(console, costs, chosen, begin, notices))


def _show_knobs(console: Console, costs: SpaceTable, knobs: Knobs, start: Start, notices: Sequence[str]) -> None:
    console.print(f"loss: CE + {knobs.alpha:g} * LAT^{knobs.beta:g} + {knobs.gamma:g} * ENER^{knobs.delta:g}", markup=False)
    rows = [
        ("LAT0, expected latency", f"{start.lat_s:.6g}", "s"),
        ("ENER0, expected energy", "-" if start.ener_j is None else f"{start.ener_j:.6g}", "J"),
        ("vLAT, latency in the loss", f"{start.vlat:.4g}", ""),
        ("vENER, energy in the loss", f"{start.vener:.4g}", ""),
        ("energy dominance, vENER / vLAT", number(start.energy_dominance), ""),
        ("latency dominance, vLAT / vENER", number(start.latency_dominance), ""),
    ]
    console.print(table(f"At the start of a search of {costs.space.name}, all blocks alike", ["", "value", "unit"], rows))
    if costs.fixed_latency_ms:
        console.print(f"of LAT0, stem and head take {costs.fixed_latency_ms / 1e3:.3g} s", markup=False)
    console.print(f"table: {costs.source}", markup=False)
    for notice in notices:
        console.print(f"  ! {notice}", markup=False)
