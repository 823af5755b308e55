"""What each TensorRT release has: enum values from its headers, members from its Python bindings, limits of its parser.

Numbers and names were read from the public headers and binding sources of releases 8.6, 10.3 and 11.1. Bits moved between
releases (``STRONGLY_TYPED`` took the place of ``EXPLICIT_BATCH``; ``REFIT`` was 5 and is 4), so code that writes a number
instead of a name fails here as it would there.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ENUMS", "MEMBERS", "PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """One release. ``separator`` stands between the ONNX layers in an entry's metadata."""

    name: str
    version: str
    max_opset: int | None
    all_errors: bool  # whether the parser goes on after the first node it refuses
    strong_only: bool
    separator: str
    dla_cores: int
    lists_io_tensors: bool  # inspector: "I/O Tensors" with objects instead of "Bindings" with names


PRESETS = {
    "8.6": Preset("8.6", "8.6.2", 17, False, False, "\x1f", 2, False),
    "10.3": Preset("10.3", "10.3.0", 20, True, False, "\x1e", 2, False),
    # The parser of TensorRT-RTX 1.7, of the same age, takes any opset number (tried with 99) and looks at the nodes.
    "11": Preset("11", "11.1.0", None, True, True, "\x1e", 0, True),
}

_SAME = ("8.6", "10.3", "11")


