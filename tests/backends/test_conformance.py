"""What every backend must do, built in or third-party; a runtime that is not installed is skipped with its reason."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from netadapt_trt.backend import Backend, CompileOptions, Executable, ProfiledExecutable, backend_names, load_backend
from netadapt_trt.errors import BackendError, SpecError
from netadapt_trt.measure.stopwatch import time_executable
from netadapt_trt.plan.write import write_layer, write_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    Build = Callable[..., bytes]

node = helper.make_node
OPTIONS = CompileOptions(threads=1)


@pytest.fixture
def convolution(build: Build) -> bytes:
    return build(
        [node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])],
        {"w": (8, 3, 3, 3), "b": (8,)},
        (1, 3, 6, 6),
    )


@pytest.fixture
def residual(build: Build) -> bytes:
    return build(
        [
            node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
            node("Clip", ["a", "low", "high"], ["r"]),
            node("Conv", ["r", "w2"], ["c"]),
            node("Add", ["c", "r"], ["s"]),
            node("Relu", ["s"], ["t"]),
            node("GlobalAveragePool", ["t"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
        ],
        {
            "w1": (8, 3, 3, 3),
            "w2": (8, 8, 1, 1),
            "w3": (5, 8),
            "b3": (5,),
            "low": np.zeros((), np.float32),
            "high": np.full((), 6, np.float32),
        },
        (2, 3, 8, 8),
    )


def test_identity_says_what_was_asked(backend: Backend) -> None:
    precision = backend.precisions()[0]
    identity = backend.identity(precision=precision, batch=4, threads=3)
    assert (identity.backend, identity.precision, identity.batch, identity.threads) == (backend.name, precision, 4, 3)
    assert identity.device
    assert identity.runtime_version
    assert identity == backend.identity(precision=precision, batch=4, threads=3)


def test_defaults_are_usable(backend: Backend) -> None:
    assert backend.default_threads() >= 1
    opset, ir_version = backend.opset()
    assert opset >= 13
    assert ir_version >= 7
    assert backend.affinity().reason


def test_compile_refuses_a_precision_it_does_not_list(backend: Backend, convolution: bytes) -> None:
    refused = {"fp32", "fp16", "int8"} - set(backend.precisions())
    for precision in refused:
        with pytest.raises(BackendError, match=precision):
            backend.compile(convolution, CompileOptions(precision=precision))  # type: ignore[arg-type]
        with pytest.raises(BackendError, match=precision):
            backend.identity(precision=precision, batch=1, threads=1)  # type: ignore[arg-type]


def test_run_is_timed_by_the_stopwatch(backend: Backend, convolution: bytes) -> None:
    with backend.compile(convolution, OPTIONS) as exe:
        assert isinstance(exe, Executable)
        timing = time_executable(exe, warmup_ms=0.1, min_runs=5, min_ms=0.5, max_ms=20)
        elapsed = exe.elapsed_ms()
    assert timing.stats.n >= 5
    assert 0 < timing.stats.p10 <= timing.stats.median <= timing.stats.p90
    assert elapsed is None or (math.isfinite(elapsed) and elapsed > 0)


@pytest.mark.parametrize("model", ["convolution", "residual"])
def test_infer_equals_the_reference_evaluator(backend: Backend, model: str, request: pytest.FixtureRequest) -> None:
    serialised: bytes = request.getfixturevalue(model)
    parsed = onnx.load_model_from_string(serialised)
    shape = [size.dim_value for size in parsed.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    (expected,) = ReferenceEvaluator(parsed).run(None, {"x": x})
    with backend.compile(serialised, OPTIONS) as exe:
        exe.run()
        outputs = exe.infer({"x": x})
    assert set(outputs) == {"y"}
    assert np.abs(expected).max() > 0
    assert outputs["y"] == pytest.approx(np.asarray(expected), rel=0, abs=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize("junk", [b"", b"not a model", b"\x08\x09\x12\xff\xff"])
def test_compile_refuses_bytes_that_are_no_model(backend: Backend, junk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackendError, match="refuses the model"):
        backend.compile(junk, OPTIONS)
    assert capfd.readouterr().err == ""


def test_compile_refuses_an_operator_it_does_not_know(backend: Backend, build: Build) -> None:
    with pytest.raises(BackendError, match="NoSuchOperator"):
        backend.compile(build([node("NoSuchOperator", ["x"], ["y"])], {}, (1, 3)), OPTIONS)


def test_compile_refuses_sizes_left_open(backend: Backend, build: Build) -> None:
    with pytest.raises(BackendError, match="fixed"):
        backend.compile(build([node("Relu", ["x"], ["y"])], {}, ("batch", 3)), OPTIONS)


@pytest.mark.parametrize("wrong", [{}, {"z": np.zeros((1, 3, 6, 6), np.float32)}, {"x": np.zeros((1, 5, 6, 6), np.float32)}])
def test_infer_refuses_unfit_inputs(
    backend: Backend, convolution: bytes, wrong: dict[str, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    with backend.compile(convolution, OPTIONS) as exe, pytest.raises(BackendError, match="inputs"):
        exe.infer(wrong)
    assert capfd.readouterr().err == ""


def test_leaving_the_context_closes(backend: Backend, convolution: bytes) -> None:
    with backend.compile(convolution, OPTIONS) as exe:
        exe.run()
    with pytest.raises(BackendError, match="closed"):
        exe.run()
    with pytest.raises(BackendError, match="closed"):
        exe.infer({"x": np.zeros((1, 3, 6, 6), np.float32)})


def test_integer_inputs_are_bound(backend: Backend, build: Build) -> None:
    model = build([node("Neg", ["x"], ["y"])], {}, (2, 3), dtype=TensorProto.INT64)
    with backend.compile(model, OPTIONS) as exe:
        exe.run()
        (output,) = exe.infer({"x": np.arange(6).reshape(2, 3)}).values()
    assert output.tolist() == [[0, -1, -2], [-3, -4, -5]]


def test_partition_covers_every_costly_op_once(backend: Backend, network: Plan) -> None:
    layers = backend.partition(network)
    covered = Counter(name for layer in layers for name in layer.ops)
    assert set(covered.values()) == {1}
    assert {op.name for op in network.ops} - set(covered) <= {"flat"}
    owner = {name: layer.key for layer in layers for name in layer.ops}
    assert owner["conv"] == owner["relu"]
    assert len({layer.key for layer in layers}) == len(layers)
    assert layers == backend.partition(network)


def test_every_layer_of_the_partition_and_the_network_run(backend: Backend, network: Plan) -> None:
    opset, ir_version = backend.opset()
    widths = {"stem": 24}
    models = [
        write_layer(network, layer, layer.widths(widths), opset=opset, ir_version=ir_version)
        for layer in backend.partition(network)
    ]
    models.append(write_network(network, widths, opset=opset, ir_version=ir_version))
    for model in models:
        with backend.compile(model, OPTIONS) as exe:
            exe.run()


@pytest.mark.parametrize("widths", [{}, {"stem": 24}])
def test_attribute_tells_a_networks_time_by_layer(backend: Backend, network: Plan, widths: dict[str, int]) -> None:
    opset, ir_version = backend.opset()
    layers = backend.partition(network)
    with backend.compile(write_network(network, widths, opset=opset, ir_version=ir_version), OPTIONS) as exe:
        if not isinstance(exe, ProfiledExecutable):
            pytest.skip(f"{backend.name} does not tell a network's time by layer")
        found = exe.attribute(network, layers, widths, runs=3)
        exe.run()
    with pytest.raises(BackendError, match="closed"):
        exe.attribute(network, layers, widths)
    assert [time.layer for time in found.layers] == layers
    told = [*(time.latency_ms for time in found.layers), *(edge.latency_ms for edge in found.edges)]
    assert min(told) >= 0
    assert found.total_ms > 0
    assert sum(told) == pytest.approx(found.mapped_share * found.total_ms)
    assert found.mapped_share == pytest.approx(1) or found.unmapped
    assert found.mapped_share >= 0.98
    assert {edge.producer for edge in found.edges} | {edge.consumer for edge in found.edges} <= {None, *layers}
    assert all(set(time.region) <= {layer.key for layer in layers} for time in found.layers)


def test_load_backend_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean fake"):
        load_backend("fakee")
    assert {"fake", "ort"} <= set(backend_names())
