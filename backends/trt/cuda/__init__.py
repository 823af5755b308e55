"""The only CUDA that the TensorRT backends see: ``interface`` says what it is, the other modules are adapters."""

from __future__ import annotations

from .interface import Cuda, CudaError, DeviceInfo, OutOfDeviceMemoryError
from .load import cuda_available, load_cuda

__all__ = ["Cuda", "CudaError", "DeviceInfo", "OutOfDeviceMemoryError", "cuda_available", "load_cuda"]
