from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper

from netadapt_trt.backend import Backend, CompileOptions, load_backend
from netadapt_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., bytes]

node = helper.make_node
installed = importlib.util.find_spec("onnxruntime") is not None
needs_runtime = pytest.mark.skipif(not installed, reason="onnxruntime is not installed")


@pytest.fixture
def ort() -> Backend:
    return load_backend("ort")


def test_affinity_tells_how_to_install_what_is_missing(ort: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert ort.affinity().score == -1
    assert "pip install" in ort.affinity().reason


def test_identity_without_the_runtime_tells_how_to_install_it(ort: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(BackendError, match="pip install"):
        ort.identity(precision="fp32", batch=1, threads=1)


@needs_runtime
def test_identity_names_provider_and_recipe(ort: Backend) -> None:
    floating = ort.identity(precision="fp32", batch=1, threads=2)
    assert (floating.provider, floating.recipe) == ("CPUExecutionProvider", "none")
    assert floating.runtime_version == importlib.metadata.version("onnxruntime")
    assert ort.identity(precision="int8", batch=1, threads=2).recipe == "qdq-ort-x86"


def test_fp16_is_refused_with_the_reason(ort: Backend) -> None:
    with pytest.raises(BackendError, match="converts to fp32"):
        ort.compile(b"", CompileOptions(precision="fp16"))


def test_threads_must_be_said(ort: Backend) -> None:
    with pytest.raises(BackendError, match="at least one thread"):
        ort.compile(b"", CompileOptions(threads=0))


@needs_runtime
def test_compile_condenses_what_onnxruntime_says(ort: Backend, build: Build) -> None:
    wrong = build([node("Relu", ["z"], ["y"])], {}, (1, 3))
    with pytest.raises(BackendError) as caught:
        ort.compile(wrong, CompileOptions())
    text = str(caught.value)
    assert text.startswith("ONNX Runtime refuses the model: INVALID_ARGUMENT: ")
    assert "'z'" in text
    assert "\n" not in text


@needs_runtime
def test_compile_takes_a_quantised_model_as_int8(ort: Backend, build: Build) -> None:
    scale, zero = np.full((), 0.1, np.float32), np.full((), 128, np.uint8)
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    with ort.compile(build(nodes, {"s": scale, "z": zero}, (1, 4)), CompileOptions(precision="int8")) as exe:
        exe.run()
        out = exe.infer({"x": np.array([[0.04, 0.06, -1.0, 100.0]], np.float32)})["y"]
    # Steps of 0.1, 128 stands for zero, so 12.7 is the largest value.
    assert out == pytest.approx(np.array([[0.0, 0.1, -1.0, 12.7]]))


@needs_runtime
@pytest.mark.parametrize(
    "dtype", [TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT32]
)
def test_inputs_are_bound_at_their_own_type(ort: Backend, build: Build, dtype: int) -> None:
    with ort.compile(build([node("Identity", ["x"], ["y"])], {}, (2, 2), dtype=dtype), CompileOptions()) as exe:
        exe.run()
        assert exe.elapsed_ms() is None
        assert exe.energy_mj() is None


@needs_runtime
def test_run_reports_a_failure_while_running(ort: Backend, build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    # Indices of the random input are 0 or 1; a table of one row has no row 1.
    model = build([node("Gather", ["w", "x"], ["y"])], {"w": np.ones((1, 4), np.int64)}, (64,), dtype=TensorProto.INT64)
    with ort.compile(model, CompileOptions()) as exe, pytest.raises(BackendError, match="failed while running"):
        exe.run()
    assert capfd.readouterr().err == ""
