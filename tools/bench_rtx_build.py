"""Does the real TensorRT builder take what we write? Every layer and every network, in every precision, without a GPU.

    python tools/bench_rtx_build.py [--state out/rtx-builds.jsonl] [--plans out/plans] [--output FILE] [NETWORK ...]

TensorRT-RTX parses and builds for SM89. Of the twelve required networks: each distinct layer key and each whole network at
full width, at one granule (8 channels) and at an odd width; fp32, fp16 and int8 (recipe qdq-trt). What was built is kept in
the state file: run the same command again to go on. A build that takes the process down counts as a failure. Says nothing
of how fast an engine runs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import statistics
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from netadapt_trt.backend import CompileOptions, EngineBackend, load_backend
from netadapt_trt.errors import BackendError, SpecError
from netadapt_trt.files import append_line
from netadapt_trt.measure.machine import machine_model, physical_cores
from netadapt_trt.plan.store import load_plan, plan_hash, save_plan
from netadapt_trt.plan.write import write_layer, write_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netadapt_trt.backend import Backend
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
RECIPE, INPUT, GRANULE = "qdq-trt", (1, 3, 224, 224), 8
WIDTHS: dict[str, Callable[[int], int]] = {
    "full": lambda size: size,
    "granule": lambda size: min(size, GRANULE),
    "odd": lambda size: max(1, size * 5 // 8 | 1),
}


@dataclass(frozen=True)
class Item:
    """One build. ``layer`` is None for the whole network; ``operators`` name what a failure is listed under."""

    id: str
    plan: Plan
    layer: Layer | None
    widths: tuple[int, ...]
    precision: Precision
    operators: str


@dataclass(frozen=True)
class Outcome:
    """``error`` is empty for an engine."""

    id: str
    kind: str
    precision: str
    operators: str
    seconds: float = 0.0
    size_bytes: int = 0
    error: str = "the process ended during this build"


def plans_of(names: list[str], directory: Path) -> dict[str, Plan]:
    """Plans are kept: tracing a network takes ten times as long as building it."""
    found = {}
    for name in names:
        path = directory / f"{name.split(':')[1]}.json"
        if not path.exists():
            from netadapt_trt.graph.network import open_network
            from netadapt_trt.graph.planner import make_plan
            from netadapt_trt.spec import ModelSpec

            directory.mkdir(parents=True, exist_ok=True)
            save_plan(make_plan(open_network(ModelSpec(model=name, input_shape=INPUT))), path)
        found[name] = load_plan(path)
    return found


def items_of(plans: dict[str, Plan], backend: Backend) -> Iterator[Item]:
    """Layers first; equal keys at equal widths once, whichever network they come from."""
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for plan in plans.values():
        types = {op.name: op.op_type for op in plan.ops}
        for layer in backend.partition(plan):
            if layer.key in {key for key, _ in seen}:
                continue
            for size in WIDTHS.values():
                widths = layer.widths({group.name: size(group.size) for group in plan.groups})
                if (layer.key, widths) in seen:
                    continue
                seen.add((layer.key, widths))
                operators = "+".join(types[name] for name in layer.ops)
                for precision in PRECISIONS:
                    yield Item(f"{precision} {layer.key} {list(widths)}", plan, layer, widths, precision, operators)
    for name, plan in plans.items():
        for kind, size in WIDTHS.items():
            widths = tuple(size(group.size) for group in plan.groups)
            for precision in PRECISIONS:
                yield Item(f"{precision} {kind} {name} {plan_hash(plan)}", plan, None, widths, precision, f"{name} {kind}")


def build(item: Item, backend: Backend) -> Outcome:
    """Write and build."""
    opset, ir_version = backend.opset()
    kind = "network" if item.layer is None else "layer"
    options: dict[str, Any] = {
        "opset": opset, "ir_version": ir_version, "precision": item.precision,
        "recipe": RECIPE if item.precision == "int8" else "none",
    }  # fmt: skip
    known = Outcome(item.id, kind, item.precision, item.operators, error="")
    try:
        if item.layer is None:
            groups = (group.name for group in item.plan.groups)
            model = write_network(item.plan, dict(zip(groups, item.widths, strict=True)), **options)
        else:
            model = write_layer(item.plan, item.layer, item.widths, **options)
        engine = cast("EngineBackend", backend).build(model, CompileOptions(precision=item.precision))
    except (BackendError, SpecError) as error:
        return Outcome(**{**asdict(known), "error": str(error)})
    seconds = float(engine.details["build_seconds"])
    return Outcome(**{**asdict(known), "seconds": seconds, "size_bytes": len(engine.content)})


def read_state(path: Path) -> dict[str, Outcome]:
    """A line before each build and one behind it, so that what took the process down is known."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {outcome.id: outcome for outcome in (Outcome(**json.loads(line)) for line in lines)}


