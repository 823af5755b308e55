"""How long choosing the widths of all proposals of one AlexNet iteration takes (convolutions step 8, linear layers step 64).

    python tools/bench_width_search.py [--repeats 200] [--refit] [--refit-cells 1000]

The table is profiled on the fake backend first, so this needs no device. Variants are timed in turn, round by round, and the
median is printed. ``--refit`` adds the way of fitting a radial basis function anew for every width that is not in the table,
for the widest convolution group only. Its cost grows with the third power of the table: ours has about 50 cells a layer,
one measured at every multiple of 8 has a thousand and more, which ``--refit-cells`` stands for.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.adapt.width_search import candidate_widths, search_width
from netadapt_trt.backend import load_backend
from netadapt_trt.graph.network import open_network
from netadapt_trt.graph.planner import make_plan
from netadapt_trt.lut.axes import space_of
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.store import Lut, read_lut
from netadapt_trt.profile.run import profile
from netadapt_trt.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Layer, Plan

CONVOLUTION_STEP, LINEAR_STEP = 8, 64


def _steps(plan: Plan) -> dict[str, int]:
    """The step of each group: that of the operator whose weight makes its channels."""
    makers = {name: op.op_type for op in plan.ops for name in op.inputs if name in plan.weights}
    return {
        group.name: CONVOLUTION_STEP if any(makers.get(name) == "Conv" for name in group.weights) else LINEAR_STEP
        for group in plan.groups
    }


def _search_all(estimator: NetworkEstimator, steps: dict[str, int], target: float) -> dict[str, int | None]:
    """One iteration: for every group the widest width that meets the target."""
    full = estimator.plan.full_widths()
    found: dict[str, int | None] = {}
    for group, step in steps.items():
        candidates = candidate_widths(full[group], step)
        index = search_width(estimator.curve(full, group, candidates), target, "envelope").index
        found[group] = None if index is None else int(candidates[index])
    return found


def _search_anew(estimator: NetworkEstimator, steps: dict[str, int], target: float) -> dict[str, int | None]:
    """The same with nothing remembered of the current widths, as each iteration of a run begins with new ones."""
    estimator.raw(dict.fromkeys(steps, 8))
    return _search_all(estimator, steps, target)


def _median_ms(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, work in variants.items():
            start = time.perf_counter_ns()
            work()
            times[name].append((time.perf_counter_ns() - start) * 1e-6)
    return {name: statistics.median(values) for name, values in times.items()}


def _refit_seconds(
    lut: Lut, plan: Plan, layers: list[Layer], steps: dict[str, int], cells: int | None
) -> tuple[str, int, float]:
    """Seconds to value every candidate of the widest convolution group when each missing cell means fitting an interpolant
    to all cells of its layer again: those in the table, or as many made-up ones as ``cells`` says."""
    from scipy.interpolate import RBFInterpolator

    draw = np.random.default_rng(0)
    full = plan.full_widths()
    group = max((name for name, step in steps.items() if step == CONVOLUTION_STEP), key=lambda name: full[name])
    touched = [layer for layer in layers if any(group in dict(one.terms) for one in space_of(layer).parameters)]
    fits, start = 0, time.perf_counter()
    for width in candidate_widths(full[group], CONVOLUTION_STEP):
        for layer in touched:
            wanted = layer.widths({**full, group: int(width)})
            if lut.cell(layer.key, wanted) is not None:
                continue
            known = [(cell.widths, cell.latency_ms.median) for cell in lut.layer_cells(layer.key) if cell.latency_ms]
            at, values = np.array([widths for widths, _ in known], dtype=float), np.array([value for _, value in known])
            free = np.ptp(at, axis=0) > 0
            if cells is not None and free.sum() > 1:
                at = draw.uniform(at.min(axis=0), at.max(axis=0), size=(cells, len(wanted)))
                values = at[:, free].prod(axis=1)
            RBFInterpolator(at[:, free], values, kernel="linear")(np.array([wanted], dtype=float)[:, free])
            fits += 1
    return group, fits, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="rounds (default %(default)s)")
    parser.add_argument("--refit", action="store_true", help="also time fitting anew for every missing cell")
    parser.add_argument("--refit-cells", type=int, help="as if each table held so many cells a layer")
    parser.add_argument("--lut", type=Path, help="keep the table here instead of a temporary one")
    options = parser.parse_args()
    plan = make_plan(open_network(ModelSpec(model="torchvision:alexnet", input_shape=(1, 3, 224, 224))))
    backend = load_backend("fake")
    layers = backend.partition(plan)
    steps = _steps(plan)
    with tempfile.TemporaryDirectory() as folder:
        path = options.lut or Path(folder) / "alexnet.lut.jsonl"
        result = profile(plan, backend, path)
        lut = read_lut(path)
    print(f"{len(lut.cells)} cells, profiled in {result.seconds:.1f} s on the fake backend")
    estimator = NetworkEstimator(lut, plan, layers)
    target = 0.975 * estimator.estimate({}).value
    variants: dict[str, Callable[[], object]] = {
        "all proposals of one iteration, widths just changed": lambda: _search_anew(estimator, steps, target),
        "all proposals again at the same widths": lambda: _search_all(estimator, steps, target),
        "building the estimator (once per run)": lambda: NetworkEstimator(lut, plan, layers),
    }
    candidates = sum(len(candidate_widths(size, steps[group])) for group, size in plan.full_widths().items())
    print(f"{len(steps)} groups, {candidates} candidate widths: {_search_all(estimator, steps, target)}")
    for name, median in _median_ms(variants, options.repeats).items():
        print(f"{median:8.3f} ms  {name}")
    if options.refit:
        group, fits, seconds = _refit_seconds(lut, plan, layers, steps, options.refit_cells)
        print(f"{seconds * 1e3:8.0f} ms  {fits} refits for the group {group} alone")


if __name__ == "__main__":
    main()
