"""int8 (static Q/DQ) against fp32 on ONNX Runtime: accuracy, latency, per layer, and what it does to adapted widths.

    python tools/bench_int8.py --output out/int8 --data imagefolder:DIR [--stages train export ...]

Stages, each on top of the former ones:
  train     a seed network each (or put SLUG.safetensors with its .json into the output folder)
  export    fp32 and int8 ONNX, the latter calibrated on training pictures
  accuracy  of both files on the test set, by ONNX Runtime
  bench     fp32 and int8 in interleaved rounds; also of the networks of --large, untrained (latency only)
  profile   a table of each precision; of the large networks the uncut one and few narrower ones only
  layers    the uncut network's layers as both tables have them, and which are not faster in int8
  stairs    a channel group cut in small steps, and what the layers that it touches take, in both precisions
  adapt     the first network against either table, the same budget ratio, its widths, exported and scored in both precisions
  adapted   the adapted networks timed side by side in both precisions

Verbs of the command line do the work, each in a process of its own. Every result is a file; what is there is not done again.
table.md holds what is there so far. Stages that time (bench, profile, stairs, adapted) want a machine at rest.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.backend import CompileOptions, ProfiledExecutable, load_backend
from netadapt_trt.files import write_atomic, write_document
from netadapt_trt.lut.context import layer_models
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.schema import IN_NETWORK
from netadapt_trt.lut.store import read_lut
from netadapt_trt.plan.store import load_plan
from netadapt_trt.plan.write import write_network
from netadapt_trt.profile.attribution import neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Precision

GRANULARITY = 8
"""The same for both precisions, so that the tables decide alone; by default `adapt` takes the block that the table shows."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
STAGES = ("train", "export", "accuracy", "bench", "profile", "layers", "stairs", "adapt", "adapted")
NETWORKS = ("zoo:mobilenet_v1,width=0.5,stem=cifar", "torchvision:resnet18")
LARGE = ("zoo:mobilenet_v1", "torchvision:resnet18")
FORMAT, VERSION = "netadapt-int8", 1
STAIR_STEP, STAIR_TOP, STAIR_RUNS = 4, 128, 3  # steps of half the granularity: a block may end between two table widths


@dataclass(frozen=True, slots=True)
class Network:
    """A model by name at one input size. ``trained`` ones have ten classes, data and accuracy; the others only time."""

    name: str
    shape: str
    trained: bool
    folder: Path

    @property
    def slug(self) -> str:
        words = [self.name.partition(":")[2], self.shape]
        return re.sub(r"[^A-Za-z0-9_=-]+", "-", "-".join(words))

    def file(self, suffix: str) -> Path:
        return self.folder / f"{self.slug}{suffix}"

    @property
    def model(self) -> list[str]:
        """Words that name it on the command line."""
        model, *arguments = self.name.split(",")
        named = [word for argument in arguments for word in ("--model-arg", argument)]
        return [model, *named, "--input", self.shape, *(["--num-classes", "10"] if self.trained else [])]

    def plan(self) -> Plan:
        if not self.file(".plan.json").is_file():
            command("plan", *self.model, "-o", self.file(".plan.json"))
        return load_plan(self.file(".plan.json"))


