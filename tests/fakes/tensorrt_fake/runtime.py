"""Runtime, engine and execution context: what is deserialised runs on the virtual device's memory and clock."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
import onnx

from .base import Base, Dims, host_memory
from .builder import unpack
from .fusion import fuse, shapes_of
from .network import data_type
from .numerics import Numerics

__all__ = ["ENQUEUE_MS", "PROFILER_FACTOR", "ICudaEngine", "IExecutionContext", "Runtime"]

ENQUEUE_MS = 0.002
"""Host time of one enqueue per entry."""
PROFILER_FACTOR = 1.25
"""A run with a profiler takes this much longer: entries wait for each other."""


class Runtime(Base):
    """Loads engines."""

    DLA_core = -1
    max_threads = 1
    engine_host_code_allowed = False

    def __init__(self, logger: Any) -> None:
        self._logger = self._trt._register(self, logger)

    @property
    def logger(self) -> Any:
        """The one in use: the first that this process registered."""
        return self._logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        """0 where there is none."""
        return int(self._trt._dla_cores)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """None, with the reason in the log, for an engine of another version or device and for damaged bytes."""
        trt, read = self._trt, unpack(bytes(memoryview(serialized_engine)))
        where = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization"
        if read is None or "entries" not in read[0]:
            trt._emit(self._logger, "ERROR", f"{where} (magic tag or checksum does not match)")
            return None
        made_for, here = read[0]["made_for"], trt._made_for()
        if made_for["version"] != here["version"]:
            text = f"version tag does not match: engine {made_for['version']}, runtime {here['version']}"
            trt._emit(self._logger, "ERROR", f"{where} ({text})")
            return None
        if made_for["device"] != here["device"]:
            text = f"engine plan file is generated on an incompatible device: {made_for['device']}, this is {here['device']}"
            trt._emit(self._logger, "ERROR", f"{where} ({text})")
            return None
        return trt.ICudaEngine(self._logger, read[0], read[1])


class ICudaEngine(Base):
    """A built network."""

    num_optimization_profiles = 1
    num_aux_streams = 0
    max_batch_size = 1
    has_implicit_batch_dimension = False
    streamable_weights_size = 0

    def __init__(self, logger: Any, header: dict[str, Any], body: bytes) -> None:
        self._logger, self._header, self._body = logger, header, body
        graph = onnx.load_model_from_string(body).graph
        known = {item.name for item in graph.initializer}
        inputs = [value for value in graph.input if value.name not in known]
        self._io = {value.name: value for value in (*inputs, *graph.output)}
        self._inputs = [value.name for value in inputs]
        self._numerics = Numerics(body)

    @property
    def name(self) -> str:
        """The network's."""
        return str(self._header["name"])

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self._io)

    @property
    def num_layers(self) -> int:
        """Entries, not ONNX nodes."""
        return len(self._header["entries"])

    @property
    def refittable(self) -> bool:
        """Built with REFIT."""
        return bool(self._header["refittable"])

    @property
    def profiling_verbosity(self) -> Any:
        """As built."""
        return getattr(self._trt.ProfilingVerbosity, self._header["verbosity"])

    @property
    def hardware_compatibility_level(self) -> Any:
        """Never."""
        return self._trt.HardwareCompatibilityLevel.NONE

    @property
    def device_memory_size(self) -> int:
        """Bytes that a context needs."""
        return int(self._header["memory"])

    @property
    def device_memory_size_v2(self) -> int:
        """Bytes that a context needs."""
        return int(self._header["memory"])

    def get_tensor_name(self, index: int) -> str:
        """Inputs first."""
        return str(list(self._io)[index])

    def get_tensor_mode(self, name: str) -> Any:
        """NONE for a name that is no input or output."""
        if name not in self._io:
            return self._trt.TensorIOMode.NONE
        return self._trt.TensorIOMode.INPUT if name in self._inputs else self._trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Dims:
        """-1 where a size is open."""
        sizes = self._io[name].type.tensor_type.shape.dim
        return Dims(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)

    def get_tensor_dtype(self, name: str) -> Any:
        """DataType."""
        return data_type(self._trt, self._io[name].type.tensor_type.elem_type)

    def _types(self, name: str) -> tuple[np.dtype, np.dtype]:
        """In the device's memory, where INT64 is INT32 before release 10; and in the model."""
        held = np.dtype(self._trt.nptype(self.get_tensor_dtype(name)))
        return held, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self._io[name].type.tensor_type.elem_type))

    def get_tensor_location(self, name: str) -> Any:
        """All on the device."""
        return self._trt.TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> Any:
        """All plain."""
        return self._trt.TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str) -> str:
        """In words."""
        return "Row major linear format"

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        """min, opt, max."""
        profiles = self._header["profiles"]
        if not profiles:
            return [self.get_tensor_shape(name)] * 3
        return [Dims(shape) for shape in profiles[profile_index][name]]

    def create_execution_context(self, *options: Any) -> Any:
        """None when the device lacks the memory for it."""
        cuda = self._trt._need_cuda()
        try:
            scratch = cuda.alloc(max(1, self._header["memory"]))
        except Exception as error:  # whatever the device calls running out of memory
            text = (
                f"IExecutionContext: Error Code 2: OutOfMemory (requested size was {self._header['memory']} bytes: {error})"
            )
            self._trt._emit(self._logger, "ERROR", text)
            return None
        return self._trt.IExecutionContext(self, scratch)

    def create_engine_inspector(self) -> Any:
        """For layer information."""
        return self._trt.EngineInspector(self)

    def serialize(self) -> Any:
        """The same bytes that it was made of."""
        from .builder import pack

        return host_memory(self._trt, pack(self._header, self._body))

    @property
    def num_bindings(self) -> int:
        """The old word for inputs and outputs."""
        return len(self._io)

    def get_binding_name(self, index: int) -> str:
        """By number."""
        return self.get_tensor_name(index)

    def get_binding_index(self, name: str) -> int:
        """By name."""
        return list(self._io).index(name) if name in self._io else -1

    def get_binding_shape(self, index: Any) -> Dims:
        """By number or name."""
        return self.get_tensor_shape(index if isinstance(index, str) else self.get_tensor_name(index))

    def get_binding_dtype(self, index: Any) -> Any:
        """By number or name."""
        return self.get_tensor_dtype(index if isinstance(index, str) else self.get_tensor_name(index))

    def binding_is_input(self, index: Any) -> bool:
        """By number or name."""
        return (index if isinstance(index, str) else self.get_tensor_name(index)) in self._inputs


