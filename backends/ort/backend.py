"""The ONNX Runtime backend: what it takes, under which conditions, and how a session is set up for timing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING

from netadapt_trt.backend import Affinity
from netadapt_trt.errors import BackendError
from netadapt_trt.measure.machine import machine_model, physical_cores
from netadapt_trt.spec import Identity, Placement

from ..fusion import partition as fused_partition

if TYPE_CHECKING:
    from netadapt_trt.backend import CompileOptions
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Precision

    from .executable import OrtExecutable

__all__ = ["OrtBackend"]

# The distributions that bring the module `onnxruntime`, of which one is installed.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
_OPSET, _IR_VERSION = 20, 9  # ONNX Runtime 1.17 is the first that takes them; the oldest we install is 1.18


class OrtBackend:
    """ONNX Runtime's CPU provider. Latency is the wall time of one run with bound buffers."""

    name = "ort"

    def affinity(self) -> Affinity:
        """Whether the module is installed; importing it is left for later."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Affinity(-1, "onnxruntime is not installed; run: pip install netadapt-trt[ort]")
        return Affinity(1, f"onnxruntime {_version()} on {machine_model()}, {physical_cores()} cores")

    def precisions(self) -> tuple[Precision, ...]:
        """fp32, and int8 where the model itself carries QuantizeLinear and DequantizeLinear."""
        return ("fp32", "int8")

    def identity(self, *, precision: Precision, batch: int, threads: int) -> Identity:
        """The conditions here. Raises BackendError when onnxruntime is missing or the precision is refused."""
        _require(precision)
        return Identity(
            backend=self.name,
            device=machine_model(),
            runtime="onnxruntime",
            runtime_version=_version(),
            provider="CPUExecutionProvider",
            precision=precision,
            recipe="qdq-ort-x86" if precision == "int8" else "none",
            batch=batch,
            threads=threads,
        )

    def placement(self) -> Placement:
        """The processor: no other provider is asked for."""
        return Placement(chip="cpu")

    def default_threads(self) -> int:
        """Physical cores this process may use."""
        return physical_cores()

    def opset(self) -> tuple[int, int]:
        """A pair that every supported ONNX Runtime takes."""
        return _OPSET, _IR_VERSION

    def partition(self, plan: Plan) -> list[Layer]:
        """Convolution or Gemm with activation and residual sum as one layer (see ``fusion``)."""
        return fused_partition(plan)

    def compile(self, model: bytes, options: CompileOptions) -> OrtExecutable:
        """A session with this many threads, inputs filled with seeded random data.

        Raises:
            BackendError: fp16, a model that ONNX Runtime refuses, or one whose sizes are left open.
        """
        _require(options.precision)
        if options.threads < 1:
            raise BackendError(f"ort needs at least one thread, not {options.threads}")
        from .executable import OrtExecutable

        return OrtExecutable(model, threads=options.threads)


def _require(precision: Precision) -> None:
    if precision == "fp16":
        raise BackendError(
            "ort refuses fp16: on a CPU it converts to fp32 around every kernel, so it is slower and measures nothing "
            "that would be deployed; use fp32"
        )


def _version() -> str:
    versions = (_installed(distribution) for distribution in _DISTRIBUTIONS)
    version = next((found for found in versions if found), None)
    if version is None:
        raise BackendError("onnxruntime is not installed; run: pip install netadapt-trt[ort]")
    return version


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
