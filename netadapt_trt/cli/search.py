"""``search``: choose the blocks of a network by their cost on a device. Each command has its module."""

from __future__ import annotations

import typer

from netadapt_trt.cli import search_child, search_run, search_space, search_sweep

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search a network's blocks with tables of their latency and energy in the loss.",
)
app.command("space")(search_space.space)
app.command("profile")(search_space.profile)
app.command("knobs")(search_space.knobs)
app.command("run")(search_run.run)
app.command("child")(search_child.run)
app.command("sweep")(search_sweep.run)