def command(*words: object, accepted: Sequence[int] = (0,)) -> Any:
    """The JSON document of a verb; its progress goes on to this program's stderr. Ends the program where the verb fails."""
    line = [sys.executable, "-m", "netadapt_trt", *(str(word) for word in words), "--json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in accepted:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"netadapt-trt {' '.join(str(word) for word in words)} ended with {done.returncode}")
    return json.loads(done.stdout)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What ``path`` holds; made and written first where it is not there."""
    if not path.is_file():
        print(f"... {path.name}", file=sys.stderr, flush=True)
        write_document(path, format=FORMAT, version=VERSION, content={"result": make()})
    return json.loads(path.read_text())["result"]


def known(path: Path) -> Any:
    """The same, None where it is not there."""
    return json.loads(path.read_text())["result"] if path.is_file() else None


def train(network: Network, asked: argparse.Namespace) -> None:
    if not network.file(".safetensors").is_file():
        command(
            *("train", *network.model, "--data", asked.data, "--epochs", asked.epochs, "--warmup-steps", 100),
            *("--label-smoothing", 0.1, "--seed", 1, "-o", network.file(".safetensors")),
        )


def export(network: Network, asked: argparse.Namespace) -> None:
    for precision in PRECISIONS:
        kept(
            network.file(f".{precision}.export.json"),
            lambda precision=precision: command(  # type: ignore[misc]
                *("export", *network.model, "--weights", network.file(".safetensors"), "--data", asked.data),
                *("--precision", precision, "--calibration", asked.calibration, "--samples", asked.samples),
                *("-o", network.file(f".{precision}") / "model.onnx"),
            ),
        )


def score(model: Path, data: str) -> dict[str, float]:
    """Accuracy of an exported file on the test set: pictures as its deploy.json says, one at a time through ONNX Runtime."""
    from netadapt_trt.training.data import open_data

    record = json.loads((model.parent / "deploy.json").read_text())
    (entry,) = record["inputs"]
    shape, stored = tuple(entry["shape"]), record["preprocessing"]
    mean, std = (",".join(str(value) for value in stored[key]) for key in ("mean", "std"))
    test = open_data(data, image_size=shape[-1], normalize=f"{mean}/{std}", input_shape=shape).test
    backend, right = load_backend("ort"), 0
    options = CompileOptions(precision=record["precision"], threads=1)
    with backend.compile(model.read_bytes(), options) as executable:
        for inputs, labels in test.batches(256, shuffle_seed=None, augment=False, device="cpu", channels_last=False):
            for picture, label in zip(inputs.contiguous().numpy(), labels.numpy(), strict=True):
                (scores,) = executable.infer({entry["name"]: picture[None]}).values()
                right += int(scores[0].argmax() == label)
    return {"accuracy": right / len(test), "pictures": len(test)}


def accuracy(network: Network, asked: argparse.Namespace) -> None:
    for precision in PRECISIONS:
        kept(
            network.file(f".{precision}.accuracy.json"),
            lambda precision=precision: score(network.file(f".{precision}") / "model.onnx", asked.data),  # type: ignore[misc]
        )


def written(network: Network, precision: Precision) -> Path:
    """The exported file of a trained network; the plan's, with random weights, of another one."""
    path = network.file(f".{precision}") / "model.onnx"
    if not network.trained and not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, content(network.plan(), {}, precision))
    return path


def content(plan: Plan, widths: dict[str, int], precision: Precision) -> bytes:
    backend = load_backend("ort")
    opset, ir_version = backend.opset()
    recipe = backend.identity(precision=precision, batch=1, threads=1).recipe
    return write_network(plan, widths, opset=opset, ir_version=ir_version, precision=precision, recipe=recipe)


def bench(network: Network, asked: argparse.Namespace) -> None:
    for threads in asked.bench_threads:
        kept(network.file(f".bench-t{threads}.json"), lambda threads=threads: side_by_side(network, threads, asked))  # type: ignore[misc]


def side_by_side(network: Network, threads: int, asked: argparse.Namespace) -> Any:
    first, *others = (written(network, precision) for precision in reversed(PRECISIONS))
    return timed([first, *others], threads, asked, network.file(f".bench-t{threads}.raw.json"))


def timed(files: Sequence[Path], threads: int, asked: argparse.Namespace, output: Path) -> Any:
    first, *others = files
    versus = [word for path in others for word in ("--vs", path)]
    return command("bench", first, *versus, "--threads", threads, "--rounds", asked.rounds, "--power", "none", "-o", output)


def profile(network: Network, asked: argparse.Namespace) -> None:
    network.plan()
    few = ["--networks", asked.networks] if network.trained else ["--cells", 0]
    for precision in PRECISIONS:
        kept(
            network.file(f".{precision}.profile.json"),
            lambda precision=precision: command(  # type: ignore[misc]
                *("profile", network.file(".plan.json"), "--precision", precision, "--threads", asked.threads),
                *("--power", "none", *few, "--lut", network.file(f".{precision}.lut.jsonl")),
            ),
        )


def layers(network: Network, _asked: argparse.Namespace) -> None:
    if all(network.file(f".{precision}.lut.jsonl").is_file() for precision in PRECISIONS):
        content = {"result": by_layer(network)}
        write_document(network.file(".layers.json"), format=FORMAT, version=VERSION, content=content)


