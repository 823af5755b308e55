"""Whether an ONNX file computes what PyTorch computes: the same inputs through both, before anything is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from netadapt_trt.spec import Precision

__all__ = ["TOLERANCES", "NumericCheck", "compare_outputs", "require_agreement"]

TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.3}
"""Largest accepted error as a share of the largest output: fp16 keeps 11 bits and rounds after every layer, int8 keeps 8 and
cuts off what calibration did not see."""

MIN_AGREEMENT: dict[Precision, float] = {"int8": 0.9}
"""Least accepted share of data samples with PyTorch's largest class, where the largest error alone says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericCheck:
    """Errors over all samples; ``relative_error`` is ``max_abs_error / max_abs_output``, ``rms_error`` the same of the roots
    of mean squares.

    ``top1_agreement`` is the share of samples with the same largest class, None for outputs that are not [batch, classes];
    on data it must reach ``min_agreement`` where that is set.
    """

    inputs: Literal["data", "random"]
    samples: int
    max_abs_error: float
    max_abs_output: float
    relative_error: float
    tolerance: float
    top1_agreement: float | None
    rms_error: float | None = None
    min_agreement: float | None = None

    @property
    def passed(self) -> bool:
        """Within tolerance, which a NaN is not, and in agreement."""
        return self.relative_error <= self.tolerance and self.agrees

    @property
    def agrees(self) -> bool:
        """False when data are classified otherwise more often than accepted. Random inputs have no class to tell."""
        if self.min_agreement is None or self.top1_agreement is None or self.inputs == "random":
            return True
        return self.top1_agreement >= self.min_agreement

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare_outputs(
    model: nn.Module,
    onnx_model: bytes,
    batches: Iterable[Tensor],
    *,
    inputs: Literal["data", "random"],
    tolerance: float,
    min_agreement: float | None = None,
) -> NumericCheck:
    """Run ``batches`` (each of the exported input shape) through PyTorch in eval mode and through ONNX Runtime.

    Raises:
        BackendError: ONNX Runtime is missing or refuses the file.
        CheckError: the number of outputs or a shape differs.
    """
    import torch

    ort = load_backend("ort")
    was_training = model.training
    model.eval()
    samples, same, largest, error, classified = 0, 0, 0.0, 0.0, True
    squares = np.zeros(2)  # of errors, of outputs
    try:
        with torch.inference_mode(), ort.compile(onnx_model, CompileOptions(threads=ort.default_threads())) as executable:
            name = _input_name(onnx_model)
            for batch in batches:
                expected = [value.numpy() for value in _tensors(model(batch))]
                found = list(executable.infer({name: batch.contiguous().numpy()}).values())
                _require_shapes(expected, found)
                samples += len(batch)
                # A NaN on either side must not drop out of a maximum.
                error = _maximum(error, *(np.abs(a - b).max() for a, b in zip(expected, found, strict=True)))
                largest = _maximum(largest, *(np.abs(a).max() for a in expected))
                for a, b in zip(expected, found, strict=True):
                    squares += [np.square(a - b, dtype=np.float64).sum(), np.square(a, dtype=np.float64).sum()]
                classified &= expected[0].ndim == 2
                if classified:
                    same += int((expected[0].argmax(1) == found[0].argmax(1)).sum())
    finally:
        model.train(was_training)
    return NumericCheck(
        inputs=inputs,
        samples=samples,
        max_abs_error=error,
        max_abs_output=largest,
        relative_error=error / largest if largest > 0 else error,
        tolerance=tolerance,
        top1_agreement=same / samples if classified and samples else None,
        rms_error=float(np.sqrt(squares[0] / squares[1] if squares[1] > 0 else squares[0])),
        min_agreement=min_agreement,
    )


def require_agreement(check: NumericCheck, what: str, reason: str | None = None) -> None:
    """Raise CheckError unless the check passed. ``reason``: where the error comes from and what to do about it, if known."""
    if check.relative_error <= check.tolerance and not check.agrees:
        general = (
            "Calibrate on more data or by another method (percentile, entropy), fine-tune the network longer, or export fp16"
        )
        raise CheckError(
            f"{what} agrees with PyTorch on the class of {check.top1_agreement:.1%} of {check.samples} inputs, "
            f"{check.min_agreement:.0%} is accepted; nothing was written. {_sentence(reason) or general}"
        )
    if not check.passed:
        general = "Look for weights or activations that are huge or not finite; fp32 is the most exact precision"
        raise CheckError(
            f"{what} differs from PyTorch by {check.relative_error:.2e} of the largest output, {check.tolerance:.0e} is "
            f"accepted (max abs error {check.max_abs_error:.2e}, {check.samples} {check.inputs} inputs); nothing was "
            f"written. {_sentence(reason) or general}"
        )


def _sentence(text: str | None) -> str:
    return "" if not text else text[0].upper() + text[1:]


def _maximum(*values: float) -> float:
    return math.nan if any(math.isnan(value) for value in values) else float(max(values))


def _input_name(onnx_model: bytes) -> str:
    import onnx

    return str(onnx.load_from_string(onnx_model).graph.input[0].name)


def _tensors(output: Any) -> list[Tensor]:
    """Every tensor of a model's output, in the order the exporter flattens it."""
    import torch

    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for value in output.values() for tensor in _tensors(value)]
    if isinstance(output, (list, tuple)):
        return [tensor for value in output for tensor in _tensors(value)]
    return []


def _require_shapes(expected: Sequence[Any], found: Sequence[Any]) -> None:
    shapes = [[tuple(value.shape) for value in values] for values in (expected, found)]
    if shapes[0] != shapes[1]:
        raise CheckError(f"the ONNX model's outputs have shapes {shapes[1]}, PyTorch's {shapes[0]}; nothing was written")
