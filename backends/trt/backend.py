"""The TensorRT backend: what it takes, under which conditions, and how an engine is built and opened here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

from netadapt_trt.backend import Affinity
from netadapt_trt.errors import BackendError
from netadapt_trt.measure.device_state import device_state, no_query
from netadapt_trt.measure.machine import BOARD_VARIABLE, board_model
from netadapt_trt.spec import Identity, Placement

from .cuda import cuda_available, load_cuda
from .partition import partition as trt_partition

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.backend import CompileOptions, Engine
    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.spec import Precision

    from .build import BuildSettings
    from .cuda import Cuda, DeviceInfo
    from .executable import TrtExecutable

__all__ = ["TrtBackend"]

_OLDEST = (8, 6)
_OPSET_8, _OPSET_10 = (17, 8), (20, 9)  # the newest that 8.6 and 10.3 read; 11 reads the older one too
_TF32_SINCE = (8, 0)  # compute capability: Ampere
_OF_BOARDS = ((5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0))  # Nano and TX1, TX2, Xavier, Orin, Thor (CUDA 12; 13)


class TrtBackend:
    """TensorRT on this machine's GPU, or on a Jetson's DLA. Latency is device time of one run, without copies.

    ``tensorrt`` and ``cuda`` are found by import unless given. Where an option is left open its environment variable counts:
    ``device`` NETADAPT_TRT_DEVICE (``gpu``, ``dla`` or ``dla:1``), ``tf32`` NETADAPT_TRT_TF32 (1 or 0), ``cache_dir``
    NETADAPT_TRT_CACHE (of timing caches), ``cuda_graph`` NETADAPT_TRT_GRAPH (1 or 0). NETADAPT_TRT_CUDA
    chooses between cuda-python and pycuda.
    """

    name: str = "trt"
    _module: ClassVar[str] = "tensorrt"
    _runtime: ClassVar[str] = "tensorrt"
    _how: ClassVar[str] = (
        "on a Jetson it comes with the base image (Dockerfile.jetson; a virtual environment needs --system-site-packages); "
        "on another machine: pip install tensorrt"
    )

    def __init__(
        self,
        tensorrt: Any = None,
        cuda: Cuda | None = None,
        *,
        device: str | None = None,
        tf32: bool | None = None,
        cache_dir: Path | None = None,
        cuda_graph: bool | None = None,
    ) -> None:
        self._trt, self._cuda = tensorrt, cuda
        self._device_option, self._tf32_option = device, tf32
        self._cache_dir, self._graph_option = cache_dir, cuda_graph
        self._info: DeviceInfo | None = None

    def affinity(self) -> Affinity:
        """Whether TensorRT, a CUDA adapter and a GPU that it supports are here; TensorRT itself is not imported yet."""
        if self._trt is None and importlib.util.find_spec(self._module) is None:
            return Affinity(-1, f"{self._module} is not installed: {self._how}")
        if self._cuda is None and cuda_available() is None:
            return Affinity(
                -1, self._without_device("neither cuda-python nor pycuda is installed; run: pip install cuda-python")
            )
        try:
            info = self._device_info()
            refused = self._refused(info)
            if refused is not None:
                return Affinity(-1, refused)
            return Affinity(2, f"{self._runtime} on {self._device_name()}, {info.architecture}")
        except BackendError as error:
            return Affinity(-1, self._without_device(str(error)))

    def _without_device(self, reason: str) -> str:
        return reason

    def _refused(self, info: DeviceInfo) -> str | None:
        """Why this device is none for this runtime."""
        return None

    def precisions(self) -> tuple[Precision, ...]:
        """All, carried by the model; a DLA computes in fp16 and int8 only."""
        return ("fp16", "int8") if self._dla_core() is not None else ("fp32", "fp16", "int8")

    def identity(self, *, precision: Precision, batch: int, threads: int) -> Identity:
        """The conditions here. Raises BackendError without TensorRT, CUDA or device, or for a precision that is refused."""
        self._require(precision)
        return Identity(
            backend=self.name,
            device=self._device_name(),
            runtime=self._runtime,
            runtime_version=self._version(),
            provider=self._provider(precision),
            precision=precision,
            recipe="qdq-trt" if precision == "int8" else "none",
            batch=batch,
            threads=threads,
        )

    def _provider(self, precision: Precision) -> str:
        """Tables with and without TF32 must not be mixed: in fp32 it is a factor of several on convolutions."""
        core = self._dla_core()
        if core is not None:
            return f"dla{core}"
        return "gpu-tf32" if precision == "fp32" and self._tf32() and self._has_tf32() else "gpu"

    def placement(self) -> Placement:
        """The GPU; a DLA is on the board of an integrated one."""
        try:
            info = self._device_info()
        except BackendError:
            return Placement(chip="gpu")
        return Placement(chip="gpu", integrated=info.integrated, bus_id=info.bus_id or None)

    def default_threads(self) -> int:
        """1: the GPU's threads are not the host's."""
        return 1

    def opset(self) -> tuple[int, int]:
        """What the installed version reads; what every version reads where none is installed."""
        try:
            return _OPSET_10 if _version_number(self._version()) >= (10,) else _OPSET_8
        except BackendError:
            return _OPSET_8

    def partition(self, plan: Plan) -> list[Layer]:
        """Convolution or matrix product with sum and activation, chains of element-wise operations (see ``partition``)."""
        return trt_partition(plan)

    def build(self, model: bytes, options: CompileOptions) -> Engine:
        """The engine of a model for this device.

        Raises:
            BackendError: the precision, an operator or a size is refused, or the build fails; with TensorRT's reasons.
        """
        from .build import build_engine
        from .log import log_of
        from .model import model_facts

        self._require(options.precision)
        carried = model_facts(model).precision
        if options.precision == "fp32" and carried != "fp32":
            raise BackendError(f"{self.name}: the model is {carried}, fp32 is asked for; the precision is the file's")
        trt = self._tensorrt()
        return build_engine(trt, log_of(trt), model, self._settings())

    def open_engine(self, content: bytes, options: CompileOptions) -> TrtExecutable:
        """An engine that :meth:`build` made here or on an equal machine, inputs filled with seeded random data.

        Raises:
            BackendError: it is damaged, of another device or version, or does not fit into the device's memory.
        """
        return self._open(content, {})

    def compile(self, model: bytes, options: CompileOptions) -> TrtExecutable:
        """:meth:`build` and :meth:`open_engine` in one. Raises BackendError as they do."""
        self._load_cuda()  # before minutes of building
        engine = self.build(model, options)
        return self._open(engine.content, dict(engine.details))

    def _open(self, content: bytes, details: dict[str, Any]) -> TrtExecutable:
        from .engine import load_engine
        from .executable import TrtExecutable
        from .log import log_of

        trt, cuda = self._tensorrt(), self._load_cuda()
        engine = load_engine(trt, log_of(trt), content, device=self._device_name())
        core = self._dla_core()
        if core is not None:
            details["gpu_fallback"] = [
                entry.name for entry in engine.entries() if not entry.copies and "DLA" not in entry.kind.upper()
            ]
        # A DLA's work cannot be captured.
        graph = core is None and _switch(self._graph_option, "NETADAPT_TRT_GRAPH")
        return TrtExecutable(engine, cuda, use_graph=graph, details=details)

    def _settings(self) -> BuildSettings:
        from .build import BuildSettings
        from .timing_cache import cache_directory, cache_file

        info = self._device_info()
        directory = self._cache_dir or cache_directory()
        return BuildSettings(
            tf32=self._tf32(),
            dla_core=self._dla_core(),
            # On a Jetson the GPU's memory is the board's: a builder that may take all of it ends the profiler itself.
            workspace_bytes=info.memory_bytes // 4 if info.integrated else None,
            timing_cache=None
            if directory is None
            else cache_file(
                directory,
                device=self._device_name(),
                architecture=info.architecture,
                version=self._version(),
                mode=device_state(query=no_query).power_mode,
            ),
            record={"device": self._device_name(), "architecture": info.architecture, "runtime_version": self._version()},
        )

    def _require(self, precision: Precision) -> None:
        if precision not in self.precisions():
            raise BackendError(f"a DLA refuses {precision}: it computes in fp16 and int8 only; use one of those, or the GPU")

    def _tensorrt(self) -> Any:
        if self._trt is None:
            try:
                self._trt = importlib.import_module(self._module)
            except (ImportError, OSError) as error:
                raise BackendError(f"{self._module} cannot be imported ({error}): {self._how}") from error
            plugins = getattr(self._trt, "init_libnvinfer_plugins", None)
            if plugins is not None:
                from .log import log_of

                plugins(log_of(self._trt).logger, "")
        self._check_version(self._trt.__version__)
        return self._trt

    def _check_version(self, version: str) -> None:
        if _version_number(version) < _OLDEST:
            raise BackendError(f"TensorRT {version} is too old; 8.6 (JetPack 6) is the first that is supported")

    def _version(self) -> str:
        return str(self._tensorrt().__version__)

    def _load_cuda(self) -> Cuda:
        if self._cuda is None:
            self._cuda = load_cuda()
        return self._cuda

    def _device_info(self) -> DeviceInfo:
        if self._info is None:
            self._info = self._load_cuda().device_info()
        return self._info

    def _device_name(self) -> str:
        """A Jetson is known by its board: a module's GPU has one name ("Orin") whatever its size, clocks and memory.

        Raises BackendError where a container hides the board: tables, timing caches and engines of two would be mixed.
        """
        board = board_model()
        if board is not None:
            return board
        info = self._device_info()
        if info.integrated and info.capability in _OF_BOARDS:
            raise BackendError(
                f"which board this is cannot be read (Docker hides the device tree), and its GPU is called {info.name} on "
                f"several; start the container with -e {BOARD_VARIABLE}=\"$(tr -d '\\0' < /proc/device-tree/model)\""
            )
        return info.name

    def _has_tf32(self) -> bool:
        return self._device_info().capability >= _TF32_SINCE

    def _tf32(self) -> bool:
        return _switch(self._tf32_option, "NETADAPT_TRT_TF32")

    def _dla_core(self) -> int | None:
        asked = (self._device_option or os.environ.get("NETADAPT_TRT_DEVICE") or "gpu").strip().lower()
        match = re.fullmatch(r"gpu|dla(?::(\d+))?", asked)
        if match is None:
            raise BackendError(f"{self.name} knows no device {asked!r}; set NETADAPT_TRT_DEVICE to gpu, dla or dla:1")
        return None if asked == "gpu" else int(match[1] or 0)


def _switch(given: bool | None, variable: str) -> bool:
    """On unless told otherwise."""
    if given is not None:
        return given
    asked = os.environ.get(variable, "1").strip().lower()
    if asked in ("1", "true", "yes", "on"):
        return True
    if asked in ("0", "false", "no", "off"):
        return False
    raise BackendError(f"{variable} is {asked!r}; set it to 1 or 0")


def _version_number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
