"""A `tensorrt` module without TensorRT: ``make("8.6")``, ``make("10.3")`` or ``make("11")``.

It has the members that the release has and no others, reads real ONNX, builds engines that compute real outputs on a
:class:`FakeCuda` and take times by formula (``fusion.py``), and fails as the real one fails. Where a behaviour was tried on
TensorRT-RTX 1.7, which runs without a GPU up to the build, the fake does the same.
"""

from __future__ import annotations

import sys
import weakref
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Dims, IHostMemory, ILogger, IProfiler, Logger, make_enum
from .builder import Builder, IBuilderConfig, IOptimizationProfile, ITimingCache
from .inspector import EngineInspector
from .network import ILayer, INetworkDefinition, ITensor, OnnxParser, ParserError
from .presets import ENUMS, MEMBERS, PRESETS
from .runtime import ICudaEngine, IExecutionContext, Runtime

if TYPE_CHECKING:
    import pytest

__all__ = ["PRESETS", "install", "make"]

_CLASSES: tuple[type, ...] = (
    IHostMemory, IProfiler, ITensor, ILayer, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile, ITimingCache,
    IBuilderConfig, Builder, Runtime, ICudaEngine, IExecutionContext, EngineInspector,
)  # fmt: skip
_NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_,
    "UINT8": np.uint8,
}  # fmt: skip
_ALIASES = {
    "float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8", "fp8": "FP8",
    "bfloat16": "BF16", "int64": "INT64", "int4": "INT4", "fp4": "FP4", "e8m0": "E8M0",
}  # fmt: skip


class _Module(ModuleType):
    """The module. Names with an underscore belong to the fake: counters and what stands in for the device."""

    def __init__(self, preset: str, device: str, capability: tuple[int, int], cuda: Any, dla_cores: int | None) -> None:
        super().__init__("tensorrt")
        self._preset = PRESETS[preset]
        self._device, self._capability, self._cuda = device, capability, cuda
        self._dla_cores = self._preset.dla_cores if dla_cores is None else dla_cores
        self._memory_bytes = 8 << 30
        self._builds = self._timed = 0
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()
        self._logger: Any = None
        self.__version__ = self._preset.version
        self.__spec__ = ModuleSpec("tensorrt", None)  # without one, importlib cannot say whether it is installed

    def _made_for(self) -> dict[str, Any]:
        return {"version": self._preset.version, "device": f"{self._device} {self._capability[0]}.{self._capability[1]}"}

    def _need_cuda(self) -> Any:
        if self._cuda is None:
            raise RuntimeError("this fake has no device: make(preset, cuda=FakeCuda())")
        return self._cuda

    def _emit(self, logger: Any, severity: str, text: str) -> None:
        logger.log(getattr(logger.Severity, severity), text)

    def _register(self, owner: Any, logger: Any) -> Any:
        """The logger that counts: while builders or runtimes live, that of the first of them."""
        if len(self._owners) and self._logger is not logger:
            self._emit(self._logger, "WARNING", "The logger passed in differs from the one in use; the new one is ignored.")
        else:
            self._logger = logger
        self._owners.add(owner)
        return self._logger


def _specialise(kind: type, trt: _Module) -> type:
    """A copy of ``kind`` for one module, less the members that its release lacks."""
    lacking = {name for name, presets in MEMBERS.get(kind.__name__, {}).items() if trt._preset.name not in presets}
    body = {name: value for name, value in vars(kind).items() if name not in (*lacking, "__dict__", "__weakref__")}
    for name, member in body.get("_enums", {}).items():
        enum, _, first = member.partition(".")
        body[name] = getattr(getattr(trt, enum), first)
    body |= {"_trt": trt, "__module__": "tensorrt.tensorrt"}
    return type(kind)(kind.__name__, kind.__bases__, body)


def make(
    preset: str,
    *,
    cuda: Any = None,
    device: str = "Orin",
    capability: tuple[int, int] = (8, 7),
    dla_cores: int | None = None,
) -> Any:
    """A module of release ``preset``. ``cuda`` is the :class:`FakeCuda` that engines run on, needed for execution only."""
    trt: Any = _Module(preset, device, capability, cuda, dla_cores)
    for name, values in ENUMS.items():
        setattr(trt, name, make_enum(name, values[preset]))
    severity = make_enum("Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4})
    levels = {"Severity": severity, **severity.__members__}
    overridable: Any = type(ILogger)
    trt.ILogger = overridable("ILogger", (), {**_body(ILogger), **levels})
    trt.Logger = overridable("Logger", (trt.ILogger,), _body(Logger))
    for kind in _CLASSES:
        setattr(trt, kind.__name__, _specialise(kind, trt))
    trt.Dims = Dims
    for alias, member in _ALIASES.items():
        if hasattr(trt.DataType, member):
            setattr(trt, alias, getattr(trt.DataType, member))
    trt.nptype = _nptype
    trt.volume = lambda shape: int(np.prod(shape, dtype=np.int64))
    trt.init_libnvinfer_plugins = _init_plugins
    return trt


def _body(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}


def _init_plugins(logger: Any, namespace: str) -> bool:
    """There are none."""
    return True


def _nptype(trt_type: Any) -> Any:
    """The numpy type of a DataType."""
    if trt_type.name not in _NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return _NUMPY[trt_type.name]


def install(monkeypatch: pytest.MonkeyPatch, preset: str, **options: Any) -> Any:
    """:func:`make`, found by ``import tensorrt`` until the test ends."""
    trt = make(preset, **options)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt
