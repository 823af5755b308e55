"""The command line: which verbs there are. Each verb has its module; what it needs is imported when it runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from netadapt_trt.cli import adapt, bench, build, doctor, export, lut, plan, profile, quickstart, report, search, train, ui
from netadapt_trt.cli.errors import EXIT_INTERRUPTED

__all__ = ["app", "main"]

app = typer.Typer(
    name="netadapt-trt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart.run)
app.command("doctor")(doctor.run)
app.command("plan")(plan.run)
app.command("profile")(profile.run)
app.add_typer(lut.app, name="lut")
app.command("train")(train.run)
app.command("adapt")(adapt.run)
app.add_typer(search.app, name="search")
app.command("export")(export.run)
app.command("build")(build.run)
app.command("bench")(bench.run)
app.command("report")(report.run)
app.command("ui")(ui.run)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("netadapt-trt"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.", show_default=False)
    ] = False,
) -> None:
    """Make a pretrained network fit a real device.

    Measure candidate layers on the runtime that will serve them (profile), shrink the network until a latency, energy,
    memory or size budget holds (adapt), and check the promise at the end (export, bench, report). New here?
    `netadapt-trt quickstart --out out` does all of it on embedded data in a few minutes.
    """


def main() -> None:
    """Run the command line and end the process with its status."""
    # OpenMP threads that wait by spinning slow a shared machine down many times over (measured: 7 x for small networks on
    # two cores with other work) and disturb what is measured after training. PyTorch's library reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except KeyboardInterrupt:  # outside of any verb: while modules load, for example
        raise SystemExit(EXIT_INTERRUPTED) from None
