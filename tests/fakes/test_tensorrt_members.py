"""The fake `tensorrt` has what each release has, and nothing else. The tables here are written from the documentation of the
releases, apart from those of the fake."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")

RELEASES = ("8.6", "10.3", "11")

# member -> in 8.6, in 10.3, in 11
TABLE = """
NetworkDefinitionCreationFlag.EXPLICIT_BATCH       yes yes no
NetworkDefinitionCreationFlag.STRONGLY_TYPED       no  yes yes
BuilderFlag.FP16                                   yes yes no
BuilderFlag.INT8                                   yes yes no
BuilderFlag.FP8                                    yes yes no
BuilderFlag.BF16                                   no  yes no
BuilderFlag.INT4                                   no  yes no
BuilderFlag.FP4                                    no  no  no
BuilderFlag.OBEY_PRECISION_CONSTRAINTS             yes yes no
BuilderFlag.PREFER_PRECISION_CONSTRAINTS           yes yes no
BuilderFlag.REJECT_EMPTY_ALGORITHMS                yes yes no
BuilderFlag.STRICT_TYPES                           yes no  no
BuilderFlag.ENABLE_TACTIC_HEURISTIC                yes no  no
BuilderFlag.TF32                                   yes yes yes
BuilderFlag.GPU_FALLBACK                           yes yes yes
BuilderFlag.REFIT                                  yes yes yes
BuilderFlag.DISABLE_TIMING_CACHE                   yes yes yes
BuilderFlag.SPARSE_WEIGHTS                         yes yes yes
BuilderFlag.DEBUG                                  yes yes yes
BuilderFlag.SAFETY_SCOPE                           yes yes yes
BuilderFlag.VERSION_COMPATIBLE                     yes yes yes
BuilderFlag.EXCLUDE_LEAN_RUNTIME                   yes yes yes
BuilderFlag.ERROR_ON_TIMING_CACHE_MISS             no  yes yes
BuilderFlag.STRIP_PLAN                             no  yes yes
BuilderFlag.REFIT_IDENTICAL                        no  yes yes
BuilderFlag.WEIGHT_STREAMING                       no  yes yes
BuilderFlag.EDITABLE_TIMING_CACHE                  no  no  yes
BuilderFlag.STRICT_NANS                            no  no  yes
BuilderFlag.MONITOR_MEMORY                         no  no  yes
BuilderFlag.DISTRIBUTIVE_INDEPENDENCE              no  no  yes
IBuilderConfig.max_workspace_size                  yes no  no
IBuilderConfig.set_memory_pool_limit               yes yes yes
IBuilderConfig.int8_calibrator                     yes yes no
IBuilderConfig.builder_optimization_level          yes yes yes
IBuilderConfig.hardware_compatibility_level        yes yes yes
IBuilderConfig.max_aux_streams                     yes yes yes
IBuilderConfig.avg_timing_iterations               yes yes yes
IBuilderConfig.profiling_verbosity                 yes yes yes
IBuilderConfig.create_timing_cache                 yes yes yes
IBuilderConfig.set_timing_cache                    yes yes yes
IBuilderConfig.get_timing_cache                    yes yes yes
IBuilderConfig.default_device_type                 yes yes yes
IBuilderConfig.set_device_type                     yes yes yes
IBuilderConfig.can_run_on_DLA                      yes yes yes
IBuilderConfig.DLA_core                            yes yes yes
Builder.build_serialized_network                   yes yes yes
Builder.build_engine                               yes no  no
Builder.max_batch_size                             yes no  no
Builder.platform_has_fast_fp16                     yes yes no
Builder.platform_has_fast_int8                     yes yes no
Builder.num_DLA_cores                              yes yes yes
Builder.create_optimization_profile                yes yes yes
ICudaEngine.num_io_tensors                         yes yes yes
ICudaEngine.get_tensor_name                        yes yes yes
ICudaEngine.get_tensor_mode                        yes yes yes
ICudaEngine.get_tensor_shape                       yes yes yes
ICudaEngine.get_tensor_dtype                       yes yes yes
ICudaEngine.num_bindings                           yes no  no
ICudaEngine.get_binding_name                       yes no  no
ICudaEngine.get_binding_shape                      yes no  no
ICudaEngine.binding_is_input                       yes no  no
ICudaEngine.max_batch_size                         yes no  no
ICudaEngine.device_memory_size                     yes yes no
ICudaEngine.device_memory_size_v2                  no  yes yes
ICudaEngine.create_engine_inspector                yes yes yes
IExecutionContext.set_input_shape                  yes yes yes
IExecutionContext.set_tensor_address               yes yes yes
IExecutionContext.execute_async_v3                 yes yes yes
IExecutionContext.execute_async_v2                 yes no  no
IExecutionContext.enqueue_emits_profile            yes yes yes
IExecutionContext.report_to_profiler               yes yes yes
IExecutionContext.profiler                         yes yes yes
ITensor.dynamic_range                              yes yes no
ILayer.precision                                   yes yes no
ILayer.set_output_type                             yes yes no
ILayer.metadata                                    yes yes yes
OnnxParser.parse                                   yes yes yes
OnnxParser.parse_from_file                         yes yes yes
OnnxParser.num_errors                              yes yes yes
OnnxParser.get_error                               yes yes yes
OnnxParser.supports_model                          yes yes no
OnnxParser.set_flag                                yes yes yes
OnnxParserFlag.NATIVE_INSTANCENORM                 yes yes yes
ParserError.desc                                   yes yes yes
ParserError.node                                   yes yes yes
ParserError.node_name                              no  yes yes
ParserError.node_operator                          no  yes yes
ProfilingVerbosity.LAYER_NAMES_ONLY                yes yes yes
ProfilingVerbosity.DETAILED                        yes yes yes
ProfilingVerbosity.NONE                            yes yes yes
ProfilingVerbosity.DEFAULT                         yes no  no
ProfilingVerbosity.VERBOSE                         yes no  no
DataType.FLOAT                                     yes yes yes
DataType.HALF                                      yes yes yes
DataType.INT8                                      yes yes yes
DataType.INT32                                     yes yes yes
DataType.BOOL                                      yes yes yes
DataType.UINT8                                     yes yes yes
DataType.FP8                                       yes yes yes
DataType.BF16                                      no  yes yes
DataType.INT64                                     no  yes yes
DataType.INT4                                      no  yes yes
DataType.FP4                                       no  no  yes
HardwareCompatibilityLevel.AMPERE_PLUS             yes yes yes
HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY no  no  yes
MemoryPoolType.WORKSPACE                           yes yes yes
Runtime.deserialize_cuda_engine                    yes yes yes
EngineInspector.get_engine_information             yes yes yes
ITimingCache.serialize                             yes yes yes
IHostMemory.nbytes                                 yes yes yes
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]

