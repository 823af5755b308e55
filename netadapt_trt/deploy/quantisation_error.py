"""Where an int8 network parts from its fp32 one: the error layer by layer, and what that says about the calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.deploy.calibrate import with_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from netadapt_trt.deploy.calibrate import Calibration

__all__ = ["LayerError", "advice", "explain", "layer_errors"]

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SHOWN = 3
_SATURATED = 0.01  # share of values beyond the range from which the range is the trouble, not the rounding
_WIDE = 30.0  # range over root mean square: a normal distribution's largest of a million values is 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """What a layer hands on, int8 against fp32, as root mean squares over all inputs.

    ``error`` is a share of the fp32 values, ``before`` the largest of what the layer was handed. ``saturated``: share of the
    fp32 values beyond the calibrated range. ``reach``: that range's far end over the values. Both 0 without a range.
    """

    layer: str
    error: float
    before: float
    saturated: float
    reach: float

    @property
    def added(self) -> float:
        """What the layer itself brought in."""
        return self.error - self.before


def layer_errors(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    batches: Iterable[np.ndarray],
) -> list[LayerError]:
    """Errors of the tensors that ``quantised`` has in 8 bits and of the outputs, in the order of the fp32 ``model``.

    ``ranges`` are those it was quantised with. Raises BackendError when ONNX Runtime is missing or refuses a model.
    """
    held = _held(model, quantised)
    sums = {name: np.zeros(4) for name in held}  # squares of errors and of values, values beyond, all values
    ort = load_backend("ort")
    options = CompileOptions(threads=ort.default_threads())
    fed = model.graph.input[0].name
    with (
        ort.compile(with_outputs(model, list(held)).SerializeToString(), options) as exact,
        ort.compile(with_outputs(quantised, list(held.values())).SerializeToString(), options) as rounded,
    ):
        for batch in batches:
            wanted = {fed: batch, **exact.infer({fed: batch})}
            found = {fed: batch, **rounded.infer({fed: batch})}
            for name, other in held.items():
                values = wanted[name].astype(np.float64)
                low, high = ranges.get(name, (-np.inf, np.inf))
                beyond = ((values < low) | (values > high)).sum()
                sums[name] += [np.square(found[other] - values).sum(), np.square(values).sum(), beyond, values.size]
    errors = {name: float(np.sqrt(total[0] / total[1])) if total[1] > 0 else 0.0 for name, total in sums.items()}
    graph = _Graph(model.graph)
    return [
        LayerError(
            layer=graph.layer(name),
            error=errors[name],
            before=max((errors[source] for source in graph.sources(name, held)), default=0.0),
            saturated=float(sums[name][2] / max(sums[name][3], 1)),
            reach=_reach(ranges.get(name), sums[name]),
        )
        for name in held
    ]


def explain(errors: Sequence[LayerError]) -> str:
    """The layers that add most, and what arrives at the output; a sentence without its full stop."""
    told = []
    for each in _worst(errors):
        saturated = f", {each.saturated:.1%} of its values beyond the range" if each.saturated >= _SATURATED else ""
        told.append(f"{each.layer} ({each.before:.1%} before, {each.error:.1%} behind it{saturated})")
    return (
        f"root mean square error, of the values: most is added at {'; '.join(told)}; "
        f"{errors[-1].error:.1%} at {errors[-1].layer}, the last of {len(errors)}"
    )


def advice(errors: Sequence[LayerError], method: Calibration, samples: int) -> str:
    """What to try, from the cause that the layers adding most show."""
    worst = _worst(errors)
    if any(each.saturated >= _SATURATED for each in worst):
        if method != "minmax":
            return f"{method} cuts off too much of them: try --calibration minmax"
        return f"the {samples} calibration inputs did not reach those values: try --calibration-samples {4 * samples}"
    wide = [each for each in worst if each.reach > _WIDE]
    if wide and method == "minmax":
        return (
            f"few values far out take most of the 255 steps at {wide[0].layer} (its range reaches {wide[0].reach:.0f} times "
            "the root mean square): try --calibration percentile or entropy"
        )
    kept = " ".join(f"--keep-float {each.layer}" for each in worst if " " not in each.layer)
    return (
        f"the ranges fit the values, so 8 bits are too few there: try {kept or '--keep-float with layers before it'}, "
        "fine-tune the network longer, take a wider network of the run (export RUN/iter-NNN), or export fp16 or fp32"
    )


def _worst(errors: Sequence[LayerError]) -> list[LayerError]:
    """Those that add most, without any that adds a tenth of the first only."""
    ordered = sorted(errors, key=lambda each: each.added, reverse=True)[:_SHOWN]
    return [each for each in ordered if each.added >= 0.1 * ordered[0].added]


def _held(model: onnx.ModelProto, quantised: onnx.ModelProto) -> dict[str, str]:
    """fp32 tensor -> the quantised model's name of what the readers of it get, in order; outputs as they are."""
    made = [name for node in model.graph.node for name in node.output if name]
    returned = {value.name for value in model.graph.output}
    behind = {
        node.name.removesuffix("_DequantizeLinear"): node.output[0]
        for node in quantised.graph.node
        if node.op_type == "DequantizeLinear"
    }
    inputs = [value.name for value in model.graph.input]
    return {name: name if name in returned else behind[name] for name in [*inputs, *made] if name in {*behind, *returned}}


def _reach(limits: tuple[float, float] | None, sums: np.ndarray) -> float:
    if limits is None or sums[1] <= 0:
        return 0.0
    return float(max(-limits[0], limits[1]) / np.sqrt(sums[1] / sums[3]))


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._weights = {tensor.name for tensor in graph.initializer}

    def layer(self, tensor: str) -> str:
        """The layer that makes the tensor by the name of its weight; an activation behind it is part of it."""
        name = tensor
        while (node := self._makers.get(name)) is not None:
            weight = next((each for each in node.input[1:2] if each in self._weights), None)
            if node.op_type in _WEIGHTED and weight is not None:
                return str(weight).removesuffix(".weight")
            read = [each for each in node.input if each and each not in self._weights]
            if len(read) != 1 or node.op_type not in ("Relu", "Clip"):
                return f"{node.op_type} {tensor}"
            name = read[0]
        return f"the input {tensor}" if name == tensor else tensor

    def sources(self, tensor: str, held: Mapping[str, str]) -> list[str]:
        """The nearest tensors of ``held`` that it is computed from."""
        found: dict[str, None] = {}
        node = self._makers.get(tensor)
        waiting = [] if node is None else list(node.input)
        while waiting:
            name = waiting.pop()
            if name in held:
                found[name] = None
            elif name in self._makers:
                waiting.extend(self._makers[name].input)
        return list(found)