class IExecutionContext(Base):
    """Runs an engine."""

    _enums: ClassVar[dict[str, str]] = {"nvtx_verbosity": "ProfilingVerbosity.LAYER_NAMES_ONLY"}
    name: str = ""
    enqueue_emits_profile = True
    debug_sync = False
    nvtx_verbosity: Any = None
    persistent_cache_limit = 0
    active_optimization_profile = 0
    all_shape_inputs_specified = True
    profiler: Any = None

    def __init__(self, engine: Any, scratch: int) -> None:
        self._engine, self._scratch = engine, scratch
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, Dims] = {}
        self._warm = False  # the first enqueue allocates, which a capture does not allow
        self._pending: list[tuple[str, float]] | None = None
        self._times: list[tuple[str, float]] | None = None

    def __del__(self) -> None:
        if "_scratch" in self.__dict__:
            self._trt._need_cuda().free(self._scratch)

    @property
    def engine(self) -> Any:
        """What it runs."""
        return self._engine

    def _fail(self, text: str) -> bool:
        self._trt._emit(
            self._engine._logger, "ERROR", f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error ({text})"
        )
        return False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """False for a name that the engine lacks."""
        if name not in self._engine._io:
            return self._fail(f"{name} is no input or output of the engine")
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        """0 when unset."""
        return self._addresses.get(name, 0)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """False for what the engine was not built for."""
        if name not in self._engine._inputs:
            return self._fail(f"{name} is no input of the engine")
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(low) or not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return self._fail(f"{name}: {tuple(shape)} is not within {low} and {high}")
        self._shapes[name] = Dims(shape)
        self._times = None
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        """-1 as long as it depends on an input whose shape was not set."""
        if name in self._shapes:
            return self._shapes[name]
        static: Dims = self._engine.get_tensor_shape(name)
        if -1 not in static or name in self._engine._inputs or not self.all_binding_shapes_specified:
            return static
        model = onnx.load_model_from_string(self._engine._body)
        return Dims(shapes_of(model, self._shapes).shape[name])

    @property
    def all_binding_shapes_specified(self) -> bool:
        """Whether it can run."""
        return all(-1 not in self._shapes.get(name, self._engine.get_tensor_shape(name)) for name in self._engine._inputs)

    def set_binding_shape(self, binding: int, shape: Any) -> bool:
        """By number."""
        return self.set_input_shape(self._engine.get_tensor_name(binding), shape)

    def get_binding_shape(self, binding: int) -> Dims:
        """By number."""
        return self.get_tensor_shape(self._engine.get_tensor_name(binding))

    def infer_shapes(self) -> list[str]:
        """Inputs that are still open."""
        return [name for name in self._engine._inputs if -1 in self.get_tensor_shape(name)]

    def execute_async_v2(self, bindings: Any, stream_handle: int) -> bool:
        """Addresses in the order of the bindings."""
        self._addresses = dict(zip(self._engine._io, map(int, bindings), strict=True))
        return self.execute_async_v3(stream_handle)

    def execute_v2(self, bindings: Any) -> bool:
        """The same, waiting for the end."""
        self._addresses = dict(zip(self._engine._io, map(int, bindings), strict=True))
        done = self.execute_async_v3(0)
        self._trt._need_cuda().sync(0)
        return done

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Enqueue one run; False, with the reason in the log, when it cannot be."""
        cuda, stream = self._trt._need_cuda(), int(stream_handle)
        unset = [name for name in self._engine._io if not self._addresses.get(name)]
        if unset:
            return self._fail(f"the address of {unset[0]} is not set")
        if not self.all_binding_shapes_specified:
            return self._fail("the shapes of some inputs are not set")
        capturing = cuda.is_capturing(stream)
        if capturing and (not self._warm or (self.profiler is not None and self.enqueue_emits_profile)):
            cuda.break_capture(stream)
            return self._fail("operation not permitted when the stream is capturing")
        if stream == 0 and self._trt._preset.name != "8.6":
            self._trt._emit(self._engine._logger, "WARNING", "Using default stream in enqueueV3() may cost performance.")
        times = self._entry_times()
        profiler = self.profiler
        factor = 1.0 if profiler is None else PROFILER_FACTOR
        work = self._work(profiler is not None)
        if not cuda.launch(stream, factor * sum(ms for _, ms in times), work, host_ms=ENQUEUE_MS * len(times)):
            return self._fail("kernel launch failed")
        self._warm = True
        if profiler is not None and self.enqueue_emits_profile:
            cuda.sync(stream)
            return self.report_to_profiler()
        return True

    def _work(self, profiled: bool) -> Any:
        """What happens when the device gets there. Addresses are those of the enqueue, as in a captured graph."""
        addresses, cuda, engine = dict(self._addresses), self._trt._need_cuda(), self._engine
        shapes = {name: self.get_tensor_shape(name) for name in engine._inputs}

        def work() -> None:
            inputs = {name: _load(cuda, addresses[name], shapes[name], *engine._types(name)) for name in engine._inputs}
            for name, value in engine._numerics(inputs).items():
                cuda.write(addresses[name], np.ascontiguousarray(value, dtype=engine._types(name)[0]).tobytes())
            if profiled:
                self._pending = [(text, PROFILER_FACTOR * ms) for text, ms in self._entry_times()]

        return work

    def _entry_times(self) -> list[tuple[str, float]]:
        if self._times is None:
            header, engine = self._engine._header, self._engine
            self._times = [(entry["name"], entry["ms"]) for entry in header["entries"]]
            if self._shapes and not any(entry["kind"] == "DLA" for entry in header["entries"]):
                model = onnx.load_model_from_string(engine._body)
                newest = self._trt._preset.strong_only
                self._times = [
                    (entry.name, entry.ms) for entry in fuse(model, shapes_of(model, self._shapes), newest=newest)
                ]
        return self._times

    def report_to_profiler(self) -> bool:
        """Times of the last run that has ended, once; False when there is none or no profiler."""
        pending, self._pending = self._pending, None
        if self.profiler is None or pending is None:
            return False
        for name, ms in pending:
            _report(self.profiler, name, ms)
        return True


def _report(profiler: Any, name: str, ms: float) -> None:
    try:
        profiler.report_layer_time(name, ms)
    except Exception as error:  # the real one writes a line and goes on
        sys.stderr.write(f"[ERROR] Exception caught in report_layer_time(): {error}\n")


def _load(cuda: Any, address: int, shape: tuple[int, ...], held: np.dtype, computed: np.dtype) -> np.ndarray:
    content = cuda.read(address, int(np.prod(shape)) * held.itemsize)
    return np.frombuffer(content, dtype=held).reshape(shape).astype(computed)
