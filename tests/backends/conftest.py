from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from netadapt_trt.backend import Backend, backend_names, load_backend
from netadapt_trt.plan.schema import Dim, FrozenChannels, Group, Op, Plan, Tensor

if TYPE_CHECKING:
    from pathlib import Path

Build = Callable[..., bytes]


tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
cuda_fake: Any = importlib.import_module("cuda_fake")

RELEASES = ("8.6", "10.3", "11")
OPTIONS = (
    "NETADAPT_FAKE_NOISE", "NETADAPT_FAKE_SLEEP", "NETADAPT_RTX_TARGET", "NETADAPT_TRT_DEVICE", "NETADAPT_TRT_GRAPH",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Backends read these variables. A fake board has a name; with TF32 fp32 would not equal the reference evaluator's."""
    for name in OPTIONS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETADAPT_TRT_TF32", "0")
    monkeypatch.setenv("NETADAPT_TRT_CACHE", str(tmp_path / "timing"))
    monkeypatch.setenv("NETADAPT_TRT_BOARD", "Orin")


class Bench:
    """The ``trt`` backend on a fake TensorRT and a fake device, both at hand."""

    def __init__(self, release: str, *, gpu: str = "Orin", dla_cores: int | None = None, **options: Any) -> None:
        module: Any = importlib.import_module("netadapt_trt.backends.trt")
        self.release = release
        self.cuda: Any = cuda_fake.FakeCuda(device=gpu)
        self.trt: Any = tensorrt_fake.make(release, cuda=self.cuda, device=gpu, dla_cores=dla_cores)
        self.backend: Any = module.TrtBackend(self.trt, self.cuda, **options)


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    """make_bench(release, device_option="dla", ...): options of the backend; ``device`` and ``dla_cores`` of the fakes."""

    def make(release: str, *, device: str = "Orin", dla_cores: int | None = None, **options: Any) -> Bench:
        if "device_option" in options:
            options["device"] = options.pop("device_option")
        return Bench(release, gpu=device, dla_cores=dla_cores, **options)

    return make


@pytest.fixture(params=RELEASES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


@pytest.fixture(params=[*backend_names(), *(f"trt on fake {release}" for release in RELEASES)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every registered backend that can run here, the others skipped with their reason; ``trt`` on each fake TensorRT."""
    if request.param not in backend_names():
        made: Backend = Bench(request.param.split()[-1]).backend
        return made
    found = load_backend(request.param)
    affinity = found.affinity()
    if affinity.score < 0:
        pytest.skip(f"{request.param}: {affinity.reason}")
    return found


@pytest.fixture
def fake() -> Backend:
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
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        serialised: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
        return serialised

    return make


@pytest.fixture
def network() -> Plan:
    """x -> Conv -> Relu -> (depthwise Conv -> Sigmoid * itself) + Relu's output -> pool -> flatten -> Gemm."""
    width, one = Dim(0, (("stem", 1),)), Dim(1)
    image = (one, width, Dim(8), Dim(8))
    flat = (one, width)
    shapes = {"x": (one, Dim(3), Dim(8), Dim(8)), "p": (one, width, one, one), "f": flat, "y": (one, Dim(5))}
    tensors = {
        name: Tensor(name, "float32", shapes.get(name, image)) for name in ("x", "a", "r", "d", "g", "m", "s", "p", "f", "y")
    }
    weights = {
        "w1": (width, Dim(3), Dim(3), Dim(3)),
        "w2": (width, one, Dim(3), Dim(3)),
        "w3": (Dim(5), width),
        "b3": (Dim(5),),
    }
    same: dict[str, tuple[int, ...]] = {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3), "strides": (1, 1)}
    return Plan(
        model="test", args={}, inputs=("x",), outputs=("y",),
        groups=(Group("stem", 32, ("w1",)),),
        frozen=(FrozenChannels("head", 5, "network output"),),
        tensors=tensors,
        weights={name: Tensor(name, "float32", shape) for name, shape in weights.items()},
        constants={},
        ops=(
            Op("conv", "Conv", ("x", "w1"), ("a",), {**same, "group": 1}),
            Op("relu", "Relu", ("a",), ("r",)),
            Op("depthwise", "Conv", ("r", "w2"), ("d",), {**same, "group": width}),
            Op("gate", "Sigmoid", ("d",), ("g",)),
            Op("product", "Mul", ("d", "g"), ("m",)),
            Op("sum", "Add", ("m", "r"), ("s",)),
            Op("pool", "GlobalAveragePool", ("s",), ("p",)),
            Op("flat", "Flatten", ("p",), ("f",), {"axis": 1}),
            Op("head", "Gemm", ("f", "w3", "b3"), ("y",), {"transB": 1}),
        ),
    )  # fmt: skip
