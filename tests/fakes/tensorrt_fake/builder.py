"""Builder, its configuration and the timing cache: from a network to the bytes of an engine, or None and a log line."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, ClassVar

from onnx import TensorProto

from .base import Base, Dims, RefusedError, host_memory
from .fusion import Entry, fuse, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

__all__ = ["MAGIC", "Builder", "IBuilderConfig", "IOptimizationProfile", "ITimingCache", "pack", "unpack"]

MAGIC = b"FTRT"
_DLA_OPS = ("Conv", "Relu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Clip", "Sigmoid", "Tanh")


def pack(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Magic, length of the header, header, checksum of the body, body."""
    text = json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(4, "little") + text + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(content: bytes) -> tuple[dict[str, Any], bytes] | None:
    """The reverse; None for anything that :func:`pack` did not write."""
    length = int.from_bytes(content[4:8], "little")
    if content[:4] != MAGIC or len(content) < 12 + length:
        return None
    body = content[12 + length :]
    if zlib.crc32(body) != int.from_bytes(content[8 + length : 12 + length], "little"):
        return None
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header, body


class IOptimizationProfile(Base):
    """Ranges of the sizes that a network leaves open."""

    extra_memory_target = 1.0

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        """Range of one input."""
        self._ranges[input] = (Dims(min), Dims(opt), Dims(max))

    def get_shape(self, input: str) -> list[Any]:
        """min, opt, max."""
        return list(self._ranges.get(input, ()))

    def __bool__(self) -> bool:
        return all(
            low <= middle <= high for ranges in self._ranges.values() for low, middle, high in zip(*ranges, strict=True)
        )


class ITimingCache(Base):
    """Times of tactics by layer signature, for one device and release."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._header = dict(header)

    def serialize(self) -> Any:
        """For a file."""
        return host_memory(self._trt, pack(self._header))

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Take over another cache's entries."""
        if self._header["made_for"] != input_cache._header["made_for"] and not ignore_mismatch:
            return False
        self._header["tactics"] = {**input_cache._header["tactics"], **self._header["tactics"]}
        return True

    def reset(self) -> bool:
        """Empty it."""
        self._header["tactics"] = {}
        return True


