"""ONNX Runtime on the processor: the serving runtime where there is no accelerator."""

from __future__ import annotations

from .backend import OrtBackend

__all__ = ["OrtBackend"]
