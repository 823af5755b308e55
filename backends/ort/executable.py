"""One ONNX Runtime session with its buffers bound, so that a timed run converts and allocates nothing.

Everything ONNX Runtime raises leaves here as BackendError; its own log is silenced, because the error carries the text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import BackendError

from ..attribution import attribute_entries
from ..inputs import random_input, seeded_generator
from .nodes import entries_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from netadapt_trt.backend import Attribution
    from netadapt_trt.plan.schema import Layer, Plan, Widths
    from netadapt_trt.spec import EnergyStats

    from .profiler import Written

__all__ = ["OrtExecutable", "open_session"]

_FATAL = 4  # log severity: only what ends the process
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


def open_session(model: bytes, *, threads: int, profile: Written | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` set up for timing, or to write a ``profile`` instead.

    Raises BackendError with the reason when it is refused.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_profiling = profile is not None
    if profile is not None:
        options.profile_file_prefix = str(profile.events)
        options.optimized_model_filepath = str(profile.graph)
        # Beside the graph, which is then small enough to be read for its names alone.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.log_severity_level = _FATAL
    # The default, said aloud: threads that sleep between runs cost a 0.2 ms network 60 % (2-core Xeon, two threads).
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    refusal = "ONNX Runtime refuses the model"
    if profile is not None:
        refusal = "ONNX Runtime cannot open the network for a profile; set TMPDIR to a directory with room for its weights"
    with _as_backend_error(refusal):
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OrtExecutable:
    """A session of ``model``, its inputs bound to random data and its outputs to memory of their own.

    ``model`` is kept for :meth:`attribute`; the session holds on to the same bytes anyway.
    """

    def __init__(self, model: bytes, *, threads: int, profile: Written | None = None) -> None:
        runtime = _runtime()
        self._model, self._threads = model, threads
        self._session = session = open_session(model, threads=threads, profile=profile)
        self._binding = session.io_binding()
        self._buffers: list[Any] = []  # a bound OrtValue is backed by its numpy array, which the binding does not keep alive
        generator = seeded_generator()
        for node in session.get_inputs():
            array = random_input(_fixed_shape(node), np.dtype(_dtype(node)), generator)
            self._buffers.append(runtime.OrtValue.ortvalue_from_numpy(array))
            self._binding.bind_ortvalue_input(node.name, self._buffers[-1])
        for node in session.get_outputs():
            array = np.zeros(_fixed_shape(node), _dtype(node))
            self._buffers.append(runtime.OrtValue.ortvalue_from_numpy(array))
            self._binding.bind_ortvalue_output(node.name, self._buffers[-1])

    def run(self) -> None:
        """Execute once on the bound inputs. Raises BackendError."""
        session = self._open()
        # Without RunOptions: passing any costs 35 us a run (ONNX Runtime 1.31), most of a small layer's time; the session's
        # own log level holds instead. And without a context manager, whose microsecond would count too.
        try:
            session.run_with_iobinding(self._binding)
        except Exception as error:
            with _as_backend_error("ONNX Runtime failed while running"):
                raise error

    def elapsed_ms(self) -> float | None:
        """None: the wall clock around :meth:`run` counts."""
        return None

    def energy_mj(self) -> EnergyStats | None:
        """None: a processor's energy needs a power source."""
        return None

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises BackendError for inputs that are missing, unknown or of a wrong shape or type."""
        session = self._open()
        with _as_backend_error("ONNX Runtime failed on these inputs"):
            outputs = session.run(None, dict(inputs))
        return {node.name: np.asarray(value) for node, value in zip(session.get_outputs(), outputs, strict=True)}

    def attribute(self, plan: Plan, layers: Sequence[Layer], widths: Widths, *, runs: int = 20) -> Attribution:
        """Mean times by layer of ``runs`` profiled runs or more, in a session that is opened for them.

        What brings a tensor into another layout counts to the layer that made it, at the network's input to the edge.

        Raises:
            BackendError: the profile cannot be written or read.
        """
        from .profiler import profile_nodes

        self._open()
        found = profile_nodes(lambda profile: OrtExecutable(self._model, threads=self._threads, profile=profile), runs=runs)
        entries = entries_of(found.graph, plan, layers)
        attribution = attribute_entries(entries, found.times_ms, plan, layers, widths)
        return replace(attribution, run_ms=found.run_ms, runs=found.runs)

    def end_profile(self) -> str:
        """The file of a session that writes a profile, which is complete from now on."""
        with _as_backend_error("ONNX Runtime writes no profile"):
            return str(self._open().end_profiling())

    def close(self) -> None:
        """Free the session, its threads and its buffers; a second call does nothing."""
        self._model = b""
        self._binding = None
        self._session = None

    def _open(self) -> Any:
        if self._session is None:
            raise BackendError("this executable is closed; compile the model again")
        return self._session

    def __enter__(self) -> OrtExecutable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnxruntime cannot be imported ({error}); run: pip install netadapt-trt[ort]") from error
    return onnxruntime


@contextmanager
def _as_backend_error(what: str) -> Iterator[None]:
    """ONNX Runtime's exceptions have no common base but Exception: those of its module and what its Python side raises."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError, OSError) as error:
        raise BackendError(f"{what}: {_condensed(error)}") from error
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise BackendError(f"{what}: {_condensed(error)}") from error


def _condensed(error: Exception) -> str:
    """The message in one line, without ONNX Runtime's prefix, source position and file paths of its build."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ", r"\1: ", text)
    text = re.sub(r"(?:/[\w.+-]+)+\.(?:cc|h|cpp):\d+ ", "", text)
    return text if len(text) <= 400 else f"{text[:400]}..."


def _dtype(node: Any) -> str:
    if node.type not in _DTYPES:
        raise BackendError(f"{node.name!r} is a {node.type}, which this backend does not bind")
    return _DTYPES[node.type]


def _fixed_shape(node: Any) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size > 0 for size in node.shape):
        raise BackendError(f"{node.name!r} has no fixed size ({node.shape}); export the model with fixed input sizes")
    return tuple(node.shape)
