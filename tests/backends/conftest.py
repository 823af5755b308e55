from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.backend import Backend, backend_names, load_backend

Build = Callable[..., bytes]


@pytest.fixture(params=backend_names())
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Every registered backend that can run here; the others are skipped with their reason."""
    for name in ("NETADAPT_FAKE_NOISE", "NETADAPT_FAKE_SLEEP"):
        monkeypatch.delenv(name, raising=False)
    found = load_backend(request.param)
    affinity = found.affinity()
    if affinity.score < 0:
        pytest.skip(f"{request.param}: {affinity.reason}")
    return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Backend:
    for name in ("NETADAPT_FAKE_NOISE", "NETADAPT_FAKE_SLEEP"):
        monkeypatch.delenv(name, raising=False)
    return load_backend("fake")


@pytest.fixture
def build() -> Build:
    """build(nodes, weights, input_shape): a serialised model from "x" to "y"; weights by name -> shape or array."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        weights: dict[str, object],
        input_shape: Sequence[int | str],
        dtype: int = TensorProto.FLOAT,
    ) -> bytes:
        generator = np.random.default_rng(7)
        arrays = {
            name: value
            if isinstance(value, np.ndarray)
            else generator.standard_normal(np.asarray(value, dtype=int)).astype(np.float32)
            for name, value in weights.items()
        }
        graph = helper.make_graph(
            list(nodes),
            "test",
            [helper.make_tensor_value_info("x", dtype, list(input_shape))],
            [helper.make_tensor_value_info("y", dtype, None)],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        serialised: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
        return serialised

    return make
