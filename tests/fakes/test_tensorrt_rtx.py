"""The fake of release 11 beside a real relative of it: TensorRT-RTX, which parses without a GPU."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
calls: Any = importlib.import_module("tensorrt_calls")
rtx: Any = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")

# What TensorRT-RTX lacks although TensorRT 11 has it.
LACKING = {
    "ITensor": {"location"},
    "INetworkDefinition": {"has_implicit_batch_dimension"},
    "NetworkDefinitionCreationFlag": {"PREFER_AOT_PYTHON_PLUGINS", "PREFER_JIT_PYTHON_PLUGINS"},
}


def test_the_fake_has_no_member_that_the_real_one_lacks() -> None:
    trt = tensorrt_fake.make("11")
    holders = [name for name, value in vars(trt).items() if isinstance(value, type) and hasattr(rtx, name)]
    assert len(holders) > 25
    for holder in holders:
        mine = {name for name in dir(getattr(trt, holder)) if not name.startswith("_")}
        unknown = mine - set(dir(getattr(rtx, holder))) - {"name", "value"} - set(dir(tuple))
        assert unknown == LACKING.get(holder, set()), holder


def models() -> dict[str, bytes]:
    axes = {"axes": np.array([2, 3])}
    points = {"zero": np.int8(0), "off zero": np.int8(1), "unsigned zero": np.uint8(0), "unsigned": np.uint8(128)}
    relu = calls.model([calls.node("Relu", "x", "y", "relu")], {})
    assert calls.opset_bytes(17) in relu
    made = {
        "residual": calls.model(calls.RESIDUAL, calls.WEIGHTS),
        "opset 99": relu.replace(calls.opset_bytes(17), calls.opset_bytes(99)),
        "axes": calls.model([calls.node("ReduceMean", "x axes", "y", "mean")], axes, opset=18),
        "unknown": calls.model([calls.node("Mystery", "x", "a", "odd"), calls.node("Riddle", "a", "y", "odder")], {}),
        "garbage": b"garbage",
        "dynamic": calls.model([calls.node("Relu", "x", "y", "relu")], {}, size="s"),
    }
    return made | {name: calls.model(*calls.scaled(point)) for name, point in points.items()}


@pytest.mark.parametrize("name", models())
def test_the_parsers_agree(name: str) -> None:
    content = models()[name]
    found = []
    for trt in (tensorrt_fake.make("11"), rtx):
        log = calls.Log(trt)
        builder = trt.Builder(log.logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log.logger)
        taken = parser.parse(content)
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        places = [(error.node(), error.node_name(), error.node_operator()) for error in errors]
        found.append((taken, places))
    assert found[0] == found[1]


def test_the_builders_agree_on_what_cannot_be() -> None:
    for trt in (tensorrt_fake.make("11"), rtx):
        log = calls.Log(trt)
        builder = trt.Builder(log.logger)
        assert builder.create_network(1 << 9) is None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = builder.create_builder_config()
        assert builder.build_serialized_network(builder.create_network(0), config) is None
        assert config.get_flag(trt.BuilderFlag.TF32)
        assert config.profiling_verbosity.name == "LAYER_NAMES_ONLY"
        with pytest.raises(AttributeError):
            config.max_workspace_size = 1
        with pytest.raises(TypeError):
            config.profiling_verbosity = 2
        with pytest.raises(TypeError):
            1 << trt.BuilderFlag.TF32
