"""Which CUDA adapter is taken where both are installed, and what is told where neither works."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

cuda: Any = importlib.import_module("netadapt_trt.backends.trt.cuda")
load: Any = importlib.import_module("netadapt_trt.backends.trt.cuda.load")
OLD_DRIVER = 35  # cudaErrorInsufficientDriver


def runtime(set_device: int) -> ModuleType:
    """``cuda.bindings.runtime`` with what the adapter calls when it is made and when that fails."""

    def cudaSetDevice(device: int) -> tuple[int]:  # noqa: N802
        return (set_device,)

    module = ModuleType("cuda.bindings.runtime")
    vars(module).update(
        cudaSetDevice=cudaSetDevice,
        cudaGetErrorName=lambda _: (0, b"cudaErrorInsufficientDriver"),
        cudaGetErrorString=lambda _: (0, b"driver is too old"),
    )
    return module


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """machine(set_device=..., pycuda=...): both are installed; what cudaSetDevice answers, whether pycuda works."""
    monkeypatch.delenv(load.CUDA_VARIABLE, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))

    def become(*, set_device: int = 0, pycuda: bool = True) -> None:
        packages = {name: ModuleType(name) for name in ("cuda", "cuda.bindings", "pycuda", "pycuda.driver")}
        bindings = runtime(set_device)
        vars(packages["cuda.bindings"])["runtime"] = bindings
        context = ModuleType("pycuda.autoprimaryctx")
        vars(context)["device"] = SimpleNamespace()
        vars(packages["pycuda"]).update(driver=packages["pycuda.driver"], autoprimaryctx=context, __path__=[])
        found: dict[str, Any] = {**packages, "cuda.bindings.runtime": bindings}
        found["pycuda.autoprimaryctx"] = context if pycuda else None
        for name, module in found.items():
            monkeypatch.setitem(sys.modules, name, module)

    return become


def test_cuda_python_comes_first(machine: Any) -> None:
    machine()
    assert cuda.load_cuda().name == "cuda-python"


def test_pycuda_is_taken_where_cuda_python_does_not_fit_the_driver(machine: Any) -> None:
    machine(set_device=OLD_DRIVER)
    assert cuda.load_cuda().name == "pycuda"


def test_both_reasons_are_told_where_neither_works(machine: Any) -> None:
    machine(set_device=OLD_DRIVER, pycuda=False)
    with pytest.raises(
        cuda.CudaError, match=r"cudaSetDevice failed: cudaErrorInsufficientDriver.*And: pycuda cannot be used"
    ):
        cuda.load_cuda()


@pytest.mark.parametrize("adapter", ["cuda-python", "pycuda"])
def test_the_variable_takes_that_one(machine: Any, adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setenv(load.CUDA_VARIABLE, adapter)
    assert cuda.load_cuda().name == adapter


def test_the_variable_takes_that_one_or_none(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(set_device=OLD_DRIVER)
    monkeypatch.setenv(load.CUDA_VARIABLE, "cuda-python")
    with pytest.raises(cuda.CudaError, match="InsufficientDriver"):
        cuda.load_cuda()
    assert cuda.load_cuda("pycuda").name == "pycuda"  # an argument counts more


def test_an_empty_variable_asks_for_none(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the image has it that was built without pycuda."""
    machine()
    monkeypatch.setenv(load.CUDA_VARIABLE, "")
    assert cuda.load_cuda().name == "cuda-python"


def test_a_variable_that_names_no_adapter_is_refused(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setenv(load.CUDA_VARIABLE, "cupy")
    with pytest.raises(cuda.CudaError, match="NETADAPT_TRT_CUDA is 'cupy'; set it to cuda-python or pycuda"):
        cuda.load_cuda()


def test_the_image_built_with_pycuda_uses_it() -> None:
    text = (Path(__file__).parents[2] / "Dockerfile.jetson").read_text()
    layer = text.index('pip install "pycuda==${PYCUDA_VERSION}"')
    (found,) = re.finditer(r"^ENV (\w+)=\$\{PYCUDA_VERSION:\+(.+)\}$", text, re.MULTILINE)  # the word, if it is not empty
    assert found.groups() == (load.CUDA_VARIABLE, "pycuda")
    assert layer < found.start()
