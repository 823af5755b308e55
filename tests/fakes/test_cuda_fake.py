"""The fake device itself: bytes, order, virtual time and every way to fail."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest

fake: Any = importlib.import_module("cuda_fake")
interface: Any = importlib.import_module("netadapt_trt.backends.trt.cuda.interface")


@pytest.fixture
def cuda() -> Any:
    return fake.FakeCuda()


def nothing() -> None:
    pass


def test_fake_cuda_has_the_whole_interface(cuda: Any) -> None:
    wanted = {name: member for name, member in vars(interface.Cuda).items() if not name.startswith("_")}
    assert len(wanted) >= 19
    for name, member in wanted.items():
        own = list(inspect.signature(getattr(fake.FakeCuda, name)).parameters)
        assert own == list(inspect.signature(member).parameters), name
    assert isinstance(cuda.name, str)
    assert cuda.device_info().architecture == "SM87"


def test_copies_go_there_and_back(cuda: Any) -> None:
    stream, pointer = cuda.new_stream(), cuda.alloc(16)
    assert pointer % 256 == 0
    there, back = cuda.alloc_host(16), cuda.alloc_host(16)
    there[:] = range(16)
    cuda.copy_htod(pointer, there, stream)
    cuda.copy_dtoh(back, pointer, stream)
    assert set(back) == {0xCD}  # nobody waited yet
    cuda.sync(stream)
    assert list(back) == list(range(16))
    values = np.array([[1.5, -2.0]], dtype=np.float32)
    cuda.copy_dtoh(values, pointer, stream)
    cuda.sync(stream)
    assert values.tobytes() == bytes(range(8))


def test_what_was_made_can_be_given_back_once(cuda: Any) -> None:
    stream, pointer, host, event = cuda.new_stream(), cuda.alloc(1), cuda.alloc_host(1), cuda.new_event()
    cuda.begin_capture(stream)
    graph = cuda.end_capture(stream)
    assert cuda.live() == {"memory": 1, "host": 1, "streams": 1, "events": 1, "graphs": 1}
    ends = [(cuda.free_event, event), (cuda.free_graph, graph), (cuda.free_host, host)]
    for end, thing in [*ends, (cuda.free, pointer), (cuda.free_stream, stream)]:
        end(thing)
        with pytest.raises(interface.CudaError):
            end(thing)
    assert set(cuda.live().values()) == {0}


def test_events_measure_device_time(cuda: Any) -> None:
    stream, first, second = cuda.new_stream(), cuda.new_event(), cuda.new_event()
    cuda.record(first, stream)
    assert cuda.launch(stream, 2.5, nothing)
    cuda.record(second, stream)
    with pytest.raises(interface.CudaError, match="NotReady"):
        cuda.elapsed_ms(first, second)
    cuda.sync_event(second)
    # The kernel starts one call after the event before it: the host was that much behind.
    assert cuda.elapsed_ms(first, second) == pytest.approx(2.5 + fake.CALL_MS)
    assert cuda.clock() == pytest.approx((2.5 + 2 * fake.CALL_MS) / 1000)


def test_streams_run_side_by_side(cuda: Any) -> None:
    streams = [cuda.new_stream(), cuda.new_stream()]
    for stream in streams:
        cuda.launch(stream, 5.0, nothing)
    for stream in streams:
        cuda.sync(stream)
    assert cuda.now_ms == pytest.approx(5.0 + 2 * fake.CALL_MS)


def test_memory_runs_out(cuda: Any) -> None:
    cuda.memory_bytes = 1000
    pointer = cuda.alloc(600)
    with pytest.raises(interface.OutOfDeviceMemoryError, match=r"401 bytes; 600 of 1000 are in use"):
        cuda.alloc(401)
    cuda.free(pointer)
    assert cuda.alloc(1000)


def test_bytes_outside_a_block_poison_the_device(cuda: Any) -> None:
    stream, pointer = cuda.new_stream(), cuda.alloc(8)
    cuda.copy_htod(pointer + 4, np.zeros(5, np.uint8), stream)
    with pytest.raises(interface.CudaError, match="IllegalAddress"):
        cuda.sync(stream)
    with pytest.raises(interface.CudaError, match="IllegalAddress"):
        cuda.alloc(1)
    assert not cuda.launch(stream, 1.0, nothing)


def test_failing_kernels_tell_at_once_or_when_waited_for(cuda: Any) -> None:
    stream = cuda.new_stream()
    cuda.launch_fails = True
    assert not cuda.launch(stream, 1.0, nothing)
    cuda.launch_fails, cuda.work_fails = False, True
    assert cuda.launch(stream, 1.0, nothing)
    with pytest.raises(interface.CudaError, match="LaunchFailure"):
        cuda.sync(stream)


def test_a_captured_stream_records_and_a_graph_repeats(cuda: Any) -> None:
    stream, count = cuda.new_stream(), []
    cuda.begin_capture(stream)
    assert cuda.is_capturing(stream)
    for _ in range(4):
        cuda.launch(stream, 0.25, lambda: count.append(1), host_ms=0.1)
    graph = cuda.end_capture(stream)
    cuda.sync(stream)
    assert count == []
    begin = cuda.now_ms
    for _ in range(3):
        cuda.launch_graph(graph, stream)
    cuda.sync(stream)
    assert len(count) == 12
    assert cuda.now_ms - begin == pytest.approx(fake.GRAPH_MS + 3 * 4 * 0.25)  # later launches hide behind earlier work


def test_capture_can_be_refused(cuda: Any) -> None:
    cuda.captures = False
    stream = cuda.new_stream()
    with pytest.raises(interface.CudaError, match="NotSupported"):
        cuda.begin_capture(stream)
    assert cuda.launch(stream, 1.0, nothing)
    with pytest.raises(interface.CudaError, match="IllegalState"):
        cuda.end_capture(stream)


@pytest.mark.parametrize("spoil", ["sync", "alloc", "record", "break"])
def test_capture_is_broken_by_what_cannot_be_captured(cuda: Any, spoil: str) -> None:
    stream, event = cuda.new_stream(), cuda.new_event()
    cuda.begin_capture(stream)
    if spoil == "break":
        cuda.break_capture(stream)
    else:
        call = {
            "sync": lambda: cuda.sync(stream),
            "alloc": lambda: cuda.alloc(1),
            "record": lambda: cuda.record(event, stream),
        }
        with pytest.raises(interface.CudaError, match="StreamCaptureUnsupported"):
            call[spoil]()
    with pytest.raises(interface.CudaError, match="StreamCaptureInvalidated"):
        cuda.end_capture(stream)
    cuda.sync(stream)  # usable again


def test_bad_handles_are_refused(cuda: Any) -> None:
    event = cuda.new_event()
    with pytest.raises(interface.CudaError, match="InvalidResourceHandle"):
        cuda.sync(12345)
    with pytest.raises(interface.CudaError, match="InvalidResourceHandle"):
        cuda.elapsed_ms(event, event)  # never recorded
    with pytest.raises(interface.CudaError, match="InvalidValue"):
        cuda.alloc(0)
    with pytest.raises(interface.CudaError, match="contiguous"):
        cuda.copy_htod(cuda.alloc(64), np.zeros((4, 4))[:, ::2], 0)
