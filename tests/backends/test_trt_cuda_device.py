"""What the cuda-python adapter says of the device, from a module with the names of ``cuda.bindings.runtime``."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def runtime(**properties: Any) -> Any:
    module: Any = ModuleType("cuda.bindings.runtime")
    found = SimpleNamespace(
        name=b"NVIDIA Test Card\0\0", major=8, minor=9, totalGlobalMem=1 << 34, integrated=0, **properties
    )
    calls = {
        "cudaSetDevice": lambda _: (0,),
        "cudaGetDevice": lambda: (0, 0),
        "cudaGetDeviceProperties": lambda _: (0, found),
        "cudaDriverGetVersion": lambda: (0, 13000),
        "cudaRuntimeGetVersion": lambda: (0, 12060),
        "cudaEventDefault": 0,
        "cudaEventBlockingSync": 1,
        "cudaEventCreateWithFlags": lambda flags: (0, f"event with flags {flags}"),
    }
    vars(module).update(calls)
    return module


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    packages: Any = {"cuda": ModuleType("cuda"), "cuda.bindings": ModuleType("cuda.bindings")}
    packages["cuda.bindings"].runtime = runtime(pciDomainID=1, pciBusID=0xC1, pciDeviceID=2)
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, name, module)
    return importlib.import_module("netadapt_trt.backends.trt.cuda.cuda_python").CudaPython()


def test_device_is_known_by_its_place_on_the_bus(adapter: Any) -> None:
    info = adapter.device_info()
    assert (info.name, info.architecture, info.integrated) == ("NVIDIA Test Card", "SM89", False)
    assert (info.driver_version, info.runtime_version) == ("13.0", "12.6")
    assert info.bus_id == "0001:c1:02.0"  # as NVML and nvidia-smi write it


def test_event_that_is_waited_for_asleep_is_asked_for(adapter: Any) -> None:
    assert adapter.new_event() == "event with flags 0"
    assert adapter.new_event(blocking=True) == "event with flags 1"