def by_layer(network: Network) -> dict[str, Any]:
    """Each layer's share of the uncut network's time in both tables, and the tables' blocks by kind of layer."""
    plan = network.plan()
    parts = load_backend("ort").partition(plan)
    around = neighbours(plan, parts)
    full = plan.full_widths()
    tables = {precision: read_lut(network.file(f".{precision}.lut.jsonl")) for precision in PRECISIONS}
    rows = []
    for layer, keys in zip(parts, around, strict=True):
        sizes = layer.widths(full)
        row: dict[str, Any] = {"layer": title(plan, layer), "kind": kind_of(plan, layer), "widths": list(sizes)}
        for precision, table in tables.items():
            found = [
                cell
                for cell in table.cells
                if (cell.layer, cell.widths, cell.context, cell.neighbours) == (layer.key, sizes, IN_NETWORK, keys)
                and cell.latency_ms is not None
            ]
            row[precision] = fmean(cell.latency_ms.median for cell in found if cell.latency_ms) if found else None
            row[f"{precision}_flags"] = sorted({flag for cell in found for flag in cell.flags})
        rows.append(row)
    blocks: dict[str, dict[str, list[int]]] = {}
    for precision, table in tables.items():
        models = layer_models(table, plan, parts)
        for layer in parts:
            if layer.key in models:
                found_blocks = blocks.setdefault(kind_of(plan, layer), {}).setdefault(precision, [])
                found_blocks.append(models[layer.key].trend.block)
    lines = {precision: network_line(table, plan) for precision, table in tables.items()}
    return {"rows": rows, "blocks": blocks, "networks": lines}


def network_line(table: Any, plan: Plan) -> dict[str, Any] | None:
    from netadapt_trt.plan.store import plan_hash

    line = table.network(plan_hash(plan), plan.full_widths())
    return None if line is None else {"latency_ms": line.latency_ms.median, "details": dict(line.details)}


def title(plan: Plan, layer: Layer) -> str:
    """The layer's name in the network where it has weights, else its first operator."""
    ops = {op.name: op for op in plan.ops}
    read = (name for each in layer.ops for name in ops[each].inputs if name.endswith(".weight"))
    return next(read, layer.ops[0]).removesuffix(".weight")


def kind_of(plan: Plan, layer: Layer) -> str:
    ops = {op.name: op for op in plan.ops}
    for name in layer.ops:
        op = ops[name]
        if op.op_type == "Conv":
            size = "x".join(str(dim.const) for dim in plan.weights[op.inputs[1]].shape[2:])
            return f"{'depthwise ' if op.attributes.get('group', 1) != 1 else ''}Conv {size}"
        if op.op_type in ("Gemm", "MatMul"):
            return op.op_type
    return ops[layer.ops[0]].op_type


