"""CUDA through NVIDIA's cuda-python (package ``cuda.bindings``, 12.x and 13.x): wheels for JetPack 6, 7 and servers."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from .interface import CudaError, DeviceInfo, OutOfDeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CudaPython"]

_NO_DEVICE = (
    "cudaErrorInsufficientDriver",
    "cudaErrorNoDevice",
    "cudaErrorSystemDriverMismatch",
    "cudaErrorDevicesUnavailable",
)
_NO_DEVICE_HINT = (
    "no usable NVIDIA driver is visible here. In a container, start it with --runtime nvidia (JetPack 4 to 6) or "
    "--gpus all; elsewhere install a driver that is at least as new as this CUDA"
)
_MEMORY_HINT = "the GPU's memory is used up: end other processes that use it, or take a smaller batch or input"


class CudaPython:
    """The first device that CUDA_VISIBLE_DEVICES leaves, in its primary context, which TensorRT shares."""

    name = "cuda-python"

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise CudaError(f"cuda-python cannot be imported ({error}); run: pip install cuda-python") from error
        self._cuda: Any = runtime
        self._host: dict[int, int] = {}
        self._call(runtime.cudaSetDevice, 0)

    def _call(self, function: Callable[..., tuple[Any, ...]], *args: Any) -> Any:
        """The result without its error code, which comes first; None, one value or a tuple."""
        code, *values = function(*args)
        if int(code):
            raise self._error(function.__name__, code)
        return values[0] if len(values) == 1 else tuple(values) or None

    def _error(self, what: str, code: Any) -> CudaError:
        # cudaGetErrorName is asked directly: a failure of its own must not come back here.
        name, text = (bytes(ask(code)[1]).decode() for ask in (self._cuda.cudaGetErrorName, self._cuda.cudaGetErrorString))
        if name == "cudaErrorMemoryAllocation":
            return OutOfDeviceMemoryError(f"{what} failed: {name} ({text}); {_MEMORY_HINT}")
        hint = f"; {_NO_DEVICE_HINT}" if name in _NO_DEVICE else ""
        return CudaError(f"{what} failed: {name} ({text}){hint}")

    def device_info(self) -> DeviceInfo:
        """Of the current device."""
        cuda = self._cuda
        found = self._call(cuda.cudaGetDeviceProperties, self._call(cuda.cudaGetDevice))
        return DeviceInfo(
            name=bytes(found.name).split(b"\0")[0].decode(errors="replace"),
            capability=(int(found.major), int(found.minor)),
            memory_bytes=int(found.totalGlobalMem),
            integrated=bool(found.integrated),
            driver_version=_version(self._call(cuda.cudaDriverGetVersion)),
            runtime_version=_version(self._call(cuda.cudaRuntimeGetVersion)),
            bus_id=f"{found.pciDomainID:04x}:{found.pciBusID:02x}:{found.pciDeviceID:02x}.0",
        )

    def alloc(self, size_bytes: int) -> int:
        """``cudaMalloc``."""
        return int(self._call(self._cuda.cudaMalloc, size_bytes))

    def free(self, pointer: int) -> None:
        """``cudaFree``."""
        self._call(self._cuda.cudaFree, pointer)

    def alloc_host(self, size_bytes: int) -> np.ndarray:
        """``cudaHostAlloc``, seen as an array."""
        pointer = int(self._call(self._cuda.cudaHostAlloc, size_bytes, 0))
        array: np.ndarray = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(pointer))
        self._host[id(array)] = pointer
        return array

    def free_host(self, array: np.ndarray) -> None:
        """``cudaFreeHost``."""
        self._call(self._cuda.cudaFreeHost, self._host.pop(id(array)))

    def copy_htod(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """``cudaMemcpyAsync``."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync, pointer, array.ctypes.data, array.nbytes, kind, stream)

    def copy_dtoh(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """``cudaMemcpyAsync``."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync, array.ctypes.data, pointer, array.nbytes, kind, stream)

    def new_stream(self) -> int:
        """Non-blocking."""
        return int(self._call(self._cuda.cudaStreamCreateWithFlags, self._cuda.cudaStreamNonBlocking))

    def free_stream(self, stream: int) -> None:
        """``cudaStreamDestroy``."""
        self._call(self._cuda.cudaStreamDestroy, stream)

    def sync(self, stream: int) -> None:
        """``cudaStreamSynchronize``."""
        self._call(self._cuda.cudaStreamSynchronize, stream)

    def new_event(self, *, blocking: bool = False) -> Any:
        """``cudaEventCreateWithFlags``: with time; by default waiting for it spins."""
        flags = self._cuda.cudaEventBlockingSync if blocking else self._cuda.cudaEventDefault
        return self._call(self._cuda.cudaEventCreateWithFlags, flags)

    def free_event(self, event: Any) -> None:
        """``cudaEventDestroy``."""
        self._call(self._cuda.cudaEventDestroy, event)

    def record(self, event: Any, stream: int) -> None:
        """``cudaEventRecord``."""
        self._call(self._cuda.cudaEventRecord, event, stream)

    def sync_event(self, event: Any) -> None:
        """``cudaEventSynchronize``."""
        self._call(self._cuda.cudaEventSynchronize, event)

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """``cudaEventElapsedTime``."""
        return float(self._call(self._cuda.cudaEventElapsedTime, first, second))

    def begin_capture(self, stream: int) -> None:
        """Thread-local: what other threads do meanwhile (a sampler that reads files) does not end the capture."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._cuda.cudaStreamBeginCapture, stream, mode)

    def end_capture(self, stream: int) -> Any:
        """The executable graph; the template that it was made from is destroyed."""
        graph = self._call(self._cuda.cudaStreamEndCapture, stream)
        try:
            return self._call(self._cuda.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(self._cuda.cudaGraphDestroy, graph)

    def launch_graph(self, graph: Any, stream: int) -> None:
        """``cudaGraphLaunch``."""
        self._call(self._cuda.cudaGraphLaunch, graph, stream)

    def free_graph(self, graph: Any) -> None:
        """``cudaGraphExecDestroy``."""
        self._call(self._cuda.cudaGraphExecDestroy, graph)


def _version(number: int) -> str:
    """12060 -> "12.6"; 0 where there is no driver."""
    return f"{number // 1000}.{number % 1000 // 10}"