INTRODUCTION = f"""
Twelve required networks at {"x".join(map(str, INPUT))}: every distinct layer key of the `trt` partition and every whole
network, at full width, one granule ({GRANULE} channels) and an odd width (5/8); fp32, fp16, int8 Q/DQ (`{RECIPE}`). A build
says that the file parses, is typed as intended and compiles. It says nothing of any device's speed, and TensorRT-RTX
supports no Jetson.
"""
HEADER = "| what | precision | builds | built | median s | 90 % below s | longest s |\n|---|---|---|---|---|---|---|"


def report(outcomes: list[Outcome], planned: int, version: str) -> str:
    """The page of results."""
    failed = [outcome for outcome in outcomes if outcome.error]
    built = len(outcomes) - len(failed)
    total = sum(outcome.seconds for outcome in outcomes)
    left = f"; {planned - len(outcomes)} not tried yet" if planned > len(outcomes) else ""
    where = f"TensorRT-RTX {version}, target SM89, on {machine_model()} ({physical_cores()} cores), no GPU."
    lines = [
        "# TensorRT-RTX parses and builds what we write\n",
        "Command: `python tools/bench_rtx_build.py`",
        INTRODUCTION,
        f"{where} **{built} of {len(outcomes)} built ({built / len(outcomes):.2%})**, {total:.0f} s of building{left}.\n",
        HEADER,
        *(_row(outcomes, kind, precision) for kind in ("layer", "network") for precision in PRECISIONS),
        "\n## Failures by operator\n",
        *([] if failed else ["None."]),
    ]
    for operators, count in Counter(outcome.operators for outcome in failed).most_common():
        reasons = sorted({outcome.error for outcome in failed if outcome.operators == operators})
        lines.append(f"- {operators}: {count}. {reasons[0]}")
    lines.append("\n## Whole networks\n\n| network, width | " + " | ".join(f"{name} s, MB" for name in PRECISIONS) + " |")
    lines.append("|---|" + "---|" * len(PRECISIONS))
    networks = [outcome for outcome in outcomes if outcome.kind == "network"]
    for name in dict.fromkeys(outcome.operators for outcome in networks):
        found = {outcome.precision: outcome for outcome in networks if outcome.operators == name}
        lines.append(f"| {name} | " + " | ".join(_cell(found.get(precision)) for precision in PRECISIONS) + " |")
    return "\n".join(lines) + "\n"


def _row(outcomes: list[Outcome], kind: str, precision: str) -> str:
    mine = [outcome for outcome in outcomes if (outcome.kind, outcome.precision) == (kind, precision)]
    times = sorted(outcome.seconds for outcome in mine if not outcome.error) or [0.0]
    built = sum(not outcome.error for outcome in mine)
    figures = (statistics.median(times), times[int(0.9 * (len(times) - 1))], times[-1])
    return f"| {kind} | {precision} | {len(mine)} | {built} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return "failed" if outcome.error else f"{outcome.seconds:.1f}, {outcome.size_bytes / 1e6:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=None, metavar="NETWORK")
    parser.add_argument("--state", type=Path, default=Path("out/rtx-builds.jsonl"))
    parser.add_argument("--plans", type=Path, default=Path("out/plans"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/tensorrt-rtx-builds.md"))
    arguments = parser.parse_args()
    networks = arguments.networks or list(importlib.import_module("bench_mask").REQUIRED)
    os.environ["NETADAPT_RTX_TARGET"] = "SM89"
    backend = load_backend("trt_rtx")
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        items = list(items_of(plans_of(networks, arguments.plans), backend))
        done = read_state(arguments.state)
        arguments.state.parent.mkdir(parents=True, exist_ok=True)
        task = progress.add_task("builds", total=len(items))
        for item in items:
            if item.id not in done:
                kind = "network" if item.layer is None else "layer"
                started = Outcome(item.id, kind, item.precision, item.operators)
                append_line(arguments.state, json.dumps(asdict(started)))
                done[item.id] = build(item, backend)
                append_line(arguments.state, json.dumps(asdict(done[item.id])))
                if done[item.id].error:
                    console.print(f"{item.id}: {done[item.id].error}", markup=False)
            progress.advance(task)
    outcomes = [done[item.id] for item in items if item.id in done]
    page = report(outcomes, len(items), importlib.metadata.version("tensorrt_rtx"))
    arguments.output.write_text(page, encoding="utf-8")
    print(page)
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
