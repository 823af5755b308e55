"""An engine in memory: deserialised, its inputs and outputs by name, and what it says about itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import BackendError

from .inspect import read_entries

if TYPE_CHECKING:
    from ..attribution import Entry
    from .log import Log

__all__ = ["Binding", "LoadedEngine", "load_engine"]

# By name and not by trt.nptype, which in some 8.x releases asks numpy for np.bool: that is gone since numpy 1.24.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One input or output."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size_bytes(self) -> int:
        """Of its buffer; TensorRT wants an address even for nothing."""
        return max(1, math.prod(self.shape) * self.dtype.itemsize)


class LoadedEngine:
    """What the runtime made of the bytes. ``trt`` and ``log`` are kept, since contexts report through them."""

    def __init__(self, trt: Any, log: Log, engine: Any, runtime: Any) -> None:
        self.trt, self.log = trt, log
        self._engine, self._runtime = engine, runtime
        self.bindings = tuple(self._binding(engine.get_tensor_name(index)) for index in range(engine.num_io_tensors))

    def _binding(self, name: str) -> Binding:
        engine = self._engine
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise BackendError(f"{name!r} has no fixed size {shape}; build the engine from a model with fixed input sizes")
        kind = engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise BackendError(f"{name!r} is of type {kind}, which numpy lacks; export it as fp32 or fp16")
        is_input = engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
        return Binding(name=name, is_input=is_input, shape=shape, dtype=np.dtype(_DTYPES[kind]))

    def new_context(self) -> Any:
        """An execution context. Raises BackendError when the device has no memory left for it."""
        self.log.clear()
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"TensorRT cannot set up the engine for running: {self.log.reason()}; it needs {self.device_memory_bytes()} "
                "bytes of the GPU's memory: end other processes that use it, or take a smaller batch or input"
            )
        return context

    def device_memory_bytes(self) -> int | None:
        """What one context needs beside weights, inputs and outputs. The newer name first: 11 has no other."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            size = getattr(self._engine, name, None)
            if size is not None:
                return int(size)
        return None

    def entries(self) -> tuple[Entry, ...]:
        """The kernels and copies that run, in order. Raises BackendError where the engine does not say."""
        inspector = self._engine.create_engine_inspector()
        return read_entries(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free it; contexts must be gone by then."""
        self._engine = None
        self._runtime = None


def load_engine(trt: Any, log: Log, content: bytes, *, device: str) -> LoadedEngine:
    """Deserialise. Raises BackendError, with TensorRT's reason, for an engine that is damaged or not of this device."""
    log.clear()
    runtime = trt.Runtime(log.logger)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise BackendError(
            f"TensorRT {trt.__version__} on {device} cannot load the engine: {log.reason()}. An engine runs on the device "
            "model and TensorRT version that built it, and nowhere else: build it again here from model.onnx"
        )
    return LoadedEngine(trt, log, engine, runtime)
