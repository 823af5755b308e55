"""A CUDA device without one: memory made of real bytes, streams that work in order, and a clock that only work moves.

:class:`FakeCuda` has the methods of the product's CUDA interface; ``read``, ``write``, ``launch``, ``is_capturing`` and
``break_capture`` are for what runs on it (the fake TensorRT). Times are virtual milliseconds: the host's move when it
enqueues or waits, a stream's with its work. Work happens when its time has come, so what was not synchronised reads old
bytes. Nothing sleeps.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from netadapt_trt.backends.trt.cuda.interface import CudaError, DeviceInfo, OutOfDeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALL_MS", "COPY_BYTES_PER_MS", "GRAPH_MS", "FakeCuda"]

CALL_MS = 0.001
"""Host time of enqueueing a copy or an event."""
GRAPH_MS = 0.003
"""Host time of launching a graph, whatever is in it."""
COPY_BYTES_PER_MS = 1e7
_ALIGNMENT = 256
_FIRST_POINTER = 1 << 30


@dataclass
class _Event:
    time_ms: float | None = None
    freed: bool = False
    blocking: bool = False


@dataclass
class _Op:
    ms: float
    work: Callable[[], None]


@dataclass
class _Graph:
    ops: list[_Op]
    freed: bool = False


@dataclass
class _Stream:
    ready_ms: float = 0.0
    queue: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    captured: list[_Op] | None = None
    broken: str = ""


class FakeCuda:
    """One device. The options are its ways to fail, and may be changed at any time.

    ``captures``: whether streams can be captured. ``launch_fails``: kernels cannot be launched. ``work_fails``: they can,
    and the error comes when somebody waits. ``memory_bytes``: what can be allocated.
    """

    name = "fake"

    def __init__(
        self,
        *,
        memory_bytes: int = 8 << 30,
        device: str = "Orin",
        capability: tuple[int, int] = (8, 7),
        captures: bool = True,
        launch_fails: bool = False,
        work_fails: bool = False,
        integrated: bool = True,
        bus_id: str = "",
    ) -> None:
        self.memory_bytes, self.captures = memory_bytes, captures
        self.launch_fails, self.work_fails = launch_fails, work_fails
        self._bus_id = bus_id
        self.now_ms = 0.0
        self.launches = self.graph_launches = 0
        self.naps = 0  # waits that kept no processor busy
        self._device, self._capability, self._integrated = device, capability, integrated
        self._memory: dict[int, bytearray] = {}
        self._starts: list[int] = []
        self._next = _FIRST_POINTER
        self._host: dict[int, np.ndarray] = {}
        self._streams: dict[int, _Stream] = {0: _Stream()}
        self._handles = itertools.count(0x5000, 16)
        self._events = self._graphs = 0
        self._sticky = ""

    def clock(self) -> float:
        """The host's virtual time in seconds, for whoever wants a clock to measure with."""
        return self.now_ms / 1000

    def live(self) -> dict[str, int]:
        """What was made and not given back."""
        return {
            "memory": len(self._memory),
            "host": len(self._host),
            "streams": len(self._streams) - 1,
            "events": self._events,
            "graphs": self._graphs,
        }

    # The product's interface.

    def device_info(self) -> DeviceInfo:
        """What it pretends to be."""
        return DeviceInfo(
            name=self._device,
            capability=self._capability,
            memory_bytes=self.memory_bytes,
            integrated=self._integrated,
            driver_version="12.6",
            runtime_version="12.6",
            bus_id=self._bus_id,
        )

    def alloc(self, size_bytes: int) -> int:
        """Filled with 0xCD: memory is not zero."""
        self._check("cudaMalloc")
        self._forbid_in_capture("cudaMalloc")
        used = sum(len(block) for block in self._memory.values())
        if size_bytes < 1:
            raise CudaError(f"cudaMalloc: cudaErrorInvalidValue ({size_bytes} bytes)")
        if used + size_bytes > self.memory_bytes:
            raise OutOfDeviceMemoryError(
                f"cudaMalloc: cudaErrorMemoryAllocation ({size_bytes} bytes; {used} of {self.memory_bytes} are in use)"
            )
        pointer = self._next
        # A gap behind every block, so that what runs past its end hits nothing.
        self._next += -(-size_bytes // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
        self._memory[pointer] = bytearray(b"\xcd" * size_bytes)
        self._starts.append(pointer)
        return pointer

    def free(self, pointer: int) -> None:
        """Once per block."""
        if pointer not in self._memory:
            raise CudaError(f"cudaFree: cudaErrorInvalidValue ({pointer:#x})")
        # The real one waits for the device first.
        self.now_ms = max(self.now_ms, *(stream.ready_ms for stream in self._streams.values()))
        for stream in self._streams.values():
            self._run(stream)
        del self._memory[pointer]
        self._starts.remove(pointer)

    def alloc_host(self, size_bytes: int) -> np.ndarray:
        """Ordinary memory."""
        self._check("cudaHostAlloc")
        self._forbid_in_capture("cudaHostAlloc")
        array = np.full(size_bytes, 0xCD, dtype=np.uint8)
        self._host[id(array)] = array
        return array

    def free_host(self, array: np.ndarray) -> None:
        """Once per array."""
        if self._host.pop(id(array), None) is None:
            raise CudaError("cudaFreeHost: cudaErrorInvalidValue")

    def copy_htod(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """Reads the array when its turn comes."""
        _contiguous(array)
        self._enqueue(stream, array.nbytes / COPY_BYTES_PER_MS, lambda: self.write(pointer, array.tobytes()))

    def copy_dtoh(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """Writes the array when its turn comes."""
        _contiguous(array)

        def work() -> None:
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(self.read(pointer, array.nbytes), np.uint8)

        self._enqueue(stream, array.nbytes / COPY_BYTES_PER_MS, work)

    def new_stream(self) -> int:
        """A handle that looks like one."""
        self._check("cudaStreamCreate")
        handle = next(self._handles)
        self._streams[handle] = _Stream()
        return handle

    def free_stream(self, stream: int) -> None:
        """Its work is still done."""
        self._run(self._stream(stream))
        del self._streams[stream]

    def sync(self, stream: int) -> None:
        """Wait; forbidden while the stream is captured."""
        found = self._stream(stream)
        if found.captured is not None:
            found.broken = "cudaStreamSynchronize"
            raise CudaError("cudaStreamSynchronize: cudaErrorStreamCaptureUnsupported")
        self.now_ms = max(self.now_ms, found.ready_ms)
        self._run(found)
        self._check("cudaStreamSynchronize")

    def new_event(self, *, blocking: bool = False) -> Any:
        """Not recorded yet."""
        self._check("cudaEventCreate")
        self._events += 1
        return _Event(blocking=blocking)

    def free_event(self, event: Any) -> None:
        """Once."""
        if event.freed:
            raise CudaError("cudaEventDestroy: cudaErrorInvalidResourceHandle")
        event.freed = True
        self._events -= 1

    def record(self, event: Any, stream: int) -> None:
        """Its time is that of the work before it. In a captured stream it would become part of the graph: refused here."""
        found = self._stream(stream)
        if found.captured is not None:
            found.broken = "cudaEventRecord"
            raise CudaError("cudaEventRecord: cudaErrorStreamCaptureUnsupported")
        if event.freed:
            raise CudaError("cudaEventRecord: cudaErrorInvalidResourceHandle")
        self._enqueue(stream, 0.0, lambda: None)
        event.time_ms = found.ready_ms

    def sync_event(self, event: Any) -> None:
        """Wait until its time has come."""
        self.naps += event.blocking
        if event.time_ms is not None:
            self.now_ms = max(self.now_ms, event.time_ms)
        for stream in self._streams.values():
            self._run(stream)
        self._check("cudaEventSynchronize")

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Both must have been reached."""
        for event in (first, second):
            if event.time_ms is None or event.freed:
                raise CudaError("cudaEventElapsedTime: cudaErrorInvalidResourceHandle")
            if event.time_ms > self.now_ms:
                raise CudaError("cudaEventElapsedTime: cudaErrorNotReady")
        self._check("cudaEventElapsedTime")
        return float(second.time_ms - first.time_ms)

    def begin_capture(self, stream: int) -> None:
        """Refused where this device does not capture."""
        found = self._stream(stream)
        if not self.captures:
            raise CudaError("cudaStreamBeginCapture: cudaErrorNotSupported")
        if found.captured is not None or stream == 0:
            raise CudaError("cudaStreamBeginCapture: cudaErrorIllegalState")
        found.captured, found.broken = [], ""

    def end_capture(self, stream: int) -> Any:
        """The stream works again afterwards, whatever came out."""
        found = self._stream(stream)
        if found.captured is None:
            raise CudaError("cudaStreamEndCapture: cudaErrorIllegalState")
        ops, broken = found.captured, found.broken
        found.captured, found.broken = None, ""
        if broken:
            raise CudaError(f"cudaStreamEndCapture: cudaErrorStreamCaptureInvalidated (by {broken})")
        self._graphs += 1
        return _Graph(ops)

    def launch_graph(self, graph: Any, stream: int) -> None:
        """One call of the host for all that was recorded."""
        if graph.freed:
            raise CudaError("cudaGraphLaunch: cudaErrorInvalidValue")
        if self.launch_fails:
            raise CudaError("cudaGraphLaunch: cudaErrorLaunchFailure")
        self.graph_launches += 1
        self.now_ms += GRAPH_MS
        for op in graph.ops:
            self._enqueue(stream, op.ms, op.work, host_ms=0.0)

    def free_graph(self, graph: Any) -> None:
        """Once."""
        if graph.freed:
            raise CudaError("cudaGraphExecDestroy: cudaErrorInvalidValue")
        graph.freed = True
        self._graphs -= 1

    # For what runs on the device.

    def read(self, pointer: int, size_bytes: int) -> bytes:
        """Bytes now, whatever is still queued."""
        block, offset = self._block(pointer, size_bytes)
        return bytes(block[offset : offset + size_bytes])

    def write(self, pointer: int, content: bytes) -> None:
        """The same, the other way."""
        block, offset = self._block(pointer, len(content))
        block[offset : offset + len(content)] = content

    def launch(self, stream: int, ms: float, work: Callable[[], None], *, host_ms: float = CALL_MS) -> bool:
        """Enqueue a kernel; False when this device cannot launch any."""
        if self.launch_fails or self._sticky:
            return False
        self.launches += 1
        if self.work_fails:
            work = _illegal
        self._enqueue(stream, ms, work, host_ms=host_ms)
        return True

    def is_capturing(self, stream: int) -> bool:
        """Whether work is recorded instead of done."""
        return self._stream(stream).captured is not None

    def break_capture(self, stream: int) -> None:
        """Something that cannot be captured was tried."""
        self._stream(stream).broken = "execute_async_v3"

    def _stream(self, handle: int) -> _Stream:
        if handle not in self._streams:
            raise CudaError(f"cudaStream: cudaErrorInvalidResourceHandle ({handle:#x})")
        return self._streams[handle]

    def _check(self, call: str) -> None:
        """After a failed kernel every call fails, until the process ends."""
        if self._sticky:
            raise CudaError(f"{call}: {self._sticky}")

    def _forbid_in_capture(self, call: str) -> None:
        for stream in self._streams.values():
            if stream.captured is not None:
                stream.broken = call
                raise CudaError(f"{call}: cudaErrorStreamCaptureUnsupported")

    def _block(self, pointer: int, size_bytes: int) -> tuple[bytearray, int]:
        place = bisect.bisect_right(self._starts, pointer) - 1
        start = self._starts[place] if place >= 0 else 0
        block = self._memory.get(start, bytearray())
        if pointer + size_bytes > start + len(block):
            raise CudaError(f"cudaErrorIllegalAddress ({size_bytes} bytes at {pointer:#x})")
        return block, pointer - start

    def _enqueue(self, stream: int, ms: float, work: Callable[[], None], host_ms: float = CALL_MS) -> None:
        self._check("cudaLaunch")
        found = self._stream(stream)
        self.now_ms += host_ms
        if found.captured is not None:
            found.captured.append(_Op(ms, work))
            return
        found.ready_ms = max(found.ready_ms, self.now_ms) + ms
        found.queue.append((found.ready_ms, work))

    def _run(self, stream: _Stream) -> None:
        """Do what is due."""
        while stream.queue and stream.queue[0][0] <= self.now_ms:
            _, work = stream.queue.pop(0)
            try:
                work()
            except CudaError as error:
                self._sticky = str(error)
                stream.queue.clear()


def _illegal() -> None:
    raise CudaError("cudaErrorLaunchFailure (unspecified launch failure)")


def _contiguous(array: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        raise CudaError("cudaMemcpyAsync: the array is not contiguous")
