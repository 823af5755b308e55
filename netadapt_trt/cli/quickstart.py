"""``quickstart``: the whole pipeline on embedded data and this processor. Composition only; the stages are the verbs'."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt_trt.cli.errors import fail, verb
from netadapt_trt.cli.options import BackendOption, JsonOption, SeedOption
from netadapt_trt.cli.output import Output, number
from netadapt_trt.cli.result_table import show_result
from netadapt_trt.errors import BudgetError
from netadapt_trt.spec import ModelSpec, parse_budget

if TYPE_CHECKING:
    from rich.console import Console

    from netadapt_trt.backend import Backend
    from netadapt_trt.plan.schema import Plan
    from netadapt_trt.progress import Progress

__all__ = ["Recipe", "quickstart", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the quickstart does, sized so that two cores need under three minutes."""

    width: str = "0.5"
    side: int = 32
    epochs: float = 5.0
    batch_size: int = 64
    profile_limit_s: float = 35.0
    budget: str = "latency=0.6x"
    reduction: float = 0.12
    decay: float = 0.97
    short_steps: int = 6
    long_epochs: float = 4.0
    rounds: int = 3

    def spec(self) -> ModelSpec:
        """MobileNetV1 with a stem for small pictures."""
        shape = (1, 3, self.side, self.side)
        return ModelSpec(
            model="zoo:mobilenet_v1", input_shape=shape, args={"width": self.width, "stem": "cifar"}, num_classes=10
        )


@verb
def run(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("out/quickstart"),
    backend: BackendOption = "ort",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The whole pipeline on embedded data and this processor: train, plan, profile, adapt, export, bench, report.

    Started again with the same directory it goes on where it stopped; what is finished is not repeated.

    Example:

        netadapt-trt quickstart --out out/quickstart
    """
    with Output(as_json) as output:
        document, failure = quickstart(out, backend=backend, seed=seed, recipe=Recipe(), progress=output.progress)
        output.result(document, lambda console: _show(console, document))
    if failure is not None:
        fail(failure)


def quickstart(
    out: Path, *, backend: str, seed: int, recipe: Recipe, progress: Progress
) -> tuple[dict[str, Any], BudgetError | None]:
    """Run all stages into ``out``. Returns result.json's content with the bench and the paths, and a missed budget."""
    from netadapt_trt.backend import load_backend
    from netadapt_trt.deploy.bench import bench
    from netadapt_trt.deploy.export import export_network
    from netadapt_trt.report.page import write_report

    started = time.monotonic()
    runtime = load_backend(backend)  # a misspelled one is told now, not after the training
    weights, run_directory = _seed_network(out, seed, recipe, progress), out / "run"
    lut, profile_s = _profiled(out, runtime, recipe, progress)
    failure = _adapted(run_directory, weights, lut, profile_s, seed, recipe, progress)
    progress.notice("exporting the networks, checking them against PyTorch, timing them side by side")
    adapted = export_network(run_directory, out / "deploy" / "adapted.onnx", backend=backend, progress=progress)
    initial = export_network(
        recipe.spec(),
        out / "deploy" / "initial.onnx",
        weights=str(weights),
        backend=backend,
        data="digits",
        progress=progress,
    )
    timed = bench(
        adapted.model_path, [initial.model_path], backend=backend, output=out / "deploy" / "bench.json", progress=progress
    )
    report = write_report([run_directory], out / "report.html")
    result = json.loads((run_directory / "result.json").read_text(encoding="utf-8"))
    document = {
        **result,
        "run": str(run_directory),
        "report": str(report),
        "bench": {"output": str(out / "deploy" / "bench.json"), **timed.to_json()},
        "wall_s": round(time.monotonic() - started, 1),
    }
    return document, failure


def _seed_network(out: Path, seed: int, recipe: Recipe, progress: Progress) -> Path:
    from netadapt_trt.training.data import open_data
    from netadapt_trt.training.fine_tune import FineTune
    from netadapt_trt.training.seed_network import record_path, train_network

    weights, spec = out / "seed.safetensors", recipe.spec()
    if record_path(weights).is_file():
        progress.notice(f"{weights} is there already, training is left out")
        return weights
    progress.notice("training a small MobileNetV1 on the digits of scikit-learn")
    data = open_data("digits", input_shape=spec.input_shape)
    settings = FineTune(epochs=recipe.epochs, batch_size=recipe.batch_size, schedule="cosine", warmup_steps=20, seed=seed)
    train_network(spec, None, data, settings, weights, progress=progress)
    return weights


def _profiled(out: Path, backend: Backend, recipe: Recipe, progress: Progress) -> tuple[Path, float]:
    """The table and the seconds it took. A run that has begun keeps the table it began with."""
    from netadapt_trt.profile.run import profile

    lut = out / f"{backend.name}-fp32.lut.jsonl"
    if (out / "run" / "run.json").is_file() and lut.is_file():
        progress.notice(f"the run has begun, so {lut} is taken as it is")
        return lut, 0.0
    progress.notice(f"measuring its layers with {backend.name}")
    result = profile(
        _plan(out, recipe),
        backend,
        lut,
        time_limit_s=recipe.profile_limit_s,
        progress=progress,
    )
    return result.lut, result.seconds


def _plan(out: Path, recipe: Recipe) -> Plan:
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan
    from netadapt_trt.plan.store import load_plan, save_plan

    path = out / "plan.json"
    if not path.is_file():
        save_plan(make_plan(open_network(recipe.spec())), path)
    return load_plan(path)


def _adapted(
    run_directory: Path, weights: Path, lut: Path, profile_s: float, seed: int, recipe: Recipe, progress: Progress
) -> BudgetError | None:
    from netadapt_trt.adapt.run import adapt, resume
    from netadapt_trt.adapt.settings import AdaptSettings

    try:
        if (run_directory / "run.json").is_file():
            resume(run_directory, progress=progress)
            return None
        progress.notice(f"adapting it to {recipe.budget}")
        settings = AdaptSettings(
            spec=recipe.spec(),
            weights=str(weights),
            data="digits",
            lut=lut,
            budgets=(parse_budget(recipe.budget),),
            output=run_directory,
            reduction=recipe.reduction,
            decay=recipe.decay,
            short_steps=recipe.short_steps,
            long_epochs=recipe.long_epochs,
            batch_size=recipe.batch_size,
            rounds=recipe.rounds,
            seed=seed,
            profile_seconds=profile_s,
        )
        adapt(settings, progress=progress)
    except BudgetError as error:
        if not (run_directory / "result.json").is_file():
            raise
        return error
    return None


def _show(console: Console, document: dict[str, Any]) -> None:
    show_result(console, document)
    for comparison in document["bench"]["comparisons"]:
        console.print(
            f"as deployed, the adapted network takes {number(comparison['ratio'])} x the time of the initial one "
            f"({number(comparison['p10'])} to {number(comparison['p90'])} over {comparison['rounds']} rounds)"
        )
    console.print(f"report: {document['report']}", markup=False)
