"""Which CUDA adapter is used: cuda-python where it is installed, else pycuda."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from .interface import CudaError

if TYPE_CHECKING:
    from .interface import Cuda

__all__ = ["cuda_available", "load_cuda"]

Adapter = Literal["cuda-python", "pycuda"]
_HOW = (
    "install cuda-python in the major version of the device's CUDA (JetPack 6: pip install 'cuda-python<13', JetPack 7: "
    "pip install cuda-python), or, where it has no wheel (JetPack 5), build pycuda: pip install pycuda"
)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package that is broken, or a module without a spec
        return False


def cuda_available() -> Adapter | None:
    """The adapter that :func:`load_cuda` would use; nothing is imported."""
    if _installed("cuda") and _installed("cuda.bindings"):
        return "cuda-python"
    return "pycuda" if _installed("pycuda") else None


def load_cuda(prefer: Adapter | None = None) -> Cuda:
    """An adapter, ready to use. ``prefer`` takes that one or none.

    Raises:
        CudaError: none is installed, or the one that is cannot work here; the message says what to do.
    """
    chosen = prefer or cuda_available()
    if chosen is None:
        raise CudaError(f"neither cuda-python nor pycuda is installed, so nothing can run on the GPU; {_HOW}")
    if chosen == "cuda-python":
        from .cuda_python import CudaPython

        return CudaPython()
    from .pycuda import PyCuda

    return PyCuda()
