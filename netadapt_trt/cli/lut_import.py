"""``lut import``: other projects' tables as LUTs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption
from netadapt_trt.cli.output import Output
from netadapt_trt.spec import Precision

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["import_table"]

_FORMATS = "hanna (HANNA's text tables of blocks), conv-table ({Type,batch,cin,h,w,cout,k,stride,fused} ms), netadapt-pickle"


@verb
def import_table(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The table; may be gzip.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The LUT to make, .lut.jsonl or .lut.jsonl.gz.", show_default=False
        ),
    ],
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="The device it was measured on.", show_default=False)
    ],
    format: Annotated[
        Literal["hanna", "conv-table", "netadapt-pickle"] | None,
        typer.Option("--format", help=f"{_FORMATS}.", show_default="from the content"),
    ] = None,
    energy: Annotated[
        Path | None,
        typer.Option("--energy", metavar="FILE", help="hanna: the table of energies, in joules.", show_default=False),
    ] = None,
    power: Annotated[
        Path | None,
        typer.Option("--power", metavar="FILE", help="hanna: the table of powers, in watts.", show_default=False),
    ] = None,
    unit: Annotated[
        Literal["s", "ms", "us"] | None,
        typer.Option("--unit", help="What the file's latencies are in.", show_default="s; ms for conv-table"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="The batch to import; a LUT has one.", show_default="the table's only one"),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", help="What was computed in.", show_default="fp32; conv-table does not say"),
    ] = None,
    activation: Annotated[
        Literal["none", "Relu", "HardSwish"],
        typer.Option("--activation", help="What was timed behind each convolution, where you know it."),
    ] = "none",
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", metavar="NAME", help="Whose layers these are.", show_default="trt for conv-table, else pytorch"
        ),
    ] = None,
    runtime_version: Annotated[
        str | None, typer.Option("--runtime-version", metavar="TEXT", help="Of the runtime.", show_default="unknown")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="TEXT", help="What ran it, such as gpu.", show_default="unknown")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of the runtime.", show_default="1")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="When it was measured.", show_default="today, and said so")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Where it comes from.", show_default="unknown")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="What allows passing it on.", show_default="unknown")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a LUT of another project's table, and say what is doubtful about it. Pickles are read without running anything.

    Examples:

        netadapt-trt lut import rpi_speed.txt --energy new_rpi_energy.txt --device "Raspberry Pi 3B" -o pi.lut.jsonl

        netadapt-trt lut import conv_fp16.txt.gz --device "Tesla V100" --precision fp16 --batch 1 -o v100.lut.jsonl.gz

        netadapt-trt lut import lut_mobilenet.pkl --device "GTX 1080 Ti" --batch 128 -o netadapt.lut.jsonl
    """
    with Output(as_json) as out:
        from netadapt_trt.lut.importers.formats import import_tables
        from netadapt_trt.lut.importers.table import Conditions

        conditions = Conditions(
            device=device,
            backend=backend,
            runtime_version=runtime_version,
            provider=provider,
            precision=precision,
            batch=batch,
            threads=threads,
            unit=unit,
            activation=activation,
            date=date,
            source=source,
            licence=licence,
        )
        table, lut = import_tables(files, output, conditions, format=format, energy=energy, power=power)
        document = {
            "output": str(output),
            "format": table.settings["format"],
            "cells": len(table.cells),
            "layers": len(lut.layers()),
            "notices": list(table.notices),
        }

        def show(console: Console) -> None:
            for notice in table.notices:
                console.print(f"note: {notice}", markup=False)
            console.print(f"{len(table.cells)} cells of {document['layers']} layers: {output}", markup=False)

        out.result(document, show)
