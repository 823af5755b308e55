"""The mask test on real networks: cutting computes what masking computes, trains, exports, and matches the plan.

    python tools/bench_mask.py [--draws 20] [--onnx-draws 20] [--size 64] [--output docs/results/mask.md] [NETWORK ...]

Per draw of widths (design: a base u in (0.15, 1), each group u times (0.7, 1.3)) and of channels to keep, of every network
with weights, batch-norm statistics and affine values drawn at random:

- mask error: largest difference between the cut network and the whole one with every consumer's weights for the removed
  channels at zero, relative to the largest output. The bound is on double precision: the two are the same sums, but kernels
  add in another order at another width, and in single precision that rounding grows through a deep network. The error in
  single precision stands beside it;
- response: difference between the outputs for two inputs, same unit; near zero would mean that nothing was tested;
- a forward and backward pass in train mode leaves finite gradients in every parameter;
- ONNX Runtime on the exported cut network against PyTorch, and operators and weight shapes of the network that the plan
  writes at these widths against that export. This takes one to ten seconds a draw; ``--onnx-draws`` limits it.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from netadapt_trt.graph.export import export_onnx
from netadapt_trt.graph.network import Network, open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.graph.surgery import cut, zero_consumers
from netadapt_trt.plan.write import op_shapes, write_network
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

REQUIRED = (
    *(
        f"torchvision:{name}"
        for name in ("alexnet", "vgg11_bn", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small")
    ),
    *(f"torchvision:{name}" for name in ("mnasnet1_0", "efficientnet_b0", "squeezenet1_1", "densenet121", "googlenet")),
    "zoo:mobilenet_v1",
)
MASK_BOUND, ONNX_BOUND, LEAST_RESPONSE = 1e-5, 1e-4, 1e-2
Keep = Mapping[str, list[int]]


@dataclass
class Row:
    """Worst values of one network over its draws."""

    model: str
    network: Network
    mask: float = 0.0
    mask_single: float = 0.0
    response: float = float("inf")
    onnx: float = 0.0
    onnx_draws: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.faults

    def markdown(self) -> str:
        channels = self.network.channels
        frozen = [f"{group.name}: {group.reason}" for group in channels.groups.values() if not group.prunable]
        onnx_error = f"{self.onnx:.1e} ({self.onnx_draws})" if self.onnx_draws else "-"
        share = f"{channels.prunable_share(self.network.model):.2%}"
        return (
            f"| {self.model} | {len(channels.prunable)} | {'; '.join(frozen)} | {share} "
            f"| {self.mask:.1e} | {self.mask_single:.1e} | {self.response:.2g} | {onnx_error} "
            f"| {'; '.join(channels.unsupported) or 'none'} | {'; '.join(self.faults) or 'passed'} | {self.seconds:.0f} |"
        )


INTRODUCTION = f"""# Mask test

