"""``report``: one self-contained page about runs, sweeps of searches and tested tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption
from netadapt_trt.cli.output import Output

__all__ = ["run"]


@verb
def run(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs, sweeps, files of lut validate.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The page to write.")] = Path("report.html"),
    as_json: JsonOption = False,
) -> None:
    """Write a page with tables and plots that opens offline; unfinished runs are shown as far as they are.

    Examples:

        netadapt-trt report runs/digits -o report.html

        netadapt-trt report runs/digits runs/other -o compared.html

        netadapt-trt report resnet18.validation.json -o table.html
    """
    with Output(as_json) as out:
        from netadapt_trt.report.page import write_report

        written = write_report(runs, output)
        out.result(
            {"output": str(written), "runs": [str(path) for path in runs]},
            lambda console: console.print(f"report: {written}", markup=False),
        )