def _counted(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


_FLAGS_86 = _counted(
    "FP16", "INT8", "DEBUG", "GPU_FALLBACK", "STRICT_TYPES", "REFIT", "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS",
    "SAFETY_SCOPE", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "DIRECT_IO", "REJECT_EMPTY_ALGORITHMS",
    "ENABLE_TACTIC_HEURISTIC", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "FP8",
)  # fmt: skip
_FLAGS_103 = _counted(
    "FP16", "INT8", "DEBUG", "GPU_FALLBACK", "REFIT", "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS", "SAFETY_SCOPE",
    "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "DIRECT_IO", "REJECT_EMPTY_ALGORITHMS",
    "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "FP8", "ERROR_ON_TIMING_CACHE_MISS", "BF16", "DISABLE_COMPILATION_CACHE",
    "STRIP_PLAN", "REFIT_IDENTICAL", "WEIGHT_STREAMING", "INT4", "REFIT_INDIVIDUAL",
)  # fmt: skip
_FLAGS_11 = {
    "DEBUG": 2, "GPU_FALLBACK": 3, "REFIT": 4, "DISABLE_TIMING_CACHE": 5, "TF32": 6, "SPARSE_WEIGHTS": 7, "SAFETY_SCOPE": 8,
    "DIRECT_IO": 11, "VERSION_COMPATIBLE": 12, "EXCLUDE_LEAN_RUNTIME": 13, "ERROR_ON_TIMING_CACHE_MISS": 15,
    "DISABLE_COMPILATION_CACHE": 17, "STRIP_PLAN": 18, "REFIT_IDENTICAL": 19, "WEIGHT_STREAMING": 20, "REFIT_INDIVIDUAL": 22,
    "STRICT_NANS": 23, "MONITOR_MEMORY": 24, "EDITABLE_TIMING_CACHE": 26, "DISTRIBUTIVE_INDEPENDENCE": 27,
}  # fmt: skip
_TYPES_86 = _counted("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8")
_TYPES_103 = {**_TYPES_86, "BF16": 7, "INT64": 8, "INT4": 9}
_POOLS_86 = _counted("WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM", "TACTIC_DRAM")
_POOLS_103 = {**_POOLS_86, "TACTIC_SHARED_MEMORY": 5}
_ERRORS_86 = _counted(
    "SUCCESS", "INTERNAL_ERROR", "MEM_ALLOC_FAILED", "MODEL_DESERIALIZE_FAILED", "INVALID_VALUE", "INVALID_GRAPH",
    "INVALID_NODE", "UNSUPPORTED_GRAPH", "UNSUPPORTED_NODE",
)  # fmt: skip
_ERRORS_103 = {
    **_ERRORS_86,
    "UNSUPPORTED_NODE_ATTR": 9, "UNSUPPORTED_NODE_INPUT": 10, "UNSUPPORTED_NODE_DATATYPE": 11,
    "UNSUPPORTED_NODE_DYNAMIC": 12, "UNSUPPORTED_NODE_SHAPE": 13, "REFIT_FAILED": 14,
}  # fmt: skip
_VERBOSITY = _counted("LAYER_NAMES_ONLY", "NONE", "DETAILED")
_LAYERS = {
    "CONVOLUTION": 0, "ACTIVATION": 2, "POOLING": 3, "LRN": 4, "SCALE": 5, "SOFTMAX": 6, "DECONVOLUTION": 7,
    "CONCATENATION": 8, "ELEMENTWISE": 9, "UNARY": 11, "SHUFFLE": 13, "REDUCE": 14, "GATHER": 16, "MATRIX_MULTIPLY": 17,
    "CONSTANT": 19,
}  # fmt: skip
_LAYERS_86 = {
    **_LAYERS,
    "IDENTITY": 21, "SLICE": 23, "RESIZE": 26, "QUANTIZE": 33, "DEQUANTIZE": 34, "NORMALIZATION": 46, "CAST": 47,
    "TOPK": 15, "SHAPE": 24, "SELECT": 31, "FILL": 32, "SCATTER": 38, "EINSUM": 39,
}  # fmt: skip
_LAYERS_103 = {
    **_LAYERS,
    "IDENTITY": 20, "SLICE": 22, "RESIZE": 25, "QUANTIZE": 32, "DEQUANTIZE": 33, "NORMALIZATION": 45, "CAST": 1,
    "TOPK": 15, "SHAPE": 23, "SELECT": 30, "FILL": 31, "SCATTER": 37, "EINSUM": 38,
}  # fmt: skip
_HARDWARE = _counted("NONE", "AMPERE_PLUS")
_PARSER = {"NATIVE_INSTANCENORM": 0}


def _by_preset(first: dict[str, int], second: dict[str, int], third: dict[str, int]) -> dict[str, dict[str, int]]:
    return {"8.6": first, "10.3": second, "11": third}


def _always(values: dict[str, int]) -> dict[str, dict[str, int]]:
    return dict.fromkeys(_SAME, values)


ENUMS: dict[str, dict[str, dict[str, int]]] = {
    "BuilderFlag": _by_preset(_FLAGS_86, _FLAGS_103, _FLAGS_11),
    "NetworkDefinitionCreationFlag": _by_preset(
        {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1},
        {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
        {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2},
    ),
    "DataType": _by_preset(_TYPES_86, _TYPES_103, {**_TYPES_103, "FP4": 10, "E8M0": 11}),
    "TensorIOMode": _always(_counted("NONE", "INPUT", "OUTPUT")),
    "MemoryPoolType": _by_preset(_POOLS_86, _POOLS_103, _POOLS_103),
    "ProfilingVerbosity": _by_preset({**_VERBOSITY, "DEFAULT": 0, "VERBOSE": 2}, _VERBOSITY, _VERBOSITY),
    "LayerInformationFormat": _always(_counted("ONELINE", "JSON")),
    "DeviceType": _always(_counted("GPU", "DLA")),
    "TensorLocation": _always(_counted("DEVICE", "HOST")),
    "TensorFormat": _always(_counted("LINEAR", "CHW2", "HWC8", "CHW4", "CHW16", "CHW32")),
    "ErrorCode": _by_preset(_ERRORS_86, _ERRORS_103, _ERRORS_103),
    "OnnxParserFlag": _by_preset(
        _PARSER,
        _PARSER,
        {
            **_PARSER,
            "ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA": 1,
            "REPORT_CAPABILITY_DLA": 2,
            "ENABLE_PLUGIN_OVERRIDE": 3,
            "ADJUST_FOR_DLA": 4,
        },
    ),
    "HardwareCompatibilityLevel": _by_preset(_HARDWARE, _HARDWARE, {**_HARDWARE, "SAME_COMPUTE_CAPABILITY": 2}),
    "LayerType": _by_preset(_LAYERS_86, _LAYERS_103, _LAYERS_103),
}

_OLD, _WEAK, _NEW = ("8.6",), ("8.6", "10.3"), ("10.3", "11")

# Members that not every release has; a member of our classes that is not named here is in all of them.
MEMBERS: dict[str, dict[str, tuple[str, ...]]] = {
    "Builder": {
        "build_engine": _OLD,
        "max_batch_size": _OLD,
        "platform_has_fast_fp16": _WEAK,
        "platform_has_fast_int8": _WEAK,
        "platform_has_tf32": _WEAK,
    },
    "IBuilderConfig": {
        "max_workspace_size": _OLD,
        "min_timing_iterations": _OLD,
        "int8_calibrator": _WEAK,
        "algorithm_selector": _WEAK,
    },
    "INetworkDefinition": {"flags": _NEW, "get_flag": _NEW},
    "OnnxParser": {"supports_model": _WEAK, "supports_model_v2": _NEW},
    "ParserError": {
        "node_name": _NEW,
        "node_operator": _NEW,
        "local_function_stack": _NEW,
        "local_function_stack_size": _NEW,
    },
    "ITensor": {"dynamic_range": _WEAK, "set_dynamic_range": _WEAK, "reset_dynamic_range": _WEAK},
    "ILayer": {
        "precision": _WEAK,
        "precision_is_set": _WEAK,
        "reset_precision": _WEAK,
        "set_output_type": _WEAK,
        "reset_output_type": _WEAK,
        "output_type_is_set": _WEAK,
    },
    "ICudaEngine": {
        "device_memory_size": _WEAK,
        "device_memory_size_v2": _NEW,
        "num_bindings": _OLD,
        "max_batch_size": _OLD,
        "get_binding_name": _OLD,
        "get_binding_index": _OLD,
        "get_binding_shape": _OLD,
        "get_binding_dtype": _OLD,
        "binding_is_input": _OLD,
        "has_implicit_batch_dimension": _WEAK,
        "streamable_weights_size": _NEW,
    },
    "IExecutionContext": {
        "execute_async_v2": _OLD,
        "get_binding_shape": _OLD,
        "set_binding_shape": _OLD,
        "all_shape_inputs_specified": _WEAK,
    },
}
