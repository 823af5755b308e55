"""Which range each activation takes on real inputs: what int8 spends its 256 codes on.

``minmax`` keeps every value seen. ``percentile`` lets one in ten thousand saturate. ``entropy`` takes the threshold at which
a histogram in 128 steps differs least from the full one (least Kullback-Leibler divergence; Migacz, "8-bit Inference with
TensorRT", GTC 2017). The last two pass over the data twice: ranges first, then histograms over them, which is exact and
needs no memory that grows with the data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.errors import DataError, SpecError
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import onnx

    from netadapt_trt.plan.precision import Ranges
    from netadapt_trt.progress import Progress

__all__ = ["CALIBRATIONS", "Calibration", "activation_ranges", "entropy_threshold", "percentile_threshold", "with_outputs"]

Calibration = Literal["minmax", "percentile", "entropy"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)

_BINS = 2048
_STEPS = 128  # codes of one sign
_KEPT = 0.9999
_KEPT_BY_ENTROPY = 0.999


def activation_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Callable[[], Iterable[np.ndarray]],
    *,
    method: Calibration = "minmax",
    samples: int | None = None,
    progress: Progress = QUIET,
) -> Ranges:
    """(low, high) of every tensor of ``tensors`` over ``batches()``, run by ONNX Runtime on the fp32 ``model``.

    Each call of ``batches`` yields the same arrays of the model's input shape, ``samples`` inputs in all (for the bar).

    Raises:
        SpecError: an unknown method. DataError: no batch, or an activation that is not finite.
        BackendError: ONNX Runtime is missing or refuses the model.
    """
    if method not in CALIBRATIONS:
        raise SpecError(f"unknown calibration {method!r}; known: {', '.join(CALIBRATIONS)}")
    ort = load_backend("ort")
    options = CompileOptions(threads=ort.default_threads())
    fed = model.graph.input[0].name
    with ort.compile(with_outputs(model, tensors).SerializeToString(), options) as executable:

        def activations(text: str) -> Iterator[tuple[str, np.ndarray]]:
            with progress.task(text, samples) as task:
                for batch in batches():
                    found = {fed: batch, **executable.infer({fed: batch})}
                    yield from ((name, found[name]) for name in tensors)
                    task.advance(len(batch))

        ranges = _extremes(activations("calibrating: ranges"))
        if method == "minmax":
            return ranges
        histograms = _histograms(activations("calibrating: histograms"), ranges)
    find = percentile_threshold if method == "percentile" else entropy_threshold
    return {name: _saturated(ranges[name], find, histograms[name]) for name in tensors}


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that also returns ``tensors``, as far as it makes them."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output}
    returned = {value.name for value in model.graph.output}
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for name in tensors:
        if name in made and name not in returned:
            unknown = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            copy.graph.output.append(known.get(name, unknown))
    return copy


def percentile_threshold(histogram: np.ndarray, kept: float = _KEPT) -> int:
    """The number of bins, from zero on, that hold the share ``kept`` of all counts."""
    total = histogram.sum()
    return int(np.searchsorted(np.cumsum(histogram), kept * total)) + 1 if total else len(histogram)


def entropy_threshold(histogram: np.ndarray, steps: int = _STEPS) -> int:
    """The number of bins to keep, of those from zero on, so that ``steps`` codes over them lose least information.

    What lies beyond saturates, that is, counts for the last bin kept; at most one value in a thousand may.
    """
    best, least = len(histogram), math.inf
    total = float(histogram.sum())
    if not total:
        return best
    # A spike (the flat ground of a picture, filtered) hides in its bin all that saturates there: on digits the divergence
    # alone cut off 19 % of a layer's values.
    fewest = max(steps, percentile_threshold(histogram, _KEPT_BY_ENTROPY))
    for kept in range(len(histogram), fewest - 1, -(steps // 8)):
        loss = _divergence(histogram, kept, steps, total)
        if loss < least:
            best, least = kept, loss
    return best


def _divergence(histogram: np.ndarray, kept: int, steps: int, total: float) -> float:
    inside = histogram[:kept].astype(np.float64)
    saturated = inside.copy()
    saturated[-1] += total - inside.sum()
    # Each code stands for a run of bins; it spreads what they hold evenly over those that hold anything.
    starts = np.arange(steps) * kept // steps
    holding = (saturated > 0).astype(np.float64)
    sums, counts = np.add.reduceat(inside, starts), np.add.reduceat(holding, starts)
    spread = np.repeat(sums / np.maximum(counts, 1), np.diff(np.append(starts, kept))) * holding
    if not spread.sum():
        return math.inf
    p, q = saturated / total, spread / spread.sum()
    present = p > 0
    # A code that saturation alone fills has no value inside: as unlikely as a single count.
    return float((p[present] * np.log(p[present] / np.maximum(q[present], 1.0 / (total + 1)))).sum())


def _saturated(
    extremes: tuple[float, float], find: Callable[[np.ndarray], int], histogram: np.ndarray
) -> tuple[float, float]:
    low, high = extremes
    threshold = max(-low, high) * find(histogram) / _BINS
    return max(low, -threshold), min(high, threshold)


def _extremes(activations: Iterable[tuple[str, np.ndarray]]) -> Ranges:
    found: Ranges = {}
    for name, values in activations:
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError(f"{name} is not finite on the calibration data; look for inputs or weights that are not")
        before = found.get(name, (low, high))
        found[name] = min(before[0], low), max(before[1], high)
    if not found:
        raise DataError("there is no calibration data: the data set is empty")
    return found


def _histograms(activations: Iterable[tuple[str, np.ndarray]], ranges: Ranges) -> dict[str, np.ndarray]:
    """Counts of magnitudes in equal bins from zero to the largest. Exact zeros are left out: any scale represents them."""
    found = {name: np.zeros(_BINS, np.int64) for name in ranges}
    for name, values in activations:
        reach = max(-ranges[name][0], ranges[name][1])
        magnitudes = np.abs(values[values != 0])
        if reach > 0:
            found[name] += np.histogram(magnitudes, bins=_BINS, range=(0.0, reach))[0]
    return found
