"""``lut``: look at, lint and combine tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.cli import lut_validate
from netadapt_trt.cli.errors import EXIT_FAILURE, verb
from netadapt_trt.cli.lut_import import import_table
from netadapt_trt.cli.options import InputOption, JsonOption, ModelArgOption, NumClassesOption, ResetHeadOption
from netadapt_trt.cli.output import Output, number, table

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.lut.lint.finding import Finding
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.lut.summary import LutSummary
    from netadapt_trt.plan.schema import Plan

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look at, lint and combine look-up tables of measurements.",
)

_SHOWN_PLACES = 3
"""Of a finding's layers, worst first: what is to be done is mostly the same for all."""

LutArgument = Annotated[Path, typer.Argument(metavar="LUT", help="The table.", show_default=False)]


@app.command("show")
@verb
def show(
    lut: LutArgument,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="One row per layer.")] = True,
    as_json: JsonOption = False,
) -> None:
    """What a LUT holds: under which conditions it was measured, which layers, which whole networks.

    Example:

        netadapt-trt lut show cpu.lut.jsonl
    """
    with Output(as_json) as out:
        from netadapt_trt.lut.store import read_lut
        from netadapt_trt.lut.summary import summarise

        summary = summarise(read_lut(lut))
        out.result(summary, lambda console: _show_summary(console, summary, layers))


def _show_summary(console: Console, summary: LutSummary, layers: bool) -> None:
    console.print(table("Measured under", ["condition", "value"], list(summary.identity.to_json().items()), numbers=False))
    if layers:
        rows = [
            (
                layer.layer,
                layer.cells,
                layer.in_network,
                _widths(layer.lowest),
                _widths(layer.highest),
                number(layer.fastest_ms),
                number(layer.slowest_ms),
            )
            for layer in summary.layers
        ]
        console.print(table("Layers", ["layer", "alone", "in networks", "from", "to", "fastest ms", "slowest ms"], rows))
    networks = [
        (network.plan, network.channels, number(network.latency_ms), number(network.energy_mj))
        for network in summary.networks
    ]
    if networks:
        console.print(
            table("Whole networks, measured end to end", ["plan", "channels", "latency ms", "energy mJ"], networks)
        )
    drift = "" if summary.drift is None else f", reference layer varied by {(summary.drift - 1) * 100:.0f} %"
    console.print(
        f"{summary.cells} cells timed alone ({summary.flagged} flagged) and {summary.in_network} seen in networks, of "
        f"{len(summary.layers)} layers, "
        f"{len(summary.sessions)} sessions, {summary.references} reference lines{drift}"
    )


def _widths(widths: tuple[int, ...]) -> str:
    return "x".join(str(width) for width in widths) or "-"


@app.command("check")
@verb
def check(
    lut: LutArgument,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="Also ask whether it covers this network.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The same, by model (needs PyTorch).", show_default=False)
    ] = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    as_json: JsonOption = False,
) -> None:
    """What is doubtful about a LUT, worst first, each with what to do. Ends with 1 where something is missing.

    Examples:

        netadapt-trt lut check cpu.lut.jsonl

        netadapt-trt lut check cpu.lut.jsonl --plan net.plan.json
    """
    with Output(as_json) as out:
        from netadapt_trt.lut.store import read_lut

        loaded = read_lut(lut)
        network = _network(plan, model, input_shape, model_arg, num_classes, reset_head)
        findings = _findings(loaded, network, plan)
        document = {"lut": str(lut), "findings": findings}
        out.result(document, lambda console: _show_findings(console, lut, findings))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(EXIT_FAILURE)


app.command("validate")(lut_validate.run)


def _network(
    plan: Path | None,
    model: str | None,
    input_shape: str | None,
    model_arg: list[str] | None,
    num_classes: int | None,
    reset_head: bool,
) -> Plan | None:
    from netadapt_trt.cli.profile import plan_of
    from netadapt_trt.errors import SpecError

    if plan is not None and model is not None:
        raise SpecError("--plan and --model both name a network; give one of them")
    if plan is None and model is None:
        return None
    return plan_of(str(plan or model), input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)


def _findings(lut: Lut, plan: Plan | None, file: Path | None) -> list[Finding]:
    from netadapt_trt.lut.lint.check import check as check_lut

    return check_lut(lut, plan, source=None if file is None else str(file))


def _show_findings(console: Console, lut: Path, findings: list[Finding]) -> None:
    for finding in findings:
        lines = [f"{finding.severity}: {finding.text}"]
        lines += [f"     {place.layer}\n       {place.text}" for place in finding.places[:_SHOWN_PLACES]]
        if len(finding.places) > _SHOWN_PLACES:
            lines.append(f"     and {len(finding.places) - _SHOWN_PLACES} more layers, all with --json")
        lines += [f"  why: {finding.why}", f"  -> {finding.action}"]
        console.print("\n".join(lines), markup=False)
    if not findings:
        console.print(f"{lut}: nothing to remark", markup=False)


@app.command("merge")
@verb
def merge(
    luts: Annotated[list[Path], typer.Argument(metavar="LUT...", help="Tables of one identity.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The table to write.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Combine LUTs that were measured under the same conditions; equal lines are kept once.

    Examples, the first to have a second table of the same conditions:

        netadapt-trt profile net.plan.json --backend ort --lut other.lut.jsonl --cells 20

        netadapt-trt lut merge cpu.lut.jsonl other.lut.jsonl -o merged.lut.jsonl
    """
    with Output(as_json) as out:
        from netadapt_trt.lut.store import merge_luts
        from netadapt_trt.lut.summary import summarise

        summary = summarise(merge_luts(luts, output))
        document = {
            "output": str(output),
            "cells": summary.cells,
            "sessions": len(summary.sessions),
            "networks": len(summary.networks),
        }
        out.result(
            document,
            lambda console: console.print(
                f"{summary.cells} cells, {len(summary.sessions)} sessions, {len(summary.networks)} whole networks: {output}",
                markup=False,
            ),
        )


app.command("import")(import_table)
