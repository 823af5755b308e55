"""``lut validate``: a table against whole networks that it does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt_trt.cli.errors import EXIT_INTERRUPTED, verb
from netadapt_trt.cli.options import InputOption, JsonOption, ModelArgOption, NumClassesOption, ResetHeadOption
from netadapt_trt.cli.output import Output, number, table
from netadapt_trt.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.profile.validation import ValidatedNetwork, Validation

__all__ = ["run"]


@verb
def run(
    lut: Annotated[Path, typer.Argument(metavar="LUT", help="The table, measured on this machine.", show_default=False)],
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="The network to test it with: a plan file.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The same, by model (needs PyTorch).", show_default=False)
    ] = None,
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    networks: Annotated[int, typer.Option("--networks", min=1, help="Random networks to estimate and measure.")] = 25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which random networks.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Networks take turns; so many turns each at least.")] = 8,
    rounds_max: Annotated[int, typer.Option("--rounds-max", min=5, help="More while they differ, up to so many.")] = 80,
    repeatability: Annotated[
        float,
        typer.Option("--repeatability", min=0.0001, help="Odd and even turns shall differ by no more than this fraction."),
    ] = 0.02,
    isolated: Annotated[
        int, typer.Option("--isolated", min=0, help="Time the layers of so many of the networks alone, too.")
    ] = 5,
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="TIME", help="No more turns after 90s, 10m, 1h.", show_default=False),
    ] = None,
    granularity: Annotated[int, typer.Option("--granularity", min=1, help="Random widths are multiples of it.")] = 8,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Keep all of it, for `report`.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Test a LUT: random networks it does not hold, estimated from it and measured end to end, turn by turn.

    Shows how far estimates are off, how far the measurement differs from itself (no estimate can do better), and how far the
    plain sum of layers timed alone is off. A poor table is a result, too (exit status 0). A plan needs no PyTorch here.

    Examples:

        netadapt-trt lut validate cpu.lut.jsonl --plan net.plan.json

        netadapt-trt lut validate cpu.lut.jsonl --model torchvision:resnet18 --input 1x3x224x224 -o resnet18.validation.json
    """
    with Output(as_json) as out:
        from netadapt_trt.backend import load_backend
        from netadapt_trt.cli.profile import parse_duration
        from netadapt_trt.lut.store import read_lut
        from netadapt_trt.profile.validate import Patience, validate
        from netadapt_trt.profile.validation import write_validation

        loaded = read_lut(lut)
        limit_s = None if time_limit is None else parse_duration(time_limit)
        backend = load_backend(loaded.identity.backend)
        network = _network(plan, model, input_shape, model_arg, num_classes, reset_head)
        try:
            result = validate(
                network,
                backend,
                loaded,
                networks=networks,
                seed=seed,
                patience=Patience(rounds=rounds, most=max(rounds, rounds_max), wanted=repeatability, time_limit_s=limit_s),
                isolated=isolated,
                granularity=granularity,
                progress=out.progress,
            )
        except KeyboardInterrupt:
            out.progress.notice(
                "interrupted: a validation is one measurement, nothing of it is kept; for a shorter one: --networks"
            )
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if output is not None:
            write_validation(output, result)
        out.result(result, lambda console: _show(console, result, output))


def _network(
    plan: Path | None,
    model: str | None,
    input_shape: str | None,
    model_arg: list[str] | None,
    num_classes: int | None,
    reset_head: bool,
) -> Plan:
    from netadapt_trt.cli.profile import plan_of

    if (plan is None) == (model is None):
        raise SpecError("name the network to test the LUT with: either --plan FILE, or --model MODEL with its --input")
    return plan_of(str(plan or model), input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)


def _show(console: Console, result: Validation, output: Path | None) -> None:
    rows = [_row(index, network, result) for index, network in enumerate(result.networks, 1)]
    columns = ["network", "channels kept", "estimate ms", "measured ms", "error", "odd / even", "layers alone ms", "outside"]
    console.print(table("Held-out networks", columns, rows))
    figures = result.agreement
    console.print(table("Figures", ["of all", "value"], [
        ("mean error of the estimates (MAPE)", _percent(figures.mape)),
        ("the same with drift left in", _percent(figures.mape_without_drift_correction)),
        ("measurement against itself", _percent(result.repeatability_mape)),
        (f"sum of layers timed alone, {figures.isolated_networks} networks", _percent(figures.isolated_sum_mape)),
        ("within 5 %", _percent(figures.within_5pct)),
        ("within 10 %", _percent(figures.within_10pct)),
        ("within 3 x the measurement against itself", _percent(figures.within_3x_repeatability)),
        ("within the estimate's own +-", _percent(figures.within_1_sigma)),
        ("mean of estimate / measured", number(figures.bias)),
        ("rank correlation (Spearman)", number(figures.spearman)),
        ("drift since the table was measured", "unknown" if result.drift is None else number(result.drift)),
        ("rounds", str(result.rounds)),
    ]))  # fmt: skip
    for sentence in result.verdict:
        console.print(f"- {sentence}", markup=False)
    if result.stopped:
        console.print(f"- stopped at the {result.stopped} after {len(result.networks)} networks", markup=False)
    if output is not None:
        console.print(f"written: {output}; as a page: netadapt-trt report {output} -o report.html", markup=False)


def _row(index: int, network: ValidatedNetwork, result: Validation) -> tuple[str, ...]:
    kept, full = sum(network.widths.values()), result.channels
    return (
        str(index),
        f"{kept / full:.0%}",
        number(network.estimate_ms) + ("" if network.sigma_ms is None else f" +- {number(network.sigma_ms, 2)}"),
        number(network.measured_ms),
        f"{network.error:+.1%}",
        _percent(network.repeatability),
        number(network.isolated_sum_ms),
        str(len(network.extrapolated) or "-"),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
