"""``build``: an engine on the device that will run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption
from netadapt_trt.cli.output import Output, bytes_text, number

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.deploy.build import BuildResult

__all__ = ["run"]


@verb
def run(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.ONNX", help="What export wrote, or its directory.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="ENGINE", help="The engine's file, or a directory.", show_default=False)
    ],
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="The runtime: trt or trt_rtx.")] = "trt",
    as_json: JsonOption = False,
) -> None:
    """Build the engine of an exported network on this device, and leave a bundle: ONNX file, engine, deploy.json.

    Precision is the file's. An engine belongs to this device and this version of its runtime; elsewhere it is refused.
    No PyTorch is needed here.

    Examples:

        netadapt-trt build deploy/model.onnx --backend trt -o deploy/model.engine

        netadapt-trt build deploy/model.onnx --backend trt_rtx -o bundle
    """
    with Output(as_json) as out:
        from netadapt_trt.deploy.build import build

        result = build(model, output, backend=backend, progress=out.progress)
        out.result(result, lambda console: _show(console, result))


def _show(console: Console, result: BuildResult) -> None:
    where = "no device at hand" if result.identity is None else result.identity.device
    console.print(
        f"{result.engine}: {bytes_text(result.size_bytes)}, built in {number(result.seconds)} s for {where}", markup=False
    )
    console.print(f"written: {result.record}", markup=False)
