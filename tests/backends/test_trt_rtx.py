"""The real builder of TensorRT for RTX, which needs no GPU; running needs one that it supports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from onnx import helper

from netadapt_trt.backend import CompileOptions
from netadapt_trt.errors import BackendError
from netadapt_trt.plan.write import write_layer, write_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    Build = Callable[..., bytes]

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")
rtx: Any = importlib.import_module("netadapt_trt.backends.trt_rtx")
cuda_fake: Any = importlib.import_module("cuda_fake")
node = helper.make_node


@pytest.fixture
def backend() -> Any:
    return rtx.RtxBackend(target="SM89")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_rtx_builds_every_layer_and_the_network(backend: Any, network: Plan, precision: Any) -> None:
    opset, ir_version = backend.opset()
    options = {"opset": opset, "ir_version": ir_version, "precision": precision, "recipe": "qdq-trt"}
    layers = backend.partition(network)
    models = [write_layer(network, layer, layer.widths({"stem": width}), **options) for layer in layers for width in (8, 21)]
    models.append(write_network(network, {"stem": 24}, **options))
    for model in models:
        engine = backend.build(model, CompileOptions(precision=precision))
        assert len(engine.content) == engine.details["engine_size_bytes"] > 10_000
        assert engine.details["typing"] == "strong"
        assert engine.details["target"] == "SM89"
        assert engine.details["timing_cache"] is None


def test_rtx_names_every_operator_that_it_refuses(backend: Any, build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    model = build([node("Mystery", ["x"], ["a"], "odd"), node("Riddle", ["a"], ["y"], "odder")], {}, (1, 3))
    with pytest.raises(BackendError, match=r"refuses the model: Mystery 'odd': .*Riddle 'odder': "):
        backend.build(model, CompileOptions())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("junk", [b"", b"not a model", b"\x08\x09\x12\xff\xff"])
def test_rtx_refuses_bytes_that_are_no_model(backend: Any, junk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackendError, match="refuses the model"):
        backend.build(junk, CompileOptions())
    assert capfd.readouterr().err == ""


def test_rtx_refuses_sizes_left_open(backend: Any, build: Build) -> None:
    with pytest.raises(BackendError, match="fixed"):
        backend.build(build([node("Relu", ["x"], ["y"])], {}, ("batch", 3)), CompileOptions())


def test_rtx_builds_for_targets_that_it_knows_and_no_jetson(build: Build) -> None:
    model = build([node("Relu", ["x"], ["y"])], {}, (1, 3))
    assert rtx.RtxBackend(target="sm75").build(model, CompileOptions()).details["target"] == "SM75"
    with pytest.raises(BackendError, match="not for 'SM87'"):
        rtx.RtxBackend(target="SM87").build(model, CompileOptions())


@pytest.mark.parametrize("capability", [(8, 7), (7, 2), (11, 0), (9, 0)])
def test_rtx_never_answers_for_a_device_that_it_does_not_support(capability: tuple[int, int]) -> None:
    backend = rtx.RtxBackend(cuda=cuda_fake.FakeCuda(capability=capability))
    affinity = backend.affinity()
    assert affinity.score == -1
    assert "--backend trt" in affinity.reason
    with pytest.raises(BackendError, match="does not run on Orin"):
        backend.identity(precision="fp32", batch=1, threads=1)


def test_rtx_that_cannot_run_here_says_that_it_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    loading: Any = importlib.import_module("netadapt_trt.backends.trt.backend")
    monkeypatch.setattr(loading, "cuda_available", lambda: None)
    affinity = rtx.RtxBackend().affinity()
    assert affinity.score == -1
    assert affinity.reason.startswith("it parses and builds here, but cannot run")


def test_rtx_identity_of_a_supported_gpu_is_its_own() -> None:
    backend = rtx.RtxBackend(cuda=cuda_fake.FakeCuda(device="NVIDIA RTX 4000", capability=(8, 9)))
    identity = backend.identity(precision="fp16", batch=1, threads=1)
    assert (identity.backend, identity.runtime, identity.device) == ("trt_rtx", "tensorrt-rtx", "NVIDIA RTX 4000")
