"""``plan``: from a model to the file a device needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import (
    InputOption,
    JsonOption,
    ModelArgOption,
    ModelArgument,
    NumClassesOption,
    ResetHeadOption,
    model_spec,
)
from netadapt_trt.cli.output import Output, bytes_text, number, table

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.plan.schema import Plan

__all__ = ["run"]


@verb
def run(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PLAN", help="The plan to write.", show_default=False)],
    input_shape: InputOption = None,
    model_arg: ModelArgOption = None,
    num_classes: NumClassesOption = None,
    reset_head: ResetHeadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Trace a network and write its plan: all a device needs to profile it, without PyTorch and without weights.

    Example:

        netadapt-trt plan zoo:mobilenet_v1 --model-arg width=0.5 --model-arg stem=cifar --num-classes 10 --input 1x3x32x32 -o net.plan.json
    """  # noqa: E501
    with Output(as_json) as out:
        spec = model_spec(model, input_shape, model_arg, num_classes=num_classes, reset_head=reset_head)
        from netadapt_trt.graph.network import open_network
        from netadapt_trt.graph.planner import make_plan
        from netadapt_trt.plan.store import plan_hash, save_plan

        with out.progress.task(f"tracing {model}", 2) as task:
            network = open_network(spec)
            task.advance()
            made = make_plan(network)
            task.advance()
        save_plan(made, output)
        summary = _summary(made) | {
            "plan_hash": plan_hash(made),
            "prunable_share": network.channels.prunable_share(network.model),
            "output": str(output),
        }
        out.result(summary, lambda console: _show(console, summary))


def _summary(made: Plan) -> dict[str, Any]:
    from netadapt_trt.plan.sizes import network_macs, network_memory_bytes, network_params

    full = made.full_widths()
    return {
        "model": made.model,
        "ops": len(made.ops),
        "groups": {group.name: group.size for group in made.groups},
        "frozen": {frozen.name: {"size": frozen.size, "reason": frozen.reason} for frozen in made.frozen},
        "notices": list(made.notices),
        "macs": network_macs(made, full),
        "params": network_params(made, full),
        "memory_bytes": network_memory_bytes(made, full),
    }


def _show(console: Console, summary: dict[str, Any]) -> None:
    console.print(table(f"Channel groups of {summary['model']}", ["group", "channels"], list(summary["groups"].items())))
    for name, frozen in summary["frozen"].items():
        console.print(f"not cut: {name} ({frozen['size']} channels): {frozen['reason']}", markup=False)
    for notice in summary["notices"]:
        console.print(f"notice: {notice}", markup=False)
    console.print(
        f"{summary['ops']} ops, {number(summary['macs'] / 1e6)} M multiply-accumulates, "
        f"{number(summary['params'] / 1e6)} M parameters ({summary['prunable_share']:.0%} prunable), "
        f"memory {bytes_text(summary['memory_bytes'])}"
    )
    console.print(f"plan: {summary['output']}", markup=False)
