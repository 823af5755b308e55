"""What the TensorRT backends need of CUDA, and nothing more.

Streams are plain integers (the handle that TensorRT takes), events and graphs are whatever the adapter makes them. Every
failure leaves an adapter as :class:`CudaError`, so that callers import no CUDA package to catch it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from netadapt_trt.errors import BackendError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Cuda", "CudaError", "DeviceInfo", "OutOfDeviceMemoryError"]


class CudaError(BackendError):
    """A CUDA call that failed; the message names the call and CUDA's own name of the error."""


class OutOfDeviceMemoryError(CudaError):
    """The device has not the memory that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The GPU in use. ``integrated``: it shares the host's memory, as on a Jetson. Versions are CUDA's, such as "12.6".

    ``bus_id`` is its place on the PCI bus, such as 0000:01:00.0; "" where it has none.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    integrated: bool
    driver_version: str
    runtime_version: str
    bus_id: str = ""

    @property
    def architecture(self) -> str:
        """``SM87`` for compute capability 8.7."""
        return f"SM{self.capability[0]}{self.capability[1]}"


class Cuda(Protocol):
    """One GPU's memory, streams, events and graphs. Sizes in bytes, times in milliseconds, pointers as integers."""

    name: str
    """``cuda-python`` or ``pycuda``; goes into the record of a session."""

    def device_info(self) -> DeviceInfo:
        """The device. Raises CudaError where there is none."""

    def alloc(self, size_bytes: int) -> int:
        """Device memory, aligned to 256 bytes or more. Raises OutOfDeviceMemoryError."""

    def free(self, pointer: int) -> None:
        """Give back what :meth:`alloc` gave."""

    def alloc_host(self, size_bytes: int) -> np.ndarray:
        """Page-locked host memory as a one-dimensional uint8 array, valid until :meth:`free_host`."""

    def free_host(self, array: np.ndarray) -> None:
        """Give back what :meth:`alloc_host` gave."""

    def copy_htod(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """Enqueue a copy of a contiguous array to the device. The array must live until the stream is synchronised."""

    def copy_dtoh(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """Enqueue a copy from the device into a contiguous array."""

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def free_stream(self, stream: int) -> None:
        """Destroy it."""

    def sync(self, stream: int) -> None:
        """Wait until all that was enqueued has ended. Errors of earlier work surface here as CudaError."""

    def new_event(self, *, blocking: bool = False) -> Any:
        """An event that keeps its time. Waiting for it may spin; for a ``blocking`` one the thread sleeps."""

    def free_event(self, event: Any) -> None:
        """Destroy it."""

    def record(self, event: Any, stream: int) -> None:
        """Enqueue the event."""

    def sync_event(self, event: Any) -> None:
        """Wait until the stream has reached the event."""

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Device time between two events that were both reached."""

    def begin_capture(self, stream: int) -> None:
        """From here on the stream records work instead of doing it. CudaError where this adapter has no graphs."""

    def end_capture(self, stream: int) -> Any:
        """The recorded work as a graph ready to launch. CudaError when something that cannot be captured was enqueued;
        the stream is usable again in either case."""

    def launch_graph(self, graph: Any, stream: int) -> None:
        """Enqueue the recorded work."""

    def free_graph(self, graph: Any) -> None:
        """Destroy it."""