def stairs(network: Network, _asked: argparse.Namespace) -> None:
    plan = network.plan()
    groups = [group for group in plan.groups if group.size >= 2 * STAIR_TOP]
    group = groups[len(groups) // 2]
    kept(network.file(".stairs.json"), lambda: staircase(plan, group.name))


def staircase(plan: Plan, group: str) -> dict[str, Any]:
    """Milliseconds of the layers that a group's width touches, inside the network, by that width in small steps.

    The layers that it does not touch take the same time at all widths, so what they took tells how slow the machine was in
    each run, and is divided out. Several runs of each, all widths and both precisions in turn; their median.
    """
    backend = load_backend("ort")
    parts, full = backend.partition(plan), plan.full_widths()
    widths = list(range(STAIR_STEP, STAIR_TOP + 1, STAIR_STEP))
    touched = [layer.widths(full) != layer.widths({**full, group: 1}) for layer in parts]
    found = np.zeros((STAIR_RUNS, len(PRECISIONS), len(widths), 2))
    for run, (kind, precision), (at, width) in product(range(STAIR_RUNS), enumerate(PRECISIONS), enumerate(widths)):
        options = CompileOptions(precision=precision, threads=1)
        with backend.compile(content(plan, {group: width}, precision), options) as executable:
            if not isinstance(executable, ProfiledExecutable):
                raise SystemExit("this backend does not tell a network's time by layer")
            times = executable.attribute(plan, parts, {**full, group: width}).layers
        for time, inside in zip(times, touched, strict=True):
            found[run, kind, at, int(inside)] += time.latency_ms
    rest = found[..., 0]
    pace = rest / np.median(rest, axis=(0, 2), keepdims=True)
    values = np.median(found[..., 1] / pace, axis=0).tolist()
    names = [title(plan, layer) for layer, inside in zip(parts, touched, strict=True) if inside]
    return {"group": group, "layers": names, "widths": widths, **dict(zip(PRECISIONS, values, strict=True))}


def run_of(precision: str, asked: argparse.Namespace) -> str:
    """The end of the names of the run against the table of ``precision``, and of what comes of it."""
    return f".adapt-{asked.budget}x-{precision}"


def adapt(network: Network, asked: argparse.Namespace) -> None:
    for precision in PRECISIONS:
        run = network.file(run_of(precision, asked))
        begin = (
            *("adapt", *network.model, "--weights", network.file(".safetensors"), "--data", asked.data),
            *("--lut", network.file(f".{precision}.lut.jsonl"), "--budget", f"latency={asked.budget}x"),
            *(
                "--granularity",
                GRANULARITY,
                "--reduction",
                asked.reduction,
                "--short-steps",
                asked.short_steps,
                "--batch-size",
                64,
                "--holdout",
                0.01,
            ),
            *("--long-epochs", asked.long_epochs, "--long-learning-rate", 0.02, "--label-smoothing", 0.1),
            *("--no-uniform", "--no-measure", "--workers", 2, "--threads", 1, "--seed", 1, "-o", run),
        )
        if not (run / "result.json").is_file():
            # 1 may be a budget out of reach, which is a result, too.
            command(*(("adapt", "--resume", run) if (run / "run.json").is_file() else begin), accepted=(0, 1))
            if not (run / "result.json").is_file():
                raise SystemExit(f"{run} has no result")
        for target in PRECISIONS:
            stem = f"{run_of(precision, asked)}.{target}"
            kept(
                network.file(f"{stem}.export.json"),
                lambda run=run, target=target, stem=stem: command(  # type: ignore[misc]
                    *("export", run, "--precision", target, "--samples", asked.samples),
                    *("-o", network.file(stem) / "model.onnx"),
                ),
            )
            kept(
                network.file(f"{stem}.accuracy.json"),
                lambda stem=stem: score(network.file(stem) / "model.onnx", asked.data),  # type: ignore[misc]
            )


def adapted(network: Network, asked: argparse.Namespace) -> None:
    files = [
        network.file(f"{run_of(run, asked)}.{target}") / "model.onnx"
        for target in ("int8", "fp32")
        for run in ("int8", "fp32")
    ]
    files += [written(network, precision) for precision in PRECISIONS]
    kept(
        network.file(f".adapted-{asked.budget}x.bench.json"),
        lambda: timed(files, asked.threads, asked, network.file(f".adapted-{asked.budget}x.raw.json")),
    )


def table(networks: Sequence[Network], asked: argparse.Namespace) -> str:
    """What is there so far, as Markdown."""
    lines = ["| network | input | threads | fp32 ms | int8 ms | int8 / fp32 | p10 to p90 | fp32 accuracy | int8 accuracy |"]
    lines.append(f"|{'---|' * 9}")
    for network in networks:
        scores = [known(network.file(f".{precision}.accuracy.json")) for precision in PRECISIONS]
        shown = ["-" if found is None else f"{found['accuracy']:.2%}" for found in scores]
        for threads in asked.bench_threads:
            found = known(network.file(f".bench-t{threads}.json"))
            if found:
                times = [artifact["latency_ms"]["median"] for artifact in reversed(found["artifacts"])]
                (pair,) = found["comparisons"]
                cells = [network.name, network.shape, threads, *(f"{value:.3f}" for value in times)]
                cells += [f"{pair['ratio']:.3f}", f"{pair['p10']:.3f} to {pair['p90']:.3f}", *shown]
                lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    for network in networks:
        lines += ["", *layer_lines(network), "", *stair_lines(network), "", *adapted_lines(network, asked)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def layer_lines(network: Network) -> list[str]:
    found = known(network.file(".layers.json"))
    if found is None:
        return []
    lines = [f"## Layers of {network.name} at {network.shape}", ""]
    for precision, line in found["networks"].items():
        lines.append(f"- {precision}: {line}")
    lines += [f"- blocks, {kind}: {entry}" for kind, entry in found["blocks"].items()]
    lines += ["", "| layer | kind | widths | fp32 us | int8 us | int8 / fp32 | |", f"|{'---|' * 7}"]
    for row in found["rows"]:
        fp32, int8 = row["fp32"], row["int8"]
        ratio = int8 / fp32 if fp32 and int8 else None
        mark = "" if ratio is None or ratio < 1 else "**not faster**"
        flags = [f"{precision}:{flag}" for precision in PRECISIONS for flag in row[f"{precision}_flags"]]
        said = " ".join(word for word in (mark, *flags) if word)
        times = ["-" if value is None else f"{1e3 * value:.1f}" for value in (fp32, int8)]
        sizes = "x".join(str(width) for width in row["widths"])
        shown = "-" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {row['layer']} | {row['kind']} | {sizes} | {' | '.join(times)} | {shown} | {said} |")
    return lines


def stair_lines(network: Network) -> list[str]:
    found = known(network.file(".stairs.json"))
    if found is None:
        return []
    lines = [f"Layers {', '.join(found['layers'])} by the width of `{found['group']}`, in the network, us", ""]
    lines += ["| width | fp32 | int8 |", "|---|---|---|"]
    triples = zip(found["widths"], found["fp32"], found["int8"], strict=True)
    return lines + [f"| {width} | {1e3 * fp32:.2f} | {1e3 * int8:.2f} |" for width, fp32, int8 in triples]


def adapted_lines(network: Network, asked: argparse.Namespace) -> list[str]:
    runs = {precision: network.file(run_of(precision, asked)) / "result.json" for precision in PRECISIONS}
    if not all(path.is_file() for path in runs.values()):
        return []
    results = {precision: json.loads(path.read_text()) for precision, path in runs.items()}
    plan = network.plan()
    lines = ["| group | uncut | against fp32 | against int8 |", "|---|---|---|---|"]
    for group in plan.groups:
        widths = [results[precision]["adapted"]["widths"][group.name] for precision in PRECISIONS]
        lines.append(f"| {group.name} | {group.size} | {widths[0]} | {widths[1]} |")
    estimators = {}
    for precision in PRECISIONS:
        lut, full = read_lut(network.file(f".{precision}.lut.jsonl")), plan.full_widths()
        estimators[precision] = NetworkEstimator(lut, plan, load_backend("ort").partition(plan))
        line = network_line(lut, plan)
        if line is not None:
            estimators[precision].anchor(full, line["latency_ms"])  # as adapt does
    found = known(network.file(f".adapted-{asked.budget}x.bench.json"))
    measured = {artifact["path"]: artifact["latency_ms"]["median"] for artifact in found["artifacts"]} if found else {}
    lines += ["", "| widths | run in | accuracy | estimate ms | measured ms | measured / estimate | of the uncut one |"]
    lines.append(f"|{'---|' * 7}")
    for run in (None, *PRECISIONS):
        for target in PRECISIONS:
            stem = f".{target}" if run is None else f"{run_of(run, asked)}.{target}"
            path = network.file(stem) / "model.onnx"
            setting = plan.full_widths() if run is None else results[run]["adapted"]["widths"]
            estimate = estimators[target].estimate(setting).value
            time, whole = measured.get(str(path)), measured.get(str(network.file(f".{target}") / "model.onnx"))
            scores = known(network.file(f"{stem}.accuracy.json"))
            cells = [
                "uncut" if run is None else f"against {run}",
                target,
                "-" if scores is None else f"{scores['accuracy']:.2%}",
                f"{estimate:.4f}",
                *(["-"] * 3 if time is None else [f"{time:.4f}", f"{time / estimate:.3f}", f"{time / (whole or time):.3f}"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", nargs="*", metavar="NETWORK", default=list(NETWORKS), help="with data and accuracy")
    parser.add_argument("--large", nargs="*", metavar="NETWORK", default=list(LARGE), help="untrained, only timed")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", help="needed until everything is exported")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--input", default="1x3x32x32")
    parser.add_argument("--large-input", default="1x3x224x224")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--calibration", default="minmax")
    parser.add_argument("--samples", type=int, default=1000, help="test pictures that export compares with PyTorch")
    parser.add_argument("--threads", type=int, default=1, help="of profile, stairs and adapted networks")
    parser.add_argument("--bench-threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--networks", type=int, default=20, help="that a profile looks into")
    parser.add_argument("--budget", type=float, default=0.85)
    parser.add_argument("--reduction", type=float, default=0.03)
    parser.add_argument("--short-steps", type=int, default=4)
    parser.add_argument("--long-epochs", type=float, default=0.5)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    trained = [Network(name, asked.input, True, asked.output) for name in asked.trained]
    large = [Network(name, asked.large_input, False, asked.output) for name in asked.large]
    for stage in (name for name in STAGES if name in asked.stages):
        chosen = {"bench": [*trained, *large], "profile": [*trained, *large], "layers": [*trained, *large]}
        if stage in ("stairs", "adapt", "adapted"):
            chosen[stage] = trained[:1]
        for network in chosen.get(stage, trained):
            print(f"{stage} {network.name} {network.shape}", file=sys.stderr, flush=True)
            globals()[stage](network, asked)
        write_atomic(asked.output / "table.md", table([*trained, *large], asked))
    print((asked.output / "table.md").read_text())


if __name__ == "__main__":
    main()
