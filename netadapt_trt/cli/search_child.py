"""``search child``: the networks a search has found, trained and ready for the other verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli.errors import EXIT_INTERRUPTED, verb
from netadapt_trt.cli.options import (
    AmpOption,
    AugmentOption,
    BatchSizeOption,
    DataOption,
    DeviceOption,
    JsonOption,
    LabelSmoothingOption,
    LearningRateOption,
    MomentumOption,
    SeedOption,
    WarmupStepsOption,
    WeightDecayOption,
)
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.search.state import SearchDirectory

__all__ = ["run"]


@verb
def run(
    search: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a search.", show_default=False)],
    sample: Annotated[int, typer.Option("--sample", min=0, help="So many more, drawn from theta, all different.")] = 0,
    theta: Annotated[
        Path | None,
        typer.Option("--theta", metavar="FILE", help="A theta of this space.", show_default="the search's last"),
    ] = None,
    data: DataOption = None,
    epochs: Annotated[float, typer.Option("--epochs", min=0, help="Passes over the whole training set.")] = 120,
    batch_size: BatchSizeOption = 128,
    learning_rate: LearningRateOption = 0.05,
    momentum: MomentumOption = 0.9,
    weight_decay: WeightDecayOption = 1e-4,
    warmup_steps: WarmupStepsOption = 0,
    label_smoothing: LabelSmoothingOption = 0.0,
    augment: AugmentOption = True,
    amp: AmpOption = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train them, or only show which they are.")] = True,
    export: Annotated[
        bool, typer.Option("--export/--no-export", help="Write each as deploy/model.onnx in its directory, too.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="The runtime that --export writes for.",
            show_default="the table's where it is installed, else ort",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train the most probable child of a search, and others drawn from it; show how to export, bench and adapt them.

    Each lands in RUN/children/NAME, which `export` takes, or --export at once. An interrupted training goes on with the same
    command.

    Examples:

        netadapt-trt search child runs/search

        netadapt-trt search child runs/search --sample 4 --epochs 30 --data cifar10:data --export
    """
    with Output(as_json) as out:
        _check_export(export, train, backend)
        from netadapt_trt.search.children import child_commands, choose_children, train_child
        from netadapt_trt.search.state import read_search
        from netadapt_trt.training.fine_tune import FineTune

        training = FineTune(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule="cosine",
            warmup_steps=warmup_steps,
            label_smoothing=label_smoothing,
            augment=augment,
            seed=seed,
            device=device,
            amp=amp,
        )
        opened = read_search(search)
        if sums := opened.table.sums_blocks:
            out.progress.notice(
                f"the table holds blocks alone: the {' and '.join(sums)} of a child is their sum, without the first and the "
                f"last layers, and will be larger"
            )
        children = choose_children(opened, sample=sample, seed=seed, theta=theta, progress=out.progress)
        found: list[dict[str, Any]] = []
        try:
            for child in children:
                out.progress.notice(f"{child.name}: {' '.join(child.block['blocks'])}")
                record = train_child(opened, child, training, data=data, progress=out.progress) if train else {}
                directory = str(opened.path / "children" / child.name) if train else None
                commands = child_commands(opened, child, data=data) if train else []
                onnx = _exported(opened, Path(directory), backend, data, out) if export and directory else None
                found.append(
                    {
                        "name": child.name,
                        "kind": child.kind,
                        **child.block,
                        **record,
                        "directory": directory,
                        "onnx": None if onnx is None else str(onnx),
                        "next": commands,
                    }
                )
        except KeyboardInterrupt:
            out.progress.notice("interrupted; what was done is saved, the same command goes on from there")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        out.result({"run": str(search), "children": found}, lambda console: _show(console, found))


def _check_export(export: bool, train: bool, backend: str | None) -> None:
    """Said before the training, not hours later. Raises SpecError."""
    if export and not train:
        raise SpecError("--export writes trained networks, --no-train trains none; leave one of them out")
    if backend is not None:
        if not export:
            raise SpecError("--backend says what --export writes for; add --export, or leave it out")
        from netadapt_trt.backend import load_backend

        load_backend(backend)


def _exported(run: SearchDirectory, directory: Path, asked: str | None, data: str | None, out: Output) -> Path:
    from netadapt_trt.deploy.export import export_network
    from netadapt_trt.search.children import runtime_of

    backend, precision = runtime_of(run)
    if asked is not None and asked != backend:
        backend, precision = asked, "fp32"
    path = directory / "deploy" / "model.onnx"
    calibration = (data or run.settings.data) if precision == "int8" else None
    record = export_network(directory, path, backend=backend, precision=precision, data=calibration, progress=out.progress)
    out.progress.notice(f"written for {backend}, {precision}: {record.model_path}")
    return record.model_path


def _show(console: Console, children: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            child["name"],
            number(child["latency_ms"]),
            number(child["energy_mj"]),
            "-" if child.get("accuracy") is None else f"{child['accuracy']:.2%}",
            "-" if child.get("params") is None else f"{child['params']:,}",
        )
        for child in children
    ]
    columns = ("child", "estimate ms", "estimate mJ", "test accuracy", "parameters")
    console.print(table("children", columns, rows))
    for child in children:
        console.print(f"{child['name']}: {' '.join(child['blocks'])}", markup=False)
        for line in child["next"]:
            console.print(f"  {line}", markup=False, soft_wrap=True)
