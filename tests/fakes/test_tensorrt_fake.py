"""Parsing, building and running on the fake `tensorrt`: that it computes, and that it fails where the real one fails."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
cuda_fake: Any = importlib.import_module("cuda_fake")
calls: Any = importlib.import_module("tensorrt_calls")

RELEASES = ("8.6", "10.3", "11")


@pytest.fixture(params=RELEASES)
def trt(request: pytest.FixtureRequest) -> Any:
    return tensorrt_fake.make(request.param, cuda=cuda_fake.FakeCuda())


@pytest.fixture
def log(trt: Any) -> Any:
    return calls.Log(trt)


def bound(trt: Any, log: Any, content: Any) -> tuple[Any, Any]:
    """Context with addresses, and a stream."""
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(content)
    context = engine.create_execution_context()
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        size = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).itemsize * trt.volume(context.get_tensor_shape(name))
        assert context.set_tensor_address(name, trt._cuda.alloc(size))
    return context, trt._cuda.new_stream()


def test_engine_computes_what_numpy_computes(trt: Any, log: Any) -> None:
    context, stream = bound(trt, log, calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS)))
    x = calls.RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32)
    trt._cuda.copy_htod(context.get_tensor_address("x"), x, stream)
    assert context.execute_async_v3(stream)
    y = np.empty((1, 4, 8, 8), np.float32)
    trt._cuda.copy_dtoh(y, context.get_tensor_address("y"), stream)
    trt._cuda.sync(stream)
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    first = np.maximum(np.einsum("ihwab,oiab->ohw", windows, calls.W1), 0)
    second = np.maximum(np.einsum("ihw,oi->ohw", first, calls.W2[:, :, 0, 0]) + first, 0)
    np.testing.assert_allclose(y[0], second, rtol=1e-4, atol=1e-4)
    assert log.errors() == ""


def test_time_is_that_of_the_formula(trt: Any, log: Any) -> None:
    context, stream = bound(trt, log, calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS)))
    first, second = trt._cuda.new_event(), trt._cuda.new_event()
    trt._cuda.record(first, stream)
    context.execute_async_v3(stream)
    trt._cuda.record(second, stream)
    trt._cuda.sync(stream)
    # Copies of x (768 bytes) and y (1024), in and out. The first convolution multiplies longer than it moves bytes: 8 x 8
    # padded channels, 9 weights, 64 places. The second moves b (1024 bytes; the sum's other side is the same tensor), 64 of
    # w2 and 1024 of the result.
    work = calls.CONV1_MS + (2 * 768 + (1024 + 64 + 1024) + 2 * 1024) / 1e8
    late = 4 * 0.002  # the host enqueues four entries before the device starts
    assert trt._cuda.elapsed_ms(first, second) == pytest.approx(4 * 0.004 + work + late)


def test_unset_addresses_fail_the_run(trt: Any, log: Any) -> None:
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(
        calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS))
    )
    context, stream = engine.create_execution_context(), trt._cuda.new_stream()
    assert context.set_tensor_address("x", trt._cuda.alloc(768))
    assert context.execute_async_v3(stream) is False
    assert "the address of y is not set" in log.errors()
    assert context.set_tensor_address("z", 1) is False
    assert trt._cuda.launches == 0


def test_failing_device_fails_the_run(trt: Any, log: Any) -> None:
    context, stream = bound(trt, log, calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS)))
    trt._cuda.launch_fails = True
    assert context.execute_async_v3(stream) is False
    assert "launch failed" in log.errors()


def test_context_without_memory_is_none(trt: Any, log: Any) -> None:
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(
        calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS))
    )
    size = getattr(engine, "device_memory_size_v2", None) or engine.device_memory_size
    assert size == 1024  # b, the largest tensor inside
    trt._cuda.memory_bytes = size - 1
    assert engine.create_execution_context() is None
    assert "OutOfMemory" in log.errors()


def test_context_gives_its_memory_back(trt: Any, log: Any) -> None:
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(
        calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS))
    )
    context = engine.create_execution_context()
    assert trt._cuda.live()["memory"] == 1
    del context
    assert trt._cuda.live()["memory"] == 0


def test_capture_needs_a_first_run(trt: Any, log: Any) -> None:
    context, stream = bound(trt, log, calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS)))
    cuda = trt._cuda
    cuda.begin_capture(stream)
    assert context.execute_async_v3(stream) is False
    with pytest.raises(Exception, match="CaptureInvalidated"):
        cuda.end_capture(stream)
    assert context.execute_async_v3(stream)
    cuda.begin_capture(stream)
    assert context.execute_async_v3(stream)
    graph = cuda.end_capture(stream)
    cuda.launch_graph(graph, stream)
    cuda.sync(stream)
    assert cuda.graph_launches == 1


@pytest.mark.parametrize("emits", [True, False])
def test_profiler_gets_every_entry(trt: Any, log: Any, emits: bool) -> None:
    context, stream = bound(trt, log, calls.build(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS)))
    times: dict[str, float] = {}

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = ms

    assert context.report_to_profiler() is False  # nothing ran
    context.profiler = Profiler()
    context.enqueue_emits_profile = emits
    assert context.execute_async_v3(stream)
    assert bool(times) == emits
    trt._cuda.sync(stream)
    assert context.report_to_profiler() is not emits
    assert list(times) == [
        "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1",
        "conv1 + relu1",
        "conv2 + add + relu2",
        "Reformatting CopyNode for Output Tensor 0 to conv2 + add + relu2",
    ]
    assert times["conv1 + relu1"] == pytest.approx(1.25 * (0.004 + calls.CONV1_MS))
    assert context.report_to_profiler() is False


def test_dynamic_shapes_need_a_profile_and_a_shape(trt: Any, log: Any) -> None:
    content = calls.model([calls.node("Relu", "x", "y", "relu")], {}, size="s")
    assert calls.build(trt, log, content) is None
    assert "no optimization profile has been defined" in log.errors()
    builder, made, _ = calls.parse(trt, log, content)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 3, 4, 4), (1, 3, 8, 8), (1, 3, 16, 16))
    config.add_optimization_profile(profile)
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(builder.build_serialized_network(made, config))
    context = engine.create_execution_context()
    for name in ("x", "y"):
        context.set_tensor_address(name, trt._cuda.alloc(4 * 3 * 64))
    assert context.execute_async_v3(trt._cuda.new_stream()) is False
    assert context.set_input_shape("x", (1, 3, 17, 17)) is False
    assert context.set_input_shape("x", (1, 3, 8, 8))
    assert tuple(context.get_tensor_shape("y")) == (1, 3, 8, 8)
    assert context.execute_async_v3(trt._cuda.new_stream())
