"""What every class of the fake shares: strict attributes, a logger, memory that speaks the buffer protocol."""

from __future__ import annotations

import ctypes
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Base", "Dims", "IHostMemory", "ILogger", "IProfiler", "Logger", "RefusedError", "host_memory", "make_enum"]


class RefusedError(Exception):
    """Inside the fake: TensorRT logs this text as an error and answers None or False."""


class _Number:
    def __int__(self) -> int:
        return int(self.value)  # type: ignore[attr-defined]

    __index__ = __int__


def make_enum(name: str, values: Mapping[str, int]) -> Any:
    """An enum as pybind11 makes them: converts to int, but is none (``1 << member`` fails)."""
    return Enum(name, dict(values), type=_Number)


class Base:
    """Attributes that the class lacks cannot be set, as with every object that a binding made."""

    _trt: ClassVar[Any]
    _enums: ClassVar[dict[str, str]] = {}
    """Attributes that take a member of an enum: name -> ENUM.MEMBER to start with."""

    def __setattr__(self, name: str, value: object) -> None:
        kind = type(self)
        if not name.startswith("_"):
            if not hasattr(kind, name):
                raise AttributeError(f"'tensorrt.tensorrt.{kind.__name__}' object has no attribute {name!r}")
            if name in kind._enums and not isinstance(value, type(getattr(kind, name))):
                raise TypeError(f"{name}: incompatible function arguments, {type(value).__name__} is not of the enum")
        object.__setattr__(self, name, value)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *about: object) -> None:
        return None


class Dims(tuple[int, ...]):
    """A shape."""

    __slots__ = ()


class _Overridable(type):
    """pybind11 refuses an object of a Python subclass whose ``__init__`` did not call the base's."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = super().__call__(*args, **options)
        if not getattr(made, "_built", False):
            bound = next(kind.__name__ for kind in cls.__mro__ if "_bound" in vars(kind))
            raise TypeError(f"tensorrt.tensorrt.{bound}.__init__() must be called when overriding __init__")
        return made


class ILogger(metaclass=_Overridable):
    """For subclasses; whatever TensorRT has to say goes through :meth:`log`."""

    _bound: ClassVar[bool] = True
    Severity: ClassVar[Any]

    def __init__(self) -> None:
        self._built = True

    def log(self, severity: Any, msg: str) -> None:
        """To be overridden."""
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger(ILogger):
    """Writes to the standard error stream what is at least as severe as ``min_severity``."""

    _bound: ClassVar[bool] = True

    def __init__(self, min_severity: Any = None) -> None:
        self._built = True
        self.min_severity = self.Severity.WARNING if min_severity is None else min_severity

    def log(self, severity: Any, msg: str) -> None:
        """One line."""
        if int(severity) <= int(self.min_severity):
            sys.stderr.write(f"[TRT] [{severity.name[0]}] {msg}\n")


class IProfiler(metaclass=_Overridable):
    """For subclasses; gets one call per entry of the engine and run."""

    _bound: ClassVar[bool] = True

    def __init__(self) -> None:
        self._built = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """To be overridden."""
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::IProfiler::reportLayerTime"')


class IHostMemory:
    """Bytes owned by TensorRT; read through ``memoryview``, no sequence."""

    dtype: Any
    __len__ = None
    __iter__ = None
    __getitem__ = None

    def __bool__(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        """Size."""
        return ctypes.sizeof(self)  # type: ignore[arg-type]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *about: object) -> None:
        return None


def host_memory(trt: Any, content: bytes) -> Any:
    """``content`` as an ``IHostMemory`` of ``trt``.

    A ctypes array has the buffer protocol, which classes of plain Python got with 3.12 only.
    """
    kind = type("IHostMemory", (trt.IHostMemory, ctypes.c_ubyte * len(content)), {"dtype": trt.DataType.INT8})
    return kind.from_buffer_copy(content)  # type: ignore[attr-defined]
