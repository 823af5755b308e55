"""What the fake `tensorrt` refuses, release by release: parser, builder, cache, runtime; and what it tells of engines."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
cuda_fake: Any = importlib.import_module("cuda_fake")
calls: Any = importlib.import_module("tensorrt_calls")

RELEASES = ("8.6", "10.3", "11")
REDUCE = [calls.node("ReduceMean", "x axes", "y", "mean")]
AXES = {"axes": np.array([2, 3])}
STRANGE = [calls.node("Mystery", "x", "a", "odd"), calls.node("Riddle", "a", "y", "odder")]


@pytest.fixture(params=RELEASES)
def trt(request: pytest.FixtureRequest) -> Any:
    return tensorrt_fake.make(request.param, cuda=cuda_fake.FakeCuda())


@pytest.fixture
def log(trt: Any) -> Any:
    return calls.Log(trt)


def conv(kind: int = TensorProto.FLOAT) -> bytes:
    dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    content: bytes = calls.model([calls.node("Conv", "x w1", "y", "conv1")], {"w1": calls.W1.astype(dtype)}, kind=kind)
    return content


def verdict(release: str, content: bytes) -> tuple[Any, Any]:
    trt = tensorrt_fake.make(release)
    _, _, parser = calls.parse(trt, calls.Log(trt), content)
    return trt, [parser.get_error(index) for index in range(parser.num_errors)]


@pytest.mark.parametrize(("release", "opset", "errors"), [("8.6", 17, 0), ("8.6", 18, 1), ("10.3", 20, 0), ("10.3", 21, 1)])
def test_parser_refuses_newer_opsets(release: str, opset: int, errors: int) -> None:
    trt, found = verdict(release, calls.model([calls.node("Relu", "x", "y", "relu")], {}, opset=opset))
    assert len(found) == errors
    for error in found:
        assert (error.node(), error.code()) == (0, trt.ErrorCode.UNSUPPORTED_NODE)
        assert f"opset {opset}" in error.desc()


def test_parser_takes_axes_as_inputs_from_10_on() -> None:
    content = calls.model(REDUCE, AXES, opset=18)
    # A file may claim an older opset than it uses.
    _, (error,) = verdict("8.6", content.replace(calls.opset_bytes(18), calls.opset_bytes(17)))
    assert "axes" in error.desc()
    assert not hasattr(error, "node_name")
    assert verdict("10.3", content)[1] == []
    assert verdict("11", content)[1] == []


def test_parser_names_the_nodes_it_does_not_know() -> None:
    content = calls.model(STRANGE, {})
    assert len(verdict("8.6", content)[1]) == 1  # stops at the first
    for release in ("10.3", "11"):
        _, found = verdict(release, content)
        assert [(error.node(), error.node_name(), error.node_operator()) for error in found] == [
            (0, "odd", "Mystery"),
            (1, "odder", "Riddle"),
        ]
        assert "odd and operator: Mystery" in str(found[0])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("zero_point", "taken"),
    [
        (np.int8(0), RELEASES),
        (np.int8(3), ()),
        (np.zeros(3, np.int8), RELEASES),
        (np.array([0, 0, 1], np.int8), ()),
        (np.uint8(128), ()),
        (np.uint8(0), ("11",)),
    ],
)
def test_parser_refuses_asymmetric_zero_points(release: str, zero_point: Any, taken: tuple[str, ...]) -> None:
    nodes, weights = calls.scaled(zero_point)
    _, found = verdict(release, calls.model(nodes, weights))
    assert bool(found) == (release not in taken)
    assert [error.node() for error in found] == [] or found[0].node() == 0


def test_parser_refuses_garbage_and_implicit_batch(trt: Any, log: Any) -> None:
    _, _, parser = calls.parse(trt, log, b"no model")
    error = parser.get_error(0)
    assert (error.code(), error.node()) == (trt.ErrorCode.MODEL_DESERIALIZE_FAILED, -1)
    assert "Failed to parse" in log.errors()
    builder = trt.Builder(log.logger)
    taken = trt.OnnxParser(builder.create_network(0), log.logger).parse(conv())
    assert taken == (trt._preset.name != "8.6")


def test_create_network_refuses_unknown_bits(trt: Any, log: Any) -> None:
    builder = trt.Builder(log.logger)
    assert builder.create_network(1 << 5) is None
    assert "0x20" in log.errors()
    # 1 << 2 is a flag of 11 only.
    assert (builder.create_network(1 << 2) is None) == (trt._preset.name != "11")


@pytest.mark.parametrize(
    ("release", "strong", "flags", "built"),
    [
        ("8.6", False, [], False),
        ("8.6", False, ["FP16"], True),
        ("10.3", False, [], False),
        ("10.3", False, ["FP16"], True),
        ("10.3", True, [], True),
        ("10.3", True, ["FP16"], False),
        ("11", True, [], True),
        ("11", False, [], True),
    ],
)
def test_half_precision_by_typing_and_flag(release: str, strong: bool, flags: list[str], built: bool) -> None:
    trt = tensorrt_fake.make(release)
    log = calls.Log(trt)
    found = calls.build(trt, log, conv(TensorProto.FLOAT16), strong=strong, flags=flags)
    assert (found is not None) == built
    assert ("fp16" in log.errors().lower()) != built


@pytest.mark.parametrize(("release", "flags", "built"), [("8.6", [], False), ("8.6", ["INT8"], True), ("11", [], True)])
def test_scales_need_the_int8_flag_before_11(release: str, flags: list[str], built: bool) -> None:
    trt = tensorrt_fake.make(release)
    log = calls.Log(trt)
    nodes, weights = calls.scaled(np.int8(0))
    assert (calls.build(trt, log, calls.model(nodes, weights), flags=flags) is not None) == built
    assert ("int8" in log.errors()) != built


def test_build_of_nothing_and_without_workspace(trt: Any, log: Any) -> None:
    builder = trt.Builder(log.logger)
    assert builder.build_serialized_network(calls.network(trt, builder), builder.create_builder_config()) is None
    assert "at least one output" in log.errors()
    builder, made, _ = calls.parse(trt, log, conv())
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 4 * 4 * 36 - 1)  # y is 4 x 6 x 6
    assert builder.build_serialized_network(made, config) is None
    assert "Could not find any implementation for node conv1" in log.errors()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 4 * 4 * 36)
    assert builder.build_serialized_network(made, config) is not None


def test_the_first_logger_is_the_one_in_use(trt: Any, log: Any) -> None:
    builder, later = trt.Builder(log.logger), calls.Log(trt)
    assert trt.Builder(later.logger).create_network(1 << 9) is None
    assert later.heard == []
    assert log.errors()
    del builder
    assert trt.Builder(later.logger).create_network(1 << 9) is None
    assert later.errors()


def test_timing_cache_of_another_device_or_version(trt: Any, log: Any) -> None:
    builder, made, _ = calls.parse(trt, log, conv())
    config = builder.create_builder_config()
    assert config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    assert builder.build_serialized_network(made, config)
    saved, timed = bytes(config.get_timing_cache().serialize()), trt._timed
    assert timed == 3  # convolution and two copies

    again = tensorrt_fake.make(trt._preset.name)
    listening = calls.Log(again)
    builder, made, _ = calls.parse(again, listening, conv())
    config = builder.create_builder_config()
    assert config.set_timing_cache(config.create_timing_cache(saved), ignore_mismatch=False)
    assert builder.build_serialized_network(made, config)
    assert again._timed == 0

    for other in (
        tensorrt_fake.make(trt._preset.name, device="Xavier", capability=(7, 2)),
        tensorrt_fake.make("8.6" if trt._preset.name == "11" else "11"),
    ):
        config = other.Builder(calls.Log(other).logger).create_builder_config()
        cache = config.create_timing_cache(saved)
        assert config.set_timing_cache(cache, ignore_mismatch=False) is False
        assert config.set_timing_cache(config.create_timing_cache(b"rubbish"), ignore_mismatch=False) is False
        assert config.set_timing_cache(cache, ignore_mismatch=True)


def test_deserialize_refuses_other_versions_devices_and_damage(trt: Any, log: Any) -> None:
    content = bytes(calls.build(trt, log, conv()))
    assert trt.Runtime(log.logger).deserialize_cuda_engine(content).num_layers == 3
    for other, words in (
        (tensorrt_fake.make("10.3" if trt._preset.name == "11" else "11"), "version tag does not match"),
        (tensorrt_fake.make(trt._preset.name, capability=(7, 2)), "incompatible device"),
    ):
        heard = calls.Log(other)
        assert other.Runtime(heard.logger).deserialize_cuda_engine(content) is None
        assert words in heard.errors()
    for damaged in (b"", b"nonsense", content[:-1], content[:20], content[:-1] + bytes([content[-1] ^ 1])):
        assert trt.Runtime(log.logger).deserialize_cuda_engine(damaged) is None


def information(trt: Any, log: Any, content: bytes, **settings: Any) -> Any:
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(calls.build(trt, log, content, **settings))
    return json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def test_inspector_maps_entries_to_onnx_nodes(trt: Any, log: Any) -> None:
    found = information(trt, log, calls.model(calls.RESIDUAL, calls.WEIGHTS))
    layers = {layer["Name"]: layer for layer in found["Layers"]}
    assert [layer["LayerType"] for layer in found["Layers"]] == [
        "Reformat",
        "CaskConvolution",
        "CaskConvolution",
        "Reformat",
    ]
    fused = layers["conv2 + add + relu2"]
    assert re.findall(r"\[ONNX Layer: (.*?)\]", fused["Metadata"]) == ["conv2", "add", "relu2"]
    assert ("\x1f" if trt._preset.name == "8.6" else "\x1e") in fused["Metadata"]
    first = fused["Inputs"][0]
    assert (first["Name"], first["Dimensions"]) == ("b", [1, 4, 8, 8])
    if trt._preset.name == "11":
        assert first["Datatype"] == "FP32"
        assert [(item["Name"], item["IOMode"]) for item in found["I/O Tensors"]] == [("x", "Input"), ("y", "Output")]
    else:
        assert first["Format/Datatype"].endswith("FP32 format")
        assert found["Bindings"] == ["x", "y"]


def test_inspector_gives_names_alone_unless_asked(trt: Any, log: Any) -> None:
    verbosity = trt.ProfilingVerbosity
    found = information(trt, log, conv(), profiling_verbosity=verbosity.LAYER_NAMES_ONLY)
    assert found["Layers"][1] == "conv1"
    assert information(trt, log, conv(), profiling_verbosity=verbosity.NONE)["Layers"] == []


def test_fusion_of_siblings_pointwise_and_regions(trt: Any, log: Any) -> None:
    weights = {"p": np.ones((8, 3, 1, 1), np.float32), "q": np.ones((4, 3, 1, 1), np.float32)}
    nodes = [
        calls.node("Conv", "x p", "a", "left"),
        calls.node("Relu", "a", "b", "relu"),
        calls.node("Conv", "x q", "c", "right"),
        calls.node("Concat", "b c", "d", "cat", axis=1),
        calls.node("Sigmoid", "d", "e", "sigmoid"),
        calls.node("Mul", "d e", "f", "mul"),
        calls.node("MatMul", "f f", "g", "matmul"),
        calls.node("Softmax", "g", "y", "softmax"),
    ]
    layers = information(trt, log, calls.model(nodes, weights))["Layers"]
    names = [layer["Name"] for layer in layers]
    region = "__myl_MatMSoft_myl0_6" if trt._preset.name == "11" else "{ForeignNode[matmul...softmax]}"
    assert names[1:] == ["left + relu || right", "cat", "PWN(PWN(sigmoid), mul)", region]
    assert layers[1]["Metadata"].count("[ONNX Layer: ") == 3


def test_scales_are_part_of_the_convolution(trt: Any, log: Any) -> None:
    nodes, weights = calls.scaled(np.int8(0))
    flags = ["INT8"] if hasattr(trt.BuilderFlag, "INT8") else []
    layers = information(trt, log, calls.model(nodes, weights), flags=flags)["Layers"]
    assert [layer["Name"] for layer in layers][:2] == ["quant", "conv1"]
    assert layers[1]["TacticName"].endswith("int8")


@pytest.mark.parametrize(
    ("release", "precision", "flags", "words"),
    [
        ("8.6", TensorProto.FLOAT16, ["FP16"], None),
        ("10.3", TensorProto.FLOAT, [], "GPU_FALLBACK is not set"),
        ("10.3", TensorProto.FLOAT, ["GPU_FALLBACK"], None),
        ("11", TensorProto.FLOAT16, [], "has none"),
    ],
)
def test_dla_where_there_is_one(release: str, precision: int, flags: list[str], words: str | None) -> None:
    trt = tensorrt_fake.make(release)
    log = calls.Log(trt)
    found = calls.build(trt, log, conv(precision), flags=flags, default_device_type=trt.DeviceType.DLA, DLA_core=0)
    assert (found is None) == (words is not None)
    assert (words or "") in log.errors()
    assert trt.Builder(log.logger).num_DLA_cores == (0 if release == "11" else 2)