class IBuilderConfig(Base):
    """How to build."""

    _enums: ClassVar[dict[str, str]] = {
        "profiling_verbosity": "ProfilingVerbosity.LAYER_NAMES_ONLY",
        "default_device_type": "DeviceType.GPU",
        "hardware_compatibility_level": "HardwareCompatibilityLevel.NONE",
    }
    profiling_verbosity: Any = None
    default_device_type: Any = None
    hardware_compatibility_level: Any = None
    flags = 0
    DLA_core = -1
    avg_timing_iterations = 1
    min_timing_iterations = 1
    builder_optimization_level = 3
    max_aux_streams = -1
    max_workspace_size = 0
    int8_calibrator: Any = None
    algorithm_selector: Any = None
    profile_stream = 0

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._pools: dict[int, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self._devices: dict[str, Any] = {}
        self.flags = 1 << int(self._trt.BuilderFlag.TF32)

    def set_flag(self, flag: Any) -> None:
        """Set one."""
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        """Clear one."""
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        """Whether it is set."""
        return bool(self.flags >> int(flag) & 1)

    def _has(self, name: str) -> bool:
        flag = getattr(self._trt.BuilderFlag, name, None)
        return flag is not None and self.get_flag(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """Bytes."""
        self._pools[int(pool)] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        """Bytes; the whole memory unless set."""
        return self._pools.get(int(pool), int(self._trt._memory_bytes))

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Its index."""
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self) -> int:
        """Count."""
        return len(self._profiles)

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        """From a file's bytes; empty bytes make an empty cache."""
        content = bytes(memoryview(serialized_timing_cache))
        read = unpack(content) if content else ({"made_for": self._trt._made_for(), "tactics": {}}, b"")
        return self._trt.ITimingCache({"made_for": "nothing", "tactics": {}} if read is None else read[0])

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """False when it was made by another release or on another device."""
        if cache._header["made_for"] != self._trt._made_for() and not ignore_mismatch:
            self._trt._emit(self._logger, "WARNING", "The timing cache was made by another version or device: not used.")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        """With what the build added; None before there is one."""
        return self._cache

    def set_device_type(self, layer: Any, device_type: Any) -> None:
        """GPU or DLA for one layer."""
        self._devices[layer.name] = device_type

    def get_device_type(self, layer: Any) -> Any:
        """What it is set to."""
        return self._devices.get(layer.name, self.default_device_type)

    def is_device_type_set(self, layer: Any) -> bool:
        """Whether for itself."""
        return layer.name in self._devices

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802
        """Whether this release and device have a DLA that takes it."""
        kinds = ("CONVOLUTION", "ACTIVATION", "ELEMENTWISE", "POOLING", "CONCATENATION")
        return bool(self._trt._dla_cores) and layer.type.name in kinds

    def reset(self) -> None:
        """As new."""
        self.__init__(self._logger)  # type: ignore[misc]


class Builder(Base):
    """Makes networks, configurations and engines."""

    max_batch_size = 1
    max_threads = 1

    def __init__(self, logger: Any) -> None:
        self._logger = self._trt._register(self, logger)

    @property
    def logger(self) -> Any:
        """The one in use: the first that this process registered."""
        return self._logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        """0 where there is none."""
        return int(self._trt._dla_cores)

    @property
    def platform_has_fast_fp16(self) -> bool:
        """As on every board we name."""
        return True

    @property
    def platform_has_fast_int8(self) -> bool:
        """As on every board we name."""
        return True

    @property
    def platform_has_tf32(self) -> bool:
        """Since Ampere."""
        return bool(self._trt._capability >= (8, 0))

    def create_network(self, flags: int = 0) -> Any:
        """None for a bit that this release does not know."""
        known = max(int(flag) for flag in self._trt.NetworkDefinitionCreationFlag)
        if flags >= 1 << (known + 1) or flags < 0:
            self._trt._emit(self._logger, "ERROR", f"createNetworkV2: Error Code 3: API Usage Error (flags {flags:#x})")
            return None
        return self._trt.INetworkDefinition(self, flags)

    def create_builder_config(self) -> Any:
        """With TF32 on."""
        return self._trt.IBuilderConfig(self._logger)

    def create_optimization_profile(self) -> Any:
        """Empty."""
        return self._trt.IOptimizationProfile()

    def is_network_supported(self, network: Any, config: Any) -> bool:
        """Whether a build would succeed."""
        try:
            self._plan(network, config)
        except RefusedError:
            return False
        return True

    def build_engine(self, network: Any, config: Any) -> Any:
        """The old way."""
        built = self.build_serialized_network(network, config)
        return None if built is None else self._trt.Runtime(self._logger).deserialize_cuda_engine(built)

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        """Bytes of an engine; None with the reason in the log."""
        try:
            content = self._plan(network, config)
        except RefusedError as refused:
            self._trt._emit(self._logger, "ERROR", f"IBuilder::buildSerializedNetwork: {refused}")
            return None
        self._trt._builds += 1
        return host_memory(self._trt, content)

    def reset(self) -> None:
        """Nothing is kept."""

    def _plan(self, network: Any, config: Any) -> bytes:
        trt, model = self._trt, network._model
        if model is None or not network._outputs:
            raise RefusedError("Error Code 4: API Usage Error (Network must have at least one output.)")
        _check_types(network, config)
        shapes = shapes_of(model, dict(_shapes_to_time(network, config)))
        entries = fuse(model, shapes, newest=trt._preset.strong_only)
        on_dla = int(config.default_device_type) == int(trt.DeviceType.DLA)
        if on_dla:
            entries = _dla(trt, model, config, entries)
        limit = config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
        for entry in entries:
            need = max((shapes.size(entry.alias.get(name, name)) for name in entry.outputs), default=0)
            if entry.kind == "CaskConvolution" and need > limit:
                text = f"Could not find any implementation for node {entry.name}, {need} bytes of workspace are needed."
                raise RefusedError(f"Error Code 10: Internal Error ({text})")
        self._time(config, entries)
        alias = {inner: name for entry in entries for inner, name in entry.alias.items()}
        used = {name for entry in entries for name in (*entry.inputs, *entry.outputs)}
        outer = {value.name for value in (*model.graph.input, *model.graph.output)}
        header = {
            "made_for": trt._made_for(),
            "verbosity": config.profiling_verbosity.name,
            "entries": [entry.to_json() for entry in entries],
            "memory": max((shapes.size(alias.get(name, name)) for name in used - outer), default=0),
            "shapes": {name: list(shapes.shape.get(alias.get(name, name), ())) for name in sorted(used)},
            "refittable": config.get_flag(trt.BuilderFlag.REFIT),
            "profiles": [{name: list(map(list, r)) for name, r in p._ranges.items()} for p in config._profiles],
            "name": network.name,
        }
        return pack(header, model.SerializeToString())

    def _time(self, config: Any, entries: Sequence[Entry]) -> None:
        """Choose tactics: from the cache where it has the signature, else by timing, which the module counts."""
        trt = self._trt
        if config.get_flag(trt.BuilderFlag.DISABLE_TIMING_CACHE):
            trt._timed += len(entries)
            return
        if config._cache is None:
            config._cache = config.create_timing_cache(b"")
        known = config._cache._header["tactics"]
        for entry in entries:
            text = f"{entry.kind} {entry.ops} {entry.macs} {entry.bytes_moved} {entry.precision}"
            signature = hashlib.sha256(text.encode()).hexdigest()[:16]
            if signature not in known:
                trt._timed += 1
                known[signature] = entry.ms


def _shapes_to_time(network: Any, config: Any) -> Iterator[tuple[str, Sequence[int]]]:
    """Every input at the size tactics are chosen for."""
    for tensor in network._inputs:
        if -1 not in tensor.shape:
            yield tensor.name, tensor.shape
        elif not config._profiles:
            text = "Network has dynamic or shape inputs, but no optimization profile has been defined."
            raise RefusedError(f"Error Code 4: API Usage Error ({text})")
        elif tensor.name not in config._profiles[0]._ranges:
            raise RefusedError(f"Error Code 4: API Usage Error (input {tensor.name} is not in the optimization profile)")
        else:
            yield tensor.name, config._profiles[0]._ranges[tensor.name][1]


def _check_types(network: Any, config: Any) -> None:
    """Half types and scales need builder flags where the network is weakly typed, and forbid them where it is not."""
    graph = network._model.graph
    values = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    kinds = {*values, *(item.data_type for item in graph.initializer)}
    half = TensorProto.FLOAT16 in kinds or any(_casts_to_half(node) for node in graph.node)
    scaled = any(node.op_type == "QuantizeLinear" for node in graph.node)
    if network._strong:
        for name in ("FP16", "INT8"):
            if config._has(name):
                raise RefusedError(f"Error Code 3: API Usage Error ({name} is set, but the network is strongly typed)")
        return
    if half and not config._has("FP16"):
        raise RefusedError(
            "Error Code 4: Internal Error (fp16 is asked for by a layer or its output, but not set in the builder)"
        )
    if scaled and not config._has("INT8"):
        raise RefusedError(
            "Error Code 4: Internal Error (int8 is asked for by a layer or its output, but not set in the builder)"
        )


def _casts_to_half(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == TensorProto.FLOAT16 for item in node.attribute)


def _dla(trt: Any, model: onnx.ModelProto, config: Any, entries: list[Entry]) -> list[Entry]:
    """What DLA takes becomes one region, the rest stays on the GPU where that is allowed."""
    if not trt._dla_cores:
        raise RefusedError("Error Code 3: API Usage Error (DLA is asked for, but this device or version has none)")
    if config.DLA_core >= trt._dla_cores:
        raise RefusedError(f"Error Code 3: API Usage Error (DLA core {config.DLA_core} of {trt._dla_cores})")
    if trt._preset.name == "8.6" and any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise RefusedError("Error Code 4: API Usage Error (QuantizeLinear is not supported on DLA)")
    fits = [entry for entry in entries if set(entry.ops) <= set(_DLA_OPS) and entry.ops and entry.precision != "FP32"]
    others = [entry for entry in entries if entry not in fits and entry.ops]
    if others and not config.get_flag(trt.BuilderFlag.GPU_FALLBACK):
        raise RefusedError(f"Error Code 4: API Usage Error ({others[0].name} cannot run on DLA and GPU_FALLBACK is not set)")
    if not fits:
        return entries
    layers = [name for entry in fits for name in entry.layers]
    region = Entry(
        name=f"{{ForeignNode[{layers[0]}...{layers[-1]}]}}",
        kind="DLA",
        layers=layers,
        ops=[op for entry in fits for op in entry.ops],
        inputs=fits[0].inputs,
        outputs=fits[-1].outputs,
        precision=fits[0].precision,
        ms=4 * sum(entry.ms for entry in fits),
    )
    return [region, *(entry for entry in entries if entry not in fits)]
