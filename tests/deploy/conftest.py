"""Small ONNX models written by hand, as export would leave them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from netadapt_trt.deploy.record import write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def convolution_bytes(channels: int, *, metadata: dict[str, str] | None = None, dtype: type = np.float32) -> bytes:
    """One 3x3 convolution, 3 -> ``channels``, on 1x3x8x8."""
    weight = onnx.numpy_helper.from_array(np.full((channels, 3, 3, 3), 0.1, dtype=dtype), "weight")
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "weight"], ["y"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        "test",
        [onnx.helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", kind, [1, channels, 8, 8])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, metadata or {})
    return bytes(model.SerializeToString())


def write_artifact(
    path: Path,
    *,
    channels: int = 16,
    precision: str = "fp32",
    promise: dict[str, Any] | None = None,
    identity: dict[str, Any] | None = None,
    record: bool = True,
) -> Path:
    """A model file with the metadata of an export, and its deploy.json."""
    metadata = {
        "netadapt.plan_hash": "0123456789abcdef",
        "netadapt.widths": json.dumps({"conv": channels}),
        "netadapt.model": "zoo:test",
        "netadapt.precision": precision,
    }
    content = convolution_bytes(channels, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if record:
        files = {path.name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}}
        lut = None if identity is None else {"path": "x.lut.jsonl", "identity": identity}
        write_record(path, {"files": files, "backend": "fake", "promise": promise or {}, "lut": lut})
    return path


@pytest.fixture
def artifact() -> Callable[..., Path]:
    return write_artifact


@pytest.fixture
def convolution() -> Callable[..., bytes]:
    return convolution_bytes
