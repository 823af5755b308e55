"""``bench``: end-to-end latency of deployed files, against each other and against what was promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption, ThreadsOption
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.cli.power import open_meter

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.deploy.bench import BenchResult

__all__ = ["run"]

_SHOWN = 1e-9  # of a value: less is the rounding of a device that repeats itself exactly


@verb
def run(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="An ONNX file, or the directory of one.", show_default=False)
    ],
    vs: Annotated[
        list[Path] | None, typer.Option("--vs", metavar="OTHER", help="Compare with; repeatable.", show_default=False)
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="The runtime.", show_default="the promise's, else ort")
    ] = None,
    threads: ThreadsOption = None,
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Files take turns; so many turns each.")] = 7,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where bench.json goes.")] = Path(
        "bench.json"
    ),
    power: Annotated[
        str,
        typer.Option("--power", metavar="SOURCE", help="auto, none, ina, jtop, tegrastats, rapl, nvml, csv:FILE."),
    ] = "auto",
    energy_seconds: Annotated[
        float, typer.Option("--energy-seconds", min=1.0, help="Length of one energy window; each file gets two.")
    ] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Time deployed files end to end in interleaved rounds and compare with the estimate they were promised by.

    Where a power source works here, energy per inference is measured, too. bench.json can be taken to where the network was
    adapted: `adapt --measured bench.json`. No PyTorch is needed here.

    Examples:

        netadapt-trt bench deploy/model.onnx

        netadapt-trt bench deploy/model.onnx --vs deploy/seed.onnx --json
    """
    with Output(as_json) as out:
        from netadapt_trt.deploy.bench import bench

        result = bench(
            artifact,
            vs or (),
            backend=backend,
            threads=threads,
            rounds=rounds,
            meter=lambda runtime: open_meter(power, runtime, window_s=energy_seconds),
            output=output,
            progress=out.progress,
        )
        out.result(result, lambda console: _show(console, result, output))


def _show(console: Console, result: BenchResult, output: Path) -> None:
    rows = [
        (
            row.artifact.path,
            number(row.latency.median),
            f"{number(row.latency.p10)} to {number(row.latency.p90)}",
            number(row.estimate_ms),
            number(row.measured_over_estimate),
        )
        for row in result.rows
    ]
    columns = ["file", "measured ms", "p10 to p90", "estimate ms", "measured / estimate"]
    console.print(table("End to end", columns, rows))
    _show_energy(console, result)
    for comparison in result.comparisons:
        console.print(
            f"{comparison.first} takes {number(comparison.ratio)} x the time of {comparison.other} "
            f"({number(comparison.p10)} to {number(comparison.p90)} over {comparison.rounds} rounds)",
            markup=False,
        )
        if comparison.energy_ratio is not None:
            console.print(
                f"and {_within(comparison.energy_ratio, comparison.energy_ratio_interval)} x its energy, "
                f"at {number(comparison.power_ratio)} x its power",
                markup=False,
            )
    console.print(f"written: {output}", markup=False)


def _show_energy(console: Console, result: BenchResult) -> None:
    if all(row.energy is None and not row.power_mw for row in result.rows):
        return
    rows = [
        (
            row.artifact.path,
            "-" if row.energy is None else _within(row.energy.total, row.energy_interval_mj),
            "-" if row.energy is None else number(row.energy.dynamic),
            ", ".join(f"{rail} {number(value)}" for rail, value in row.power_mw.items()) or "-",
            ", ".join(row.energy_flags) or "-",
        )
        for row in result.rows
    ]
    console.print(table("Energy per inference", ["file", "total mJ", "without idle mJ", "power mW", "flags"], rows))


def _within(value: float, interval: float | None) -> str:
    """A value and its 95 % interval, where that is known and more than rounding."""
    return number(value) if not interval or interval < _SHOWN * value else f"{number(value)} +- {number(interval, 2)}"
