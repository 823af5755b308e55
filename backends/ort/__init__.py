"""ONNX Runtime on the processor: the serving runtime where there is no accelerator."""

from __future__ import annotations

from .backend import OrtBackend
from .executable import OrtExecutable

__all__ = ["OrtBackend", "OrtExecutable"]