A network from which channels were cut must compute what the whole one computes when every consumer's weights for
those channels are zero. Weights, batch-norm statistics and affine values are random; widths and channels are drawn
anew each time. Errors are the largest of all draws, relative to the largest output: the mask error in double
precision (bound {MASK_BOUND:g}) and, beside it, in single precision, where the order of additions alone makes a
difference; ONNX Runtime against PyTorch in single precision (bound {ONNX_BOUND:g}). *Response* is how much the
outputs for two inputs differ; near zero would mean that nothing was tested. *Prunable parameters* are those that some
cut removes. *Passed* also says that the cut networks trained a step with finite gradients everywhere, and that the
network written from the plan has the operators and weight shapes of the cut network's own export.
"""


def single_precision(rows: Sequence[Row]) -> str:
    """The bound was asked for without naming a precision; who needs double to keep it is told."""
    above = [f"{row.model} ({row.mask_single:.1e})" for row in rows if row.mask_single > MASK_BOUND]
    return f"In single precision above the bound of {MASK_BOUND:g}: {', '.join(above) or 'none'}."


HEADER = (
    "| network | prunable groups | frozen | prunable parameters | mask error | in single precision | smallest response "
    "| ONNX error (draws) | unsupported | train mode, plan, bounds | s |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def randomise(network: Network, keep: Keep, pictures: torch.Tensor, generator: torch.Generator) -> None:
    """Random weights, affine values and statistics.

    Statistics are drawn near those of the network in which ``keep`` is cut: near those of the whole network, signals would
    die out in the cut one, whose sums are smaller, and its output would not depend on its input. A network without batch
    norm has its layers' outputs centred and scaled on the same account.
    """

    def uniform(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(tensor.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in network.model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    module.bias.copy_(uniform(module.bias, -0.1, 0.1))
        norms = _norms(network.model)
        if not norms:
            _centre_layers(network.model, zero_consumers(network.model, network.channels, keep), pictures)
            return
        for norm in norms:
            norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
            norm.bias.copy_(uniform(norm.bias, -0.5, 0.5))
        masked = zero_consumers(network.model, network.channels, keep)
        for norm in _norms(masked):
            norm.momentum = 1.0
            norm.train()
        masked(pictures)
        for norm, measured in zip(norms, _norms(masked), strict=True):
            found = dict(measured.named_buffers())
            mean, variance = found["running_mean"], found["running_var"]
            mean += variance.sqrt() * uniform(mean, -0.3, 0.3)
            variance *= uniform(variance, 0.5, 2.0)
            norm.load_state_dict({**norm.state_dict(), "running_mean": mean, "running_var": variance})


def _centre_layers(model: nn.Module, masked: nn.Module, pictures: torch.Tensor) -> None:
    """Give every layer of ``model`` the mean and scale of outputs that batch norm would, as measured in ``masked``."""
    whole = dict(model.named_modules())

    def centre(name: str, _: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        layer = cast("nn.Conv2d | nn.Linear", whole[name])
        channels = [0, *range(2, output.ndim)]
        scale, mean = output.std(channels).clamp_min(1e-3), torch.zeros(output.shape[1])
        layer.weight /= scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        if layer.bias is not None:
            mean = output.mean(channels)
            layer.bias.copy_((layer.bias - mean) / scale)
        around = (1, -1, *[1] * (output.ndim - 2))
        return (output - mean.reshape(around)) / scale.reshape(around)

    for name, module in masked.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(partial(centre, name))
    masked(pictures)


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def draw(network: Network, generator: random.Random) -> dict[str, list[int]]:
    base = generator.uniform(0.15, 1)
    keep = {}
    for name, size in network.widths.items():
        width = min(size, max(1, round(size * base * generator.uniform(0.7, 1.3))))
        keep[name] = sorted(generator.sample(range(size), width))
    return keep


def mask_error(network: Network, keep: Keep, pictures: torch.Tensor) -> tuple[float, float]:
    """(relative error, relative difference between the outputs for two inputs)."""
    small = cut(network.model, network.channels, keep)
    with torch.no_grad():
        expected = zero_consumers(network.model, network.channels, keep)(pictures)
        got = small(pictures)
    scale = expected.abs().max()
    return float((got - expected).abs().max() / scale), float((expected[0] - expected[1]).abs().max() / scale)


def train_fault(small: nn.Module, pictures: torch.Tensor) -> str:
    small = copy.deepcopy(small).train()
    small(pictures).square().mean().backward()
    missing = [name for name, p in small.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    return f"no finite gradient in {missing[0]}" if missing else ""


def onnx_error(small: nn.Module, plan: Plan, widths: Mapping[str, int], picture: torch.Tensor) -> tuple[float, str]:
    """(relative error of ONNX Runtime, how the network written from the plan differs from the export)."""
    import onnxruntime

    exported = export_onnx(small, tuple(picture.shape))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: picture.numpy()})
    with torch.no_grad():
        expected = small(picture)
    opset = next(entry.version for entry in exported.opset_import if entry.domain in ("", "ai.onnx"))
    written = onnx.load_from_string(write_network(plan, widths, opset=opset, ir_version=exported.ir_version))
    pairs = list(zip(op_shapes(written), op_shapes(exported), strict=False))
    unequal = [f"plan writes {mine}, export has {theirs}" for mine, theirs in pairs if mine != theirs]
    if len(written.graph.node) != len(exported.graph.node):
        unequal.append(f"plan has {len(written.graph.node)} operators, export {len(exported.graph.node)}")
    error = float((torch.from_numpy(got) - expected).abs().max() / expected.abs().max())
    return error, unequal[0] if unequal else ""


def bench(model: str, arguments: argparse.Namespace, advance: Callable[[], None]) -> Row:
    """All draws of one network; ``advance`` is told after each."""
    started = time.perf_counter()
    network = open_network(ModelSpec(model=model, input_shape=(1, 3, arguments.size, arguments.size)))
    row, generator = Row(model, network), torch.Generator().manual_seed(arguments.seed)
    widths_of = random.Random(arguments.seed)
    plan = make_plan(network) if arguments.onnx_draws else None
    for index in range(arguments.draws):
        pictures = torch.randn(2, 3, arguments.size, arguments.size, generator=generator)
        keep = draw(network, widths_of)
        randomise(network, keep, torch.randn(4, 3, arguments.size, arguments.size, generator=generator), generator)
        single, _ = mask_error(network, keep, pictures)
        twin = replace(network, model=copy.deepcopy(network.model).double())
        error, response = mask_error(twin, keep, pictures.double())
        row.mask, row.mask_single = max(row.mask, error), max(row.mask_single, single)
        row.response = min(row.response, response)
        row.faults += [f"mask error {error:.1e}"] * (not error <= MASK_BOUND)
        row.faults += [f"response {response:.1e}"] * (not response >= LEAST_RESPONSE)
        small = cut(network.model, network.channels, keep)
        row.faults += filter(None, [train_fault(small, pictures)])
        if plan is not None and index < arguments.onnx_draws:
            error, unequal = onnx_error(small, plan, {name: len(kept) for name, kept in keep.items()}, pictures[:1])
            row.onnx, row.onnx_draws = max(row.onnx, error), row.onnx_draws + 1
            row.faults += [f"ONNX error {error:.1e}"] * (not error <= ONNX_BOUND) + [unequal] * bool(unequal)
        advance()
    row.faults = list(dict.fromkeys(row.faults))
    row.seconds = time.perf_counter() - started
    return row


def benches(arguments: argparse.Namespace) -> list[Row]:
    console, rows = Console(stderr=True), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for model in arguments.networks:
            task = progress.add_task(model, total=arguments.draws)
            rows.append(bench(model, arguments, partial(progress.advance, task)))
            if not rows[-1].passed:
                console.print(f"{model}: {'; '.join(rows[-1].faults)}", markup=False)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=REQUIRED, metavar="NETWORK")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--onnx-draws", type=int, default=20, help="draws that are also exported and compared with the plan")
    parser.add_argument("--size", type=int, default=64, help="height and width of the input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the table there, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = benches(arguments)
    shape = f"input 1x3x{arguments.size}x{arguments.size}"
    settings = (
        f"--draws {arguments.draws} --onnx-draws {arguments.onnx_draws} --size {arguments.size} --seed {arguments.seed}"
    )
    command = f"python tools/bench_mask.py {settings}"
    title = f"{arguments.draws} draws each, {shape}, seed {arguments.seed}, torch {torch.__version__}: `{command}`.\n"
    text = "\n".join([INTRODUCTION, title, HEADER, *(row.markdown() for row in rows), "", single_precision(rows)])
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
