"""Which CUDA adapter is used: the one that is asked for, else cuda-python, else pycuda where cuda-python does not work."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Literal

from .interface import CudaError

if TYPE_CHECKING:
    from .interface import Cuda

__all__ = ["CUDA_VARIABLE", "cuda_available", "load_cuda"]

Adapter = Literal["cuda-python", "pycuda"]
CUDA_VARIABLE = "NETADAPT_TRT_CUDA"
"""The adapter to take, where there are two."""

_MODULES: dict[Adapter, tuple[str, ...]] = {"cuda-python": ("cuda", "cuda.bindings"), "pycuda": ("pycuda",)}
_HOW = (
    "install cuda-python in the major version of the device's CUDA (JetPack 6: pip install 'cuda-python<13', JetPack 7: "
    "pip install cuda-python), or, where it has no wheel (JetPack 5), build pycuda: pip install pycuda"
)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package that is broken, or a module without a spec
        return False


def _adapters() -> list[Adapter]:
    return [adapter for adapter, modules in _MODULES.items() if all(map(_installed, modules))]


def _asked() -> Adapter | None:
    asked = os.environ.get(CUDA_VARIABLE, "").strip().lower()
    if asked and asked not in _MODULES:
        raise CudaError(f"{CUDA_VARIABLE} is {asked!r}; set it to {' or '.join(_MODULES)}, or leave it out")
    return asked or None


def cuda_available() -> Adapter | None:
    """The first adapter that is installed; nothing is imported."""
    return next(iter(_adapters()), None)


def load_cuda(prefer: Adapter | None = None) -> Cuda:
    """An adapter, ready to use. ``prefer``, else the variable NETADAPT_TRT_CUDA, takes that one or none.

    Raises:
        CudaError: none is installed, or none that is can work here; the message says what to do.
    """
    chosen = prefer or _asked()
    if chosen is not None:
        return _open(chosen)
    installed = _adapters()
    if not installed:
        raise CudaError(f"neither cuda-python nor pycuda is installed, so nothing can run on the GPU; {_HOW}")
    first, *others = installed
    try:
        return _open(first)
    except CudaError as error:  # a cuda-python that is newer than the driver; pycuda was built against this CUDA
        if not others:
            raise
        try:
            return _open(others[0])
        except CudaError as other:
            raise CudaError(f"{error}. And: {other}") from other


def _open(adapter: Adapter) -> Cuda:
    if adapter == "cuda-python":
        from .cuda_python import CudaPython

        return CudaPython()
    from .pycuda import PyCuda

    return PyCuda()