# What the enums hold beyond the table: read from the headers of the releases.
OTHERS = {
    "NetworkDefinitionCreationFlag": {"EXPLICIT_PRECISION", "PREFER_JIT_PYTHON_PLUGINS", "PREFER_AOT_PYTHON_PLUGINS"},
    "BuilderFlag": {"DIRECT_IO", "DISABLE_COMPILATION_CACHE", "REFIT_INDIVIDUAL"},
    "DataType": {"E8M0"},
    "ProfilingVerbosity": set[str](),
    "HardwareCompatibilityLevel": {"NONE"},
}


@pytest.fixture(params=RELEASES)
def trt(request: pytest.FixtureRequest) -> Any:
    return tensorrt_fake.make(request.param)


def _forget(self: object) -> None:
    """An ``__init__`` that leaves out the base's."""


@pytest.mark.parametrize("release", RELEASES)
def test_members_are_those_of_the_release(release: str) -> None:
    trt = tensorrt_fake.make(release)
    column = 1 + RELEASES.index(release)
    wrong = []
    for row in ROWS:
        holder, member = row[0].split(".")
        if hasattr(getattr(trt, holder), member) != (row[column] == "yes"):
            wrong.append(row[0])
    assert not wrong


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("enum", OTHERS)
def test_enums_hold_nothing_else(release: str, enum: str) -> None:
    column = 1 + RELEASES.index(release)
    listed = {row[0].split(".")[1] for row in ROWS if row[0].startswith(f"{enum}.") and row[column] == "yes"}
    assert listed <= set(getattr(tensorrt_fake.make(release), enum).__members__) <= listed | OTHERS[enum]


