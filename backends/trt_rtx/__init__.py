"""TensorRT for RTX: on an RTX workstation a backend of its own; anywhere else the real TensorRT builder to test against.

Never a source of figures for a Jetson: it supports no Jetson GPU, and it chooses kernels when an engine is loaded, not by
timing them when it is built.
"""

from __future__ import annotations

from .backend import RtxBackend

__all__ = ["RtxBackend"]
