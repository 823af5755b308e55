"""A model "running" on the fake device: its time comes from the formula, its numbers from ONNX's reference evaluator."""

from __future__ import annotations

import hashlib
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import BackendError
from netadapt_trt.spec import EnergyStats

from .cost import IDLE_MW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .cost import LayerCost

__all__ = ["Behaviour", "FakeExecutable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """``noise``: relative spread of the runs (0 none). ``sleep``: whether a run really takes its time."""

    noise: float = 0.0
    sleep: bool = False


class FakeExecutable:
    """Answers with the cost of its model. Noise depends on the model's bytes and the number of the run, on nothing else."""

    def __init__(self, model: bytes, cost: LayerCost, behaviour: Behaviour) -> None:
        self._model: bytes | None = model
        self._cost = cost
        self._behaviour = behaviour
        self._seed = hashlib.sha256(model).hexdigest() if behaviour.noise else ""
        self._runs = 0
        self._stretch = 1.0
        self._energy = self._energy_of(1.0)

    def run(self) -> None:
        """Count a run; sleep where that was asked for. Raises BackendError once closed."""
        self._open()
        if self._behaviour.noise:
            draw = random.Random(f"{self._seed}:{self._runs}")
            # Log-normal: a latency is positive, and its long side is the longer one.
            self._stretch = math.exp(self._behaviour.noise * draw.gauss(0.0, 1.0))
            self._energy = self._energy_of(self._stretch)
        self._runs += 1
        if self._behaviour.sleep:
            time.sleep(self._cost.latency_ms * self._stretch / 1000)

    def elapsed_ms(self) -> float | None:
        """Time of the last run by the formula; None before the first."""
        return self._cost.latency_ms * self._stretch if self._runs else None

    def energy_mj(self) -> EnergyStats | None:
        """Energy of the last run by the formula; None before the first."""
        return self._energy if self._runs else None

    def power_mw(self) -> dict[str, float]:
        """Mean power of a run by rail."""
        cost = self._cost
        rails = {"FAKE_GPU": cost.gpu_mj, "FAKE_DRAM": cost.energy_mj - cost.gpu_mj}
        return {rail: energy / cost.latency_ms * 1000 for rail, energy in rails.items()}

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name from ONNX's reference evaluator: slow, and right. Raises BackendError for unfit inputs."""
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(self._open())
        unfit = set(evaluator.input_names) ^ set(inputs)
        if unfit:
            raise BackendError(f"inputs {sorted(unfit)} are missing or unknown; this model takes {evaluator.input_names}")
        try:
            outputs = evaluator.run(None, dict(inputs))
        except (ValueError, TypeError, RuntimeError, IndexError, NotImplementedError) as error:
            raise BackendError(f"the reference evaluator failed on these inputs: {error}") from error
        return dict(zip(evaluator.output_names, (np.asarray(value) for value in outputs), strict=True))

    def close(self) -> None:
        """Forget the model; a second call does nothing."""
        self._model = None

    def _open(self) -> bytes:
        if self._model is None:
            raise BackendError("this executable is closed; compile the model again")
        return self._model

    def _energy_of(self, stretch: float) -> EnergyStats:
        latency, energy = self._cost.latency_ms * stretch, self._cost.energy_mj * stretch
        return EnergyStats(total=energy, dynamic=energy - latency * IDLE_MW / 1000, stderr=0.0)

    def __enter__(self) -> FakeExecutable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
