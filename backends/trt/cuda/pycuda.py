"""CUDA through pycuda, which is built from source: for JetPack 5, where cuda-python has no wheel. It has no CUDA graphs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .interface import CudaError, DeviceInfo, OutOfDeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PyCuda"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING; pycuda passes the number on
_HINT = (
    "in a container, start it with --runtime nvidia (JetPack 4 to 6) or --gpus all; outside, check the driver; a "
    "pycuda that was built against another CUDA must be built again: pip install --force-reinstall --no-binary :all: pycuda"
)


class PyCuda:
    """The first device in its primary context. ``pycuda.autoinit`` would make a second one beside TensorRT's."""

    name = "pycuda"

    def __init__(self) -> None:
        try:
            import pycuda.autoprimaryctx
            import pycuda.driver as driver
        except Exception as error:  # without a device its own import raises classes of its own, LogicError among them
            raise CudaError(f"pycuda cannot be used here ({type(error).__name__}: {error}); {_HINT}") from error
        self._driver: Any = driver
        self._device: Any = pycuda.autoprimaryctx.device
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._driver.MemoryError as error:
            raise OutOfDeviceMemoryError(
                f"{what} failed: {error}; the GPU's memory is used up: end other processes that use it, or take a smaller "
                "batch or input"
            ) from error
        except self._driver.Error as error:
            raise CudaError(f"{what} failed: {error}") from error

    def device_info(self) -> DeviceInfo:
        """Of the context's device."""
        driver = self._driver
        with self._named("asking for the device"):
            number, release = int(driver.get_driver_version()), tuple(driver.get_version())
            return DeviceInfo(
                name=str(self._device.name()),
                capability=tuple(self._device.compute_capability()),
                memory_bytes=int(self._device.total_memory()),
                integrated=bool(self._device.get_attribute(driver.device_attribute.INTEGRATED)),
                driver_version=f"{number // 1000}.{number % 1000 // 10}",
                runtime_version=".".join(str(part) for part in release[:2]),
                bus_id=str(self._device.pci_bus_id()),
            )

    def alloc(self, size_bytes: int) -> int:
        """``mem_alloc``."""
        with self._named("mem_alloc"):
            allocation = self._driver.mem_alloc(size_bytes)
        self._memory[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer: int) -> None:
        """Now, not when the garbage collector finds it: by then the context may be gone."""
        with self._named("mem_free"):
            self._memory.pop(pointer).free()

    def alloc_host(self, size_bytes: int) -> np.ndarray:
        """``pagelocked_empty``."""
        with self._named("pagelocked_empty"):
            array: np.ndarray = self._driver.pagelocked_empty(size_bytes, np.uint8)
        return array

    def free_host(self, array: np.ndarray) -> None:
        """The array's base owns the memory."""
        with self._named("freeing page-locked memory"):
            array.base.free()  # type: ignore[union-attr]

    def copy_htod(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """``memcpy_htod_async``."""
        with self._named("memcpy_htod_async"):
            self._driver.memcpy_htod_async(pointer, array, self._streams[stream])

    def copy_dtoh(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """``memcpy_dtoh_async``."""
        with self._named("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(array, pointer, self._streams[stream])

    def new_stream(self) -> int:
        """Kept here: TensorRT and callers hold its number only."""
        with self._named("creating a stream"):
            stream = self._driver.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def free_stream(self, stream: int) -> None:
        """pycuda destroys it with the object."""
        self._streams.pop(stream)

    def sync(self, stream: int) -> None:
        """``Stream.synchronize``."""
        with self._named("waiting for the stream"):
            self._streams[stream].synchronize()

    def new_event(self, *, blocking: bool = False) -> Any:
        """With time."""
        with self._named("creating an event"):
            kinds = self._driver.event_flags
            return self._driver.Event(kinds.BLOCKING_SYNC if blocking else kinds.DEFAULT)

    def free_event(self, event: Any) -> None:
        """pycuda destroys it with the object."""

    def record(self, event: Any, stream: int) -> None:
        """``Event.record``."""
        with self._named("recording an event"):
            event.record(self._streams[stream])

    def sync_event(self, event: Any) -> None:
        """``Event.synchronize``."""
        with self._named("waiting for an event"):
            event.synchronize()

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """``Event.time_till``."""
        with self._named("reading events"):
            return float(first.time_till(second))

    def begin_capture(self, stream: int) -> None:
        """Never possible."""
        raise CudaError("pycuda has no CUDA graphs; where cuda-python has a wheel, install it instead")

    def end_capture(self, stream: int) -> Any:
        """Never possible."""
        raise CudaError("pycuda has no CUDA graphs; nothing was captured")

    def launch_graph(self, graph: Any, stream: int) -> None:
        """Never possible."""
        raise CudaError("pycuda has no CUDA graphs; nothing was captured")

    def free_graph(self, graph: Any) -> None:
        """There is none."""
