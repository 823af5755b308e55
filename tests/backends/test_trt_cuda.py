"""The CUDA adapters. cuda-python answers with errors where there is no GPU, which shows how they are told."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

cuda: Any = importlib.import_module("netadapt_trt.backends.trt.cuda")


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


@pytest.mark.skipif(not installed("cuda.bindings"), reason="cuda-python is not installed")
def test_cuda_python_is_preferred_and_works_or_says_why() -> None:
    assert cuda.cuda_available() == "cuda-python"
    runtime: Any = importlib.import_module("cuda.bindings.runtime")
    if int(runtime.cudaGetDeviceCount()[0]):
        with pytest.raises(cuda.CudaError, match=r"cudaSetDevice failed: cudaError.*--runtime nvidia"):
            cuda.load_cuda()
        return
    adapter = cuda.load_cuda()
    info = adapter.device_info()
    assert info.name
    assert info.memory_bytes > 1 << 28
    x = np.arange(1000, dtype=np.float32)
    y = np.empty_like(x)
    stream, pointer, events = adapter.new_stream(), adapter.alloc(x.nbytes), [adapter.new_event(), adapter.new_event()]
    adapter.record(events[0], stream)
    adapter.copy_htod(pointer, x, stream)
    adapter.copy_dtoh(y, pointer, stream)
    adapter.record(events[1], stream)
    adapter.sync_event(events[1])
    assert np.array_equal(x, y)
    assert adapter.elapsed_ms(*events) > 0
    adapter.begin_capture(stream)
    adapter.copy_htod(pointer, x, stream)
    graph = adapter.end_capture(stream)
    adapter.launch_graph(graph, stream)
    adapter.sync(stream)
    adapter.free_graph(graph)
    for event in events:
        adapter.free_event(event)
    host = adapter.alloc_host(64)
    host[:] = 7
    adapter.free_host(host)
    adapter.free(pointer)
    adapter.free_stream(stream)
    with pytest.raises(cuda.OutOfDeviceMemoryError, match="smaller batch"):
        adapter.alloc(1 << 50)


def test_load_cuda_without_any_adapter_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cuda.cuda_available() is None
    with pytest.raises(cuda.CudaError, match=r"cuda-python<13.*pycuda"):
        cuda.load_cuda()


@pytest.mark.parametrize(("adapter", "package"), [("cuda-python", "cuda.bindings"), ("pycuda", "pycuda.autoprimaryctx")])
def test_an_adapter_that_cannot_be_imported_is_a_cuda_error(
    adapter: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(cuda.CudaError, match=adapter):
        cuda.load_cuda(adapter)


def test_architecture_is_written_as_nvidia_does() -> None:
    info = cuda.DeviceInfo(
        name="Orin", capability=(8, 7), memory_bytes=1, integrated=True, driver_version="12.6", runtime_version="12.6"
    )
    assert info.architecture == "SM87"


class Driver(ModuleType):
    """pycuda.driver's part that the adapter calls, with the names and signatures of pycuda 2026.1's source."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001
        pass

    freed: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.device_attribute = SimpleNamespace(INTEGRATED="integrated")
        self.event_flags = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1)

    def get_driver_version(self) -> int:
        return 11040

    def get_version(self) -> tuple[int, int, int]:
        return (11, 4, 0)

    def mem_alloc(self, size: int) -> Any:
        if size > 1 << 20:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return _Allocation(self)

    def pagelocked_empty(self, shape: int, dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: Any) -> None:
        if dest not in (4096,):
            raise self.Error("cuMemcpyHtoDAsync failed: invalid argument")
        stream.log.append(("in", src.nbytes))

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: Any) -> None:
        stream.log.append(("out", dest.nbytes))

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            assert flags == 1
            self.handle, self.log = 77, list[Any]()

        def synchronize(self) -> None:
            self.log.append("sync")

    class Event:
        def __init__(self, flags: int = 0) -> None:
            self.stream: Any = None
            self.flags = flags

        def record(self, stream: Any = None) -> Any:
            self.stream = stream
            return self

        def synchronize(self) -> Any:
            return self

        def time_till(self, event: Any) -> float:
            return 1.5


class _Allocation:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __int__(self) -> int:
        return 4096

    def free(self) -> None:
        self._driver.freed.append(4096)


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    package, context, driver = ModuleType("pycuda"), ModuleType("pycuda.autoprimaryctx"), Driver()
    device = SimpleNamespace(
        name=lambda: "Xavier",
        compute_capability=lambda: (7, 2),
        total_memory=lambda: 8 << 30,
        get_attribute=lambda _: 1,
        pci_bus_id=lambda: "0000:65:00.0",
    )
    vars(context)["device"] = device
    vars(package).update(driver=driver, autoprimaryctx=context, __path__=[])
    for name, module in {"pycuda": package, "pycuda.autoprimaryctx": context, "pycuda.driver": driver}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return cuda.load_cuda("pycuda")


def test_pycuda_copies_times_and_frees(pycuda: Any) -> None:
    info = pycuda.device_info()
    assert (info.name, info.architecture, info.integrated, info.driver_version) == ("Xavier", "SM72", True, "11.4")
    assert (info.runtime_version, info.bus_id) == ("11.4", "0000:65:00.0")
    stream, pointer, first, second = pycuda.new_stream(), pycuda.alloc(64), pycuda.new_event(), pycuda.new_event()
    assert (stream, pointer) == (77, 4096)
    assert (first.flags, pycuda.new_event(blocking=True).flags) == (0, 1)
    pycuda.record(first, stream)
    pycuda.copy_htod(pointer, np.zeros(4, np.float32), stream)
    pycuda.copy_dtoh(np.zeros(2, np.float32), pointer, stream)
    pycuda.sync(stream)
    pycuda.sync_event(second)
    assert first.stream.log == [("in", 16), ("out", 8), "sync"]
    assert pycuda.elapsed_ms(first, second) == 1.5
    pycuda.free(pointer)
    assert Driver.freed == [4096]


def test_pycuda_errors_are_cuda_errors(pycuda: Any) -> None:
    with pytest.raises(cuda.OutOfDeviceMemoryError, match="out of memory"):
        pycuda.alloc(1 << 30)
    with pytest.raises(cuda.CudaError, match="invalid argument"):
        pycuda.copy_htod(1, np.zeros(1, np.float32), pycuda.new_stream())
    with pytest.raises(cuda.CudaError, match="no CUDA graphs"):
        pycuda.begin_capture(77)
