"""Running engines on fake devices: what is timed, what is kept apart, what is freed, and how failures are told."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from netadapt_trt.backend import CompileOptions, DetailedExecutable, PatientExecutable, ProfiledExecutable
from netadapt_trt.errors import BackendError
from netadapt_trt.plan.write import write_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.plan.schema import Plan

    Build = Callable[..., bytes]

fusion: Any = importlib.import_module("tensorrt_fake.fusion")
node = helper.make_node
FP32 = CompileOptions()
SAME = [1, 1, 1, 1]
NOTHING = {"memory": 0, "host": 0, "streams": 0, "events": 0, "graphs": 0}


@pytest.fixture
def convolution(build: Build) -> bytes:
    return build([node("Conv", ["x", "w"], ["y"], "conv", pads=SAME)], {"w": (8, 3, 3, 3)}, (1, 3, 6, 6))


def kernels_ms() -> float:
    """The three entries of the convolution by the fake's formula: copy in, kernel, copy out; float32, 6x6.

    Bytes: in 3*36*4 = 432, out 8*36*4 = 1152, weights 8*3*9*4 = 864. Multiplications, channels in eights: 8*8*9*36.
    """
    launch, moved, macs = fusion.LAUNCH_MS, fusion.BYTES_PER_MS, fusion.MACS_PER_MS["FP32"]
    kernel = max(8 * 8 * 9 * 36 / macs, (432 + 1152 + 864) / moved)
    return float(3 * launch + 2 * 432 / moved + kernel + 2 * 1152 / moved)


def test_device_time_is_that_of_the_kernels(bench: Any, convolution: bytes) -> None:
    with bench.backend.compile(convolution, FP32) as exe:
        assert exe.elapsed_ms() is None
        assert exe.host_elapsed_ms() is None
        exe.run()
        # Recording the second event takes the host a moment; the fake's kernels run on meanwhile.
        assert exe.elapsed_ms() == pytest.approx(kernels_ms(), abs=0.005)
        host = exe.host_elapsed_ms()
        details = exe.details()
    assert host is not None
    assert host > 0
    assert 0 < details["enqueue_ms"] <= host
    assert isinstance(exe, DetailedExecutable)
    assert isinstance(exe, ProfiledExecutable)


def test_runs_wait_asleep_where_energy_is_measured_and_spin_where_time_is(bench: Any, convolution: bytes) -> None:
    with bench.backend.compile(convolution, FP32) as exe:
        exe.run()
        spinning = exe.elapsed_ms()
        assert bench.cuda.naps == 0
        exe.wait_asleep(True)
        assert exe.elapsed_ms() is None
        exe.run()
        assert bench.cuda.naps == 1
        assert exe.elapsed_ms() == pytest.approx(spinning)
        exe.wait_asleep(False)
        exe.run()
        assert bench.cuda.naps == 1
        assert "asleep" in exe.details()["waits"]
    assert isinstance(exe, PatientExecutable)


def test_runs_are_launched_as_a_graph_where_capture_works(bench: Any, convolution: bytes) -> None:
    with bench.backend.compile(convolution, FP32) as exe:
        launches = bench.cuda.launches
        exe.run()
        exe.run()
        assert (bench.cuda.graph_launches, bench.cuda.launches) == (2, launches)
        details = exe.details()
    assert (details["cuda_graph"], details["cuda_graph_reason"]) == (True, None)


def test_runs_without_a_graph_say_why(bench: Any, convolution: bytes) -> None:
    bench.cuda.captures = False
    with bench.backend.compile(convolution, FP32) as exe:
        exe.run()
        details = exe.details()
        assert bench.cuda.graph_launches == 0
        assert exe.elapsed_ms() == pytest.approx(kernels_ms(), abs=0.02)
    assert details["cuda_graph"] is False
    assert "cudaErrorNotSupported" in details["cuda_graph_reason"]


def test_a_capture_that_breaks_leaves_a_working_executable(
    bench: Any, convolution: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = bench.cuda.begin_capture

    def broken(stream: int) -> None:
        begin(stream)
        bench.cuda.break_capture(stream)

    monkeypatch.setattr(bench.cuda, "begin_capture", broken)
    with bench.backend.compile(convolution, FP32) as exe:
        exe.run()
        assert "CaptureInvalidated" in exe.details()["cuda_graph_reason"]
    assert bench.cuda.live() == NOTHING


def test_graph_can_be_switched_off(make_bench: Any, convolution: bytes) -> None:
    made = make_bench("10.3", cuda_graph=False)
    with made.backend.compile(convolution, FP32) as exe:
        assert exe.details()["cuda_graph_reason"] == "switched off"


def test_nothing_runs_on_the_default_stream(bench: Any, convolution: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    used = set()
    record = bench.cuda.record

    def watched(event: Any, stream: int) -> None:
        used.add(stream)
        record(event, stream)

    monkeypatch.setattr(bench.cuda, "record", watched)
    with bench.backend.compile(convolution, FP32) as exe:
        exe.run()
    assert len(used) == 1
    assert 0 not in used


def test_timed_inputs_are_random_equal_and_restored(bench: Any, convolution: bytes) -> None:
    def held(exe: Any) -> bytes:
        return bytes(bench.cuda.read(exe._device["x"], 432))

    with bench.backend.compile(convolution, FP32) as first, bench.backend.compile(convolution, FP32) as second:
        before = held(first)
        assert before == held(second)
        assert np.frombuffer(before, np.float32).std() > 0.5
        zeros = first.infer({"x": np.zeros((1, 3, 6, 6), np.float32)})["y"]
        assert not zeros.any()
        assert held(first) == before


def test_inputs_of_another_kind_are_refused(bench: Any, convolution: bytes) -> None:
    with bench.backend.compile(convolution, FP32) as exe:
        with pytest.raises(BackendError, match="is float32, not complex"):
            exe.infer({"x": np.zeros((1, 3, 6, 6), np.complex64)})
        assert exe.infer({"x": np.zeros((1, 3, 6, 6), np.float64)})["y"].dtype == np.float32


def test_a_type_that_numpy_lacks_is_named(make_bench: Any, build: Build) -> None:
    model = build([node("Relu", ["x"], ["y"])], {}, (1, 4), dtype=TensorProto.BFLOAT16)
    made = make_bench("10.3")
    with pytest.raises(BackendError, match="'x' is of type BF16"):
        made.backend.compile(model, FP32)


def test_memory_is_told_and_given_back(bench: Any, convolution: bytes) -> None:
    with bench.backend.compile(convolution, FP32) as exe:
        details = exe.details()
        assert bench.cuda.live()["memory"] >= 2
        exe.close()
        exe.close()
    assert bench.cuda.live() == NOTHING
    assert details["io_size_bytes"] == 432 + 1152
    # Its copies in the kernel's own layout: the largest is the output's.
    assert details["device_memory_bytes"] == 1152
    assert details["engine_size_bytes"] > 0


def test_too_little_memory_is_told_and_nothing_leaks(bench: Any, convolution: bytes) -> None:
    engine = bench.backend.build(convolution, FP32)
    for size in (1000, 1500):  # not even the context; the context, but not the buffers
        bench.cuda.memory_bytes = size
        with pytest.raises(BackendError, match=r"memory|Memory"):
            bench.backend.open_engine(engine.content, FP32)
        assert bench.cuda.live() == NOTHING


@pytest.mark.parametrize("change", ["device", "release", "damaged"])
def test_an_engine_of_elsewhere_is_refused(make_bench: Any, convolution: bytes, change: str) -> None:
    here = make_bench("10.3")
    elsewhere = make_bench("11" if change == "release" else "10.3", device="Xavier" if change == "device" else "Orin")
    content = elsewhere.backend.build(convolution, FP32).content
    content = content[:-1] + b"?" if change == "damaged" else content
    with pytest.raises(BackendError, match=r"cannot load the engine: .*build it again here"):
        here.backend.open_engine(content, FP32)
    assert here.cuda.live() == NOTHING


def test_an_engine_opened_again_computes_the_same(bench: Any, convolution: bytes) -> None:
    x = {"x": np.random.default_rng(1).standard_normal((1, 3, 6, 6)).astype(np.float32)}
    with bench.backend.compile(convolution, FP32) as exe:
        expected = exe.infer(x)["y"]
    with bench.backend.open_engine(bench.backend.build(convolution, FP32).content, FP32) as exe:
        assert np.array_equal(exe.infer(x)["y"], expected)


@pytest.mark.parametrize("way", ["launch_fails", "work_fails"])
def test_a_failing_run_is_a_backend_error(bench: Any, convolution: bytes, way: str) -> None:
    bench.cuda.captures = False
    with bench.backend.compile(convolution, FP32) as exe:
        exe.run()
        setattr(bench.cuda, way, True)
        with pytest.raises(BackendError, match=r"failed while running|cudaErrorLaunchFailure"):
            exe.run()


def test_attribution_of_a_network_finds_all_of_its_time(bench: Any, network: Plan) -> None:
    opset, ir_version = bench.backend.opset()
    model = write_network(network, {"stem": 16}, opset=opset, ir_version=ir_version)
    layers = bench.backend.partition(network)
    with bench.backend.compile(model, FP32) as exe:
        exe.run()
        clean = exe.elapsed_ms()
        found = exe.attribute(network, layers, {"stem": 16}, runs=3)
        exe.run()
        # The profiler was in a context of its own: it has touched nothing.
        assert exe.elapsed_ms() == pytest.approx(clean)
    assert found.mapped_share == pytest.approx(1.0)
    assert [item.layer for item in found.layers] == layers
    assert all(item.latency_ms > 0 for item in found.layers)
    parts = sum(item.latency_ms for item in found.layers) + sum(edge.latency_ms for edge in found.edges)
    assert parts == pytest.approx(found.total_ms)
    # A profiled run takes longer than a clean one, which is why only shares of it count.
    assert found.total_ms > clean
    assert None in {edge.producer for edge in found.edges}


def test_attribution_of_siblings_is_a_flagged_region(bench: Any) -> None:
    schema: Any = importlib.import_module("netadapt_trt.plan.schema")
    shapes = {"x": 8, "a": 4, "b": 12, "ya": 4, "yb": 12}
    sizes = {name: tuple(map(schema.Dim, (1, size, 4, 4))) for name, size in shapes.items()}
    weights = {"wa": (4, 8, 1, 1), "wb": (12, 8, 1, 1)}
    plan = schema.Plan(
        model="test", args={}, inputs=("x",), outputs=("ya", "yb"), groups=(), frozen=(), constants={},
        tensors={name: schema.Tensor(name, "float32", size) for name, size in sizes.items()},
        weights={name: schema.Tensor(name, "float32", tuple(map(schema.Dim, shape))) for name, shape in weights.items()},
        ops=tuple(
            op
            for branch in "ab"
            for op in (
                schema.Op(f"conv_{branch}", "Conv", ("x", f"w{branch}"), (branch,), {"kernel_shape": (1, 1)}),
                schema.Op(f"tanh_{branch}", "Tanh", (branch,), (f"y{branch}",)),
            )
        ),
    )  # fmt: skip
    layers = bench.backend.partition(plan)
    opset, ir_version = bench.backend.opset()
    model = write_network(plan, {}, opset=opset, ir_version=ir_version)
    with bench.backend.compile(model, FP32) as exe:
        found = exe.attribute(plan, layers, {}, runs=1)
    first, second = found.layers
    assert second.latency_ms == pytest.approx(3 * first.latency_ms)
    assert (first.region, second.region) == ((second.layer.key,), (first.layer.key,))