# Bits and numbers that moved between the releases: what a literal in the code would hit.
@pytest.mark.parametrize(
    ("release", "enum", "member", "number"),
    [
        ("8.6", "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", 0),
        ("10.3", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED", 1),
        ("11", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED", 0),
        ("8.6", "BuilderFlag", "REFIT", 5),
        ("10.3", "BuilderFlag", "REFIT", 4),
        ("8.6", "BuilderFlag", "TF32", 7),
        ("10.3", "BuilderFlag", "TF32", 6),
        ("11", "BuilderFlag", "TF32", 6),
        ("10.3", "BuilderFlag", "STRIP_PLAN", 19),
        ("11", "BuilderFlag", "STRIP_PLAN", 18),
    ],
)
def test_numbers_are_those_of_the_release(release: str, enum: str, member: str, number: int) -> None:
    assert int(getattr(getattr(tensorrt_fake.make(release), enum), member)) == number


def test_missing_members_raise_as_a_binding_does(trt: Any) -> None:
    with pytest.raises(AttributeError):
        trt.BuilderFlag.FP99  # noqa: B018
    with pytest.raises(AttributeError):
        trt.NoSuchClass  # noqa: B018
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(AttributeError, match=r"'tensorrt.tensorrt.IBuilderConfig' object has no attribute 'no_such'"):
        config.no_such = 1
    with pytest.raises(TypeError):
        config.profiling_verbosity = 2


def test_enums_are_no_numbers(trt: Any) -> None:
    assert int(trt.BuilderFlag.DEBUG) == 2
    assert trt.BuilderFlag.DEBUG != 2
    with pytest.raises(TypeError):
        1 << trt.BuilderFlag.DEBUG
    assert str(trt.DataType.FLOAT) == "DataType.FLOAT"
    assert trt.float32 is trt.DataType.FLOAT


def test_overriding_without_the_base_constructor_is_refused(trt: Any) -> None:
    for base in (trt.IProfiler, trt.ILogger):
        forgetful = type("Forgetful", (base,), {"__init__": _forget})
        with pytest.raises(TypeError, match=rf"{base.__name__}.__init__\(\) must be called"):
            forgetful()
        assert type("Careful", (base,), {})()


def test_host_memory_is_read_through_a_memoryview(trt: Any) -> None:
    base = importlib.import_module("tensorrt_fake.base")
    memory = base.host_memory(trt, b"engine")
    assert (bytes(memory), bytes(memoryview(memory)), memory.nbytes) == (b"engine", b"engine", 6)
    assert isinstance(memory, trt.IHostMemory)
    with pytest.raises(TypeError):
        len(memory)


def test_nptype_knows_what_numpy_has(trt: Any) -> None:
    assert trt.nptype(trt.DataType.HALF).__name__ == "float16"
    with pytest.raises(TypeError):
        trt.nptype(trt.DataType.FP8)


def test_install_is_found_by_import(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = tensorrt_fake.install(monkeypatch, "8.6")
    assert importlib.import_module("tensorrt") is trt
    assert importlib.util.find_spec("tensorrt") is not None
    assert trt.__version__ == "8.6.2"
