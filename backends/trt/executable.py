"""An engine made ready to run: buffers of its own, one stream of its own, timed by CUDA events.

Device time is what passes between two events around one run, with nothing else in flight; copies are not in it. Where the
run could be captured as a CUDA graph it is launched as one, which takes the launching of its kernels by the processor out of
the time: on a Jetson that is most of a small layer's. Host time is kept apart.
"""

from __future__ import annotations

import time
from contextlib import suppress
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import BackendError

from ..attribution import attribute_entries
from ..inputs import random_input, seeded_generator
from .cuda.interface import CudaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from netadapt_trt.backend import Attribution
    from netadapt_trt.plan.schema import Layer, Plan, Widths
    from netadapt_trt.spec import EnergyStats

    from .cuda.interface import Cuda
    from .engine import Binding, LoadedEngine

__all__ = ["TrtExecutable"]


class TrtExecutable:
    """One engine, one context, one stream. ``details`` is what is known of the build; the rest is added here."""

    def __init__(self, engine: LoadedEngine, cuda: Cuda, *, use_graph: bool, details: Mapping[str, Any]) -> None:
        self._engine, self._cuda = engine, cuda
        self._built = dict(details)
        self._device: dict[str, int] = {}
        self._inputs: dict[str, np.ndarray] = {}
        self._stream: int | None = None
        self._events: list[Any] = []  # before a run, behind it, and behind one that is waited for asleep
        self._end = 1
        self._context: Any = None
        self._graph: Any = None
        self._no_graph: str | None = "switched off"
        self._host_ms = self._enqueue_ms = -1.0
        self._closed = False
        try:
            self._prepare(use_graph)
        except BaseException:
            self.close()
            raise

    def _prepare(self, use_graph: bool) -> None:
        cuda = self._cuda
        self._stream = cuda.new_stream()
        for blocking in (False, False, True):
            self._events.append(cuda.new_event(blocking=blocking))
        self._context = self._engine.new_context()
        generator = seeded_generator()
        for binding in self._engine.bindings:
            self._device[binding.name] = cuda.alloc(binding.size_bytes)
            if binding.is_input:
                self._inputs[binding.name] = random_input(binding.shape, binding.dtype, generator)
        self._bind(self._context)
        self._upload(self._inputs)
        # Once before a capture: the first run allocates, and what cannot run at all fails here with its own reason.
        self._enqueue()
        cuda.sync(self._stream)
        if use_graph:
            self._capture()

    def _bind(self, context: Any) -> None:
        for name, pointer in self._device.items():
            if not context.set_tensor_address(name, pointer):
                raise BackendError(f"TensorRT takes no buffer for {name!r}: {self._engine.log.reason()}")

    def _capture(self) -> None:
        """Record one run as a graph; what cannot be captured runs kernel by kernel, and ``details`` says why."""
        cuda, stream = self._cuda, self._open()
        try:
            cuda.begin_capture(stream)
        except CudaError as error:
            self._no_graph = str(error)
            return
        # Texts, not exceptions: these would keep their frames, and with them device memory, until a garbage collection.
        failures = []
        try:
            self._enqueue()
        except BackendError as error:
            failures.append(str(error))
        try:
            self._graph = cuda.end_capture(stream)
        except CudaError as error:
            failures.append(str(error))
        self._no_graph = failures[0] if failures else None
        if failures:
            self._drop_graph()
            cuda.sync(stream)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.free_graph(self._graph)
        self._graph = None

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise BackendError(f"TensorRT failed while running: {self._engine.log.reason()}")

    def run(self) -> None:
        """Execute once on the bound inputs and wait. Raises BackendError."""
        stream, cuda = self._open(), self._cuda
        begin = time.perf_counter_ns()
        cuda.record(self._events[0], stream)
        if self._graph is None:
            self._enqueue()
        else:
            cuda.launch_graph(self._graph, stream)
        cuda.record(self._events[self._end], stream)
        enqueued = time.perf_counter_ns()
        cuda.sync_event(self._events[self._end])
        self._host_ms = (time.perf_counter_ns() - begin) * 1e-6
        self._enqueue_ms = (enqueued - begin) * 1e-6

    def wait_asleep(self, asleep: bool) -> None:
        """Whether a run waits without keeping a processor busy; then its end is seen a little later."""
        self._end = 2 if asleep else 1
        self._host_ms = self._enqueue_ms = -1.0  # of the last run, whose end another event keeps

    def elapsed_ms(self) -> float | None:
        """Device time of the last run, without copies; None before the first."""
        return None if self._host_ms < 0 or self._closed else self._cuda.elapsed_ms(self._events[0], self._events[self._end])

    def host_elapsed_ms(self) -> float | None:
        """Wall time of the last run, without copies; None before the first."""
        return None if self._host_ms < 0 else self._host_ms

    def energy_mj(self) -> EnergyStats | None:
        """None: a GPU's energy needs a power source."""
        return None

    def details(self) -> dict[str, Any]:
        """How it was built and how it runs. ``enqueue_ms``: what the host took to hand the last run over."""
        cuda = self._cuda
        return {
            **self._built,
            "device_memory_bytes": self._engine.device_memory_bytes(),
            "io_size_bytes": sum(binding.size_bytes for binding in self._engine.bindings),
            "cuda": cuda.name,
            "cuda_graph": self._graph is not None,
            "cuda_graph_reason": self._no_graph,
            "enqueue_ms": None if self._enqueue_ms < 0 else self._enqueue_ms,
            "waits": "spinning when timed, asleep when energy is measured",
        }

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises BackendError for inputs that are missing, unknown or of a wrong shape or type."""
        stream, cuda = self._open(), self._cuda
        self._upload(self._fitted(inputs))
        try:
            if self._graph is None:
                self._enqueue()
            else:
                cuda.launch_graph(self._graph, stream)
            outputs = {}
            for binding in self._engine.bindings:
                if not binding.is_input:
                    outputs[binding.name] = np.empty(binding.shape, binding.dtype)
                    cuda.copy_dtoh(outputs[binding.name], self._device[binding.name], stream)
            cuda.sync(stream)
        finally:
            self._upload(self._inputs)  # timed runs have the same data before and after
        return outputs

    def _fitted(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        known = {binding.name: binding for binding in self._engine.bindings if binding.is_input}
        unfit = set(known) ^ set(inputs)
        if unfit:
            raise BackendError(f"inputs {sorted(unfit)} are missing or unknown; this engine takes {sorted(known)}")
        return {name: _fit(known[name], array) for name, array in inputs.items()}

    def _upload(self, arrays: Mapping[str, np.ndarray]) -> None:
        stream = self._open()
        for name, array in arrays.items():
            self._cuda.copy_htod(self._device[name], array, stream)
        self._cuda.sync(stream)

    def attribute(self, plan: Plan, layers: Sequence[Layer], widths: Widths, *, runs: int = 20) -> Attribution:
        """Mean times of ``runs`` profiled runs, by layer and edge. Raises BackendError when the engine tells too little."""
        times = self._profile(runs)
        means = {name: fmean(taken) for name, taken in times.items()}
        return attribute_entries(self._engine.entries(), means, plan, layers, widths)

    def _profile(self, runs: int) -> dict[str, list[float]]:
        """Times by entry. In a context of its own, without graph, so that the profiler touches no timed run."""
        stream, trt = self._open(), self._engine.trt
        profiler = _profiler(trt)
        context = self._engine.new_context()
        self._bind(context)
        for warm in (True, False):
            if not warm:
                context.profiler = profiler
                # By default every enqueue would wait for its own end.
                context.enqueue_emits_profile = False
            for _ in range(2 if warm else max(1, runs)):
                if not context.execute_async_v3(stream):
                    raise BackendError(f"TensorRT failed while being profiled: {self._engine.log.reason()}")
                self._cuda.sync(stream)
                if not warm and not context.report_to_profiler():
                    raise BackendError(f"TensorRT reports no times of its layers: {self._engine.log.reason()}")
        times: dict[str, list[float]] = profiler.times_ms
        return times

    def close(self) -> None:
        """Free graph, context, engine and memory; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        cuda = self._cuda
        # After a failed kernel every call fails: what can still be freed is freed, and the first error is the one to see.
        with suppress(CudaError):
            if self._stream is not None:
                cuda.sync(self._stream)
        with suppress(CudaError):
            self._drop_graph()
        self._context = None
        self._engine.close()
        for pointer in self._device.values():
            with suppress(CudaError):
                cuda.free(pointer)
        for event in self._events:
            with suppress(CudaError):
                cuda.free_event(event)
        with suppress(CudaError):
            if self._stream is not None:
                cuda.free_stream(self._stream)

    def _open(self) -> int:
        if self._closed or self._stream is None:
            raise BackendError("this executable is closed; compile the model again")
        return self._stream

    def __enter__(self) -> TrtExecutable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _fit(binding: Binding, array: np.ndarray) -> np.ndarray:
    if tuple(array.shape) != binding.shape:
        raise BackendError(f"inputs: {binding.name!r} has the shape {binding.shape}, not {tuple(array.shape)}")
    if not np.can_cast(array.dtype, binding.dtype, "same_kind"):
        raise BackendError(f"inputs: {binding.name!r} is {binding.dtype.name}, not {array.dtype.name}")
    return np.ascontiguousarray(array, dtype=binding.dtype)


def _profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]  # its base exists at run time only
        """Milliseconds by entry, one a run."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.setdefault(layer_name, []).append(float(ms))

    return Profiler()
