"""The fake backend: the pipeline's rehearsal. Deterministic, needs no runtime beyond onnx.

``NETADAPT_FAKE_NOISE`` (a relative spread such as 0.03) scatters the runs, ``NETADAPT_FAKE_SLEEP`` (1) makes them take their
time; both only where the constructor leaves them open.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from netadapt_trt.backend import Affinity
from netadapt_trt.errors import BackendError
from netadapt_trt.spec import Identity

from ..fusion import partition as fused_partition
from .cost import layer_cost, model_cost

if TYPE_CHECKING:
    from netadapt_trt.backend import CompileOptions
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Precision

    from .cost import LayerCost
    from .executable import FakeExecutable

__all__ = ["FakeBackend"]

_FORMULA = "2"  # its version; raised when cost.py changes, so that tables of two formulas are not mixed
_SPEED: dict[Precision, float] = {"fp32": 1.0, "fp16": 2.0}
_ELEMENT_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2}


class FakeBackend:
    """A device made of the formula in ``cost``. Threads mean nothing to it; fp16 halves arithmetic and bytes."""

    name = "fake"

    def __init__(self, *, noise: float | None = None, sleep: bool | None = None) -> None:
        self._noise = noise
        self._sleep = sleep

    def affinity(self) -> Affinity:
        """Always here, only on request: its figures are of no device."""
        return Affinity(0, "a formula, for rehearsals and tests; its figures are of no real device")

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and fp16."""
        return ("fp32", "fp16")

    def identity(self, *, precision: Precision, batch: int, threads: int) -> Identity:
        """The same on every machine. Raises BackendError for int8."""
        _require(precision)
        return Identity(
            backend=self.name,
            device="fake-device",
            runtime="formula",
            runtime_version=_FORMULA,
            provider="fake",
            precision=precision,
            recipe="none",
            batch=batch,
            threads=threads,
        )

    def default_threads(self) -> int:
        """1."""
        return 1

    def opset(self) -> tuple[int, int]:
        """The same as for ONNX Runtime, so that one file serves both."""
        return 20, 9

    def partition(self, plan: Plan) -> list[Layer]:
        """The same layers as ONNX Runtime's."""
        return fused_partition(plan)

    def compile(self, model: bytes, options: CompileOptions) -> FakeExecutable:
        """Work out the model's cost.

        Raises:
            BackendError: int8, bytes that are no valid ONNX model, a size left open, an option that is not a number.
        """
        from .executable import Behaviour, FakeExecutable

        _require(options.precision)
        behaviour = Behaviour(noise=self._spread(), sleep=self._sleeps())
        return FakeExecutable(model, _cost(model, options.precision), behaviour)

    def _spread(self) -> float:
        asked = self._noise if self._noise is not None else os.environ.get("NETADAPT_FAKE_NOISE") or 0.0
        try:
            spread = float(asked)
        except ValueError:
            spread = math.nan
        if not 0 <= spread < 1:
            raise BackendError(f"the fake device's noise is {asked!r}; set NETADAPT_FAKE_NOISE to a number from 0 to 1")
        return spread

    def _sleeps(self) -> bool:
        return os.environ.get("NETADAPT_FAKE_SLEEP", "") in ("1", "true", "yes") if self._sleep is None else self._sleep


def _require(precision: Precision) -> None:
    if precision == "int8":
        raise BackendError("the fake device refuses int8: its formula knows no quantised kernels; use fp32 or fp16")


def _cost(model: bytes, precision: Precision) -> LayerCost:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx's own dependency

    from .work import model_work

    try:
        work = model_work(onnx.load_model_from_string(model), bytes_per_element=_ELEMENT_BYTES[precision])
    except (DecodeError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise BackendError(f"the fake device refuses the model: {reason}") from error
    return model_cost([layer_cost(item, speed=_SPEED[precision]) for item in work])
