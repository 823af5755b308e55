"""``search sweep``: many searches over a grid of knobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli import search_run as opt
from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import DataOption, ImageSizeOption, JsonOption, NormalizeOption, require_given
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.cli.power import open_meter
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.search.sweep_settings import SweepSettings
    from netadapt_trt.space.knobs import Knobs

__all__ = ["run"]

_GRID, _CHILDREN = "The grid", "Children"
_NEEDED = {
    "space": ("a space", "--space fbnet-small"),
    "tables": ("a table of what blocks cost", "--table FILE"),
    "data": ("data to train on", "--data digits"),
    "output": ("a directory", "-o runs/sweep"),
}

ResumeOption = Annotated[
    Path | None, typer.Option("--resume", metavar="SWEEP", help="Go on with this sweep.", show_default=False)
]
KnobsOption = Annotated[
    Path | None,
    typer.Option(
        "--knobs",
        metavar="FILE",
        help="JSON list of objects with alpha, beta, gamma, delta.",
        show_default=False,
        rich_help_panel=_GRID,
    ),
]


def _list_option(name: str, help: str) -> Any:
    return typer.Option(f"--{name}", metavar="A,B,...", help=help, show_default=False, rich_help_panel=_GRID)


_CHILD = {"train": True, "child_epochs": 120.0, "child_batch_size": 128, "child_learning_rate": 0.05}
"""How children are trained unless told otherwise. Options have None, so that a sweep that goes on knows what was given."""


def _child_option(name: str, *flags: str, help: str, **more: Any) -> Any:
    return typer.Option(*flags, help=help, show_default=str(_CHILD[name]), rich_help_panel=_CHILDREN, **more)


@verb
def run(
    output: opt.OutputOption = None,
    resume: ResumeOption = None,
    space: opt.SpaceOption = None,
    tables: opt.TableOption = None,
    data: DataOption = None,
    image_size: ImageSizeOption = None,
    normalize: NormalizeOption = None,
    knobs: KnobsOption = None,
    alpha: Annotated[str | None, _list_option("alpha", "Factors of latency.")] = None,
    beta: Annotated[str | None, _list_option("beta", "Powers of latency, in seconds.")] = None,
    gamma: Annotated[str | None, _list_option("gamma", "Factors of energy.")] = None,
    delta: Annotated[str | None, _list_option("delta", "Powers of energy, in joules.")] = None,
    paths: opt.PathsOption = None,
    epochs: opt.EpochsOption = None,
    warmup_epochs: opt.WarmupOption = None,
    batch_size: opt.BatchOption = None,
    learning_rate: opt.RateOption = None,
    momentum: opt.MomentumOption = None,
    weight_decay: opt.DecayOption = None,
    theta_learning_rate: opt.ThetaRateOption = None,
    theta_start: opt.ThetaStartOption = None,
    theta_share: opt.ThetaShareOption = None,
    temperature: opt.TemperatureOption = None,
    temperature_decay: opt.TemperatureDecayOption = None,
    gradient_clip: opt.ClipOption = None,
    augment: opt.AugmentOption = None,
    seed: opt.SeedOption = None,
    device: opt.DeviceOption = None,
    threads: opt.ThreadsOption = None,
    tensorboard: opt.TensorboardOption = None,
    train: Annotated[
        bool | None, _child_option("train", "--train/--no-train", help="Train every search's most probable child.")
    ] = None,
    child_epochs: Annotated[
        float | None, _child_option("child_epochs", "--child-epochs", min=0, help="Passes over the whole training set.")
    ] = None,
    child_batch_size: Annotated[
        int | None, _child_option("child_batch_size", "--child-batch-size", min=1, help="Images per step.")
    ] = None,
    child_learning_rate: Annotated[
        float | None,
        _child_option("child_learning_rate", "--child-learning-rate", help="Peak of the cosine schedule."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", metavar="NAME", help="Time all children here in the end.", show_default="none",
            rich_help_panel=_CHILDREN,
        ),
    ] = None,
    power: Annotated[
        str,
        typer.Option(
            "--power", metavar="SOURCE", help="Energy of the children: auto, none, or a source as in bench.",
            rich_help_panel=_CHILDREN,
        ),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a search for every point of a grid of knobs, train each one's child and compare them all.

    Without knobs 30 are laid out from the table: half dominated by latency, half by energy. Kill it at will: the same
    command, or `--resume`, goes on. `report` draws latency against energy, and what each knob did.

    Examples:

        netadapt-trt search sweep --space fbnet-cifar --table rpi_speed.txt --table new_rpi_energy.txt --data cifar10:data --paths sampled -o runs/sweep

        netadapt-trt search sweep --space fbnet-small --table small.lut.jsonl --data digits --alpha 1,2,4 --beta 0.3,0.6 --child-epochs 20 --backend ort -o runs/sweep

        netadapt-trt report runs/sweep -o sweep.html
    """  # noqa: E501
    given = {name: value for name, value in locals().items() if value is not None and value != []}
    with Output(as_json) as out:
        from netadapt_trt.search.sweep import resume_sweep, sweep

        def meter(runtime: Any) -> Any:
            return open_meter(power, runtime)

        if resume is not None:
            where = ("data", "device", "threads", "tensorboard", "backend")
            overrides = {name: given[name] for name in where if name in given}
            _refuse(resume, set(given) - {*where, "resume", "as_json", "power"})
            found, directory = resume_sweep(resume, overrides=overrides, meter=meter, progress=out.progress), resume
        else:
            settings = _settings(given, out)
            found, directory = sweep(settings, meter=meter, progress=out.progress), settings.search.output
        content = {**found, "sweep": str(directory)}
        out.result(content, lambda console: _show(console, content))


_OURS = {"resume", "as_json", "knobs", "alpha", "beta", "gamma", "delta", "backend", "power", *_CHILD}


def _refuse(sweep: Path, given: set[str]) -> None:
    if given:
        names = ", ".join("--" + {"tables": "table"}.get(name, name).replace("_", "-") for name in sorted(given))
        raise SpecError(
            f"{sweep} has its settings already; leave out {names}, which cannot change (start a new sweep for that: -o)"
        )


def _settings(given: Mapping[str, Any], out: Output) -> SweepSettings:
    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.search.sweep_settings import SweepSettings
    from netadapt_trt.training.fine_tune import FineTune

    require_given("search sweep", given, _NEEDED, resume="--resume SWEEP")
    common = {name: value for name, value in given.items() if name not in _OURS}
    search = SearchSettings(**{**common, "tables": tuple(given["tables"])})
    child = {name: given.get(name, default) for name, default in _CHILD.items()}
    training = FineTune(
        epochs=child["child_epochs"],
        batch_size=child["child_batch_size"],
        learning_rate=child["child_learning_rate"],
        schedule="cosine",
        augment=search.augment,
        seed=search.seed,
        device=search.device,
    )
    return SweepSettings(
        search=search,
        grid=_grid(given, search, out),
        training=training if child["train"] else None,
        backend=given.get("backend"),
        threads=given.get("threads"),
    )


def _grid(given: Mapping[str, Any], search: SearchSettings, out: Output) -> tuple[Knobs, ...]:
    from netadapt_trt.search.grid import default_grid, product_grid, read_grid

    lists = {name: _numbers(given[name], name) for name in ("alpha", "beta", "gamma", "delta") if name in given}
    if "knobs" in given:
        if lists:
            raise SpecError(f"--knobs names every point of the grid; leave out {', '.join(f'--{name}' for name in lists)}")
        return read_grid(given["knobs"])
    if lists:
        return product_grid(**lists)
    from netadapt_trt.search.sweep_store import read_named

    named = read_named(search)
    found = default_grid(named.table, named.space.num_classes)
    if not named.table.has_energy:
        out.progress.notice(f"the table says nothing of energy: the usual grid is its {len(found)} points of latency alone")
    return found


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SpecError(f"--{name} {text!r} is no list of numbers; write for example --{name} 0.1,0.2,0.4") from error


def _show(console: Console, content: Mapping[str, Any]) -> None:
    rows = [_cells(row) for row in content["runs"]]
    columns = ("search", "alpha", "beta", "gamma", "delta", "estimate ms", "estimate mJ", "measured ms", "accuracy")
    console.print(table("children", columns, rows))
    measurement = content["measurement"] or {}
    if networks := measurement.get("networks"):
        console.print(f"measured: {networks} (trained weights take the same time)", markup=False)
    failed = [str(row["number"]) for row in content["runs"] if row["state"] == "failed"]
    if failed:
        console.print(f"failed: {', '.join(failed)} (results.json says why)", markup=False)
    console.print(f"written: {content['sweep']}/results.json", markup=False)
    console.print(f"plots: netadapt-trt report {content['sweep']} -o sweep.html", markup=False, soft_wrap=True)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    child, measured = row["child"] or {}, row["measured"]
    accuracy = row["accuracy"]
    return (
        str(row["number"]),
        *(f"{value:g}" for value in row["knobs"].values()),
        number(child.get("latency_ms")),
        number(child.get("energy_mj")),
        number(None if measured is None else measured["latency_ms"]["median"]),
        row["state"] if accuracy is None else f"{accuracy:.2%}",
    )
