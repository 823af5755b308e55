"""From ONNX bytes to an engine: parse, configure, build. What differs between TensorRT versions is asked for, not assumed.

Bits and flags were moved and reused between versions, so only names are used here. The precision is the file's: where a
network can be strongly typed it is; before that (8.x) the builder flags of the types that the file has are set.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import Engine
from netadapt_trt.errors import BackendError

from .model import ModelFacts, model_facts
from .timing_cache import TimingCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .log import Log

__all__ = ["BuildSettings", "build_engine"]

_TIMING_ITERATIONS = 8  # as trtexec: one timing per kernel, the default, chooses another kernel every few builds
_MOST_ERRORS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """``tf32``: fp32 convolutions may use it. ``dla_core``: None is the GPU. ``timing_cache``: None keeps none.

    ``configure`` gets the builder's configuration last, for what one edition of TensorRT has alone.
    """

    tf32: bool = True
    dla_core: int | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    configure: Callable[[Any], None] | None = None
    record: dict[str, Any] = field(default_factory=dict)


def build_engine(trt: Any, log: Log, model: bytes, settings: BuildSettings) -> Engine:
    """Build ``model``; ``details`` say how.

    Raises:
        BackendError: not ONNX, an operator or type that this TensorRT refuses (all of them named), a size left open, or a
            build that fails (with what TensorRT said).
    """
    facts = model_facts(model)
    begin = time.perf_counter()
    log.clear()
    builder = trt.Builder(log.logger)
    strong = _strongly_typed(trt, settings)
    network = builder.create_network(_network_flags(trt, strong))
    if network is None:
        raise BackendError(f"TensorRT {trt.__version__} makes no network: {log.reason()}")
    parser = trt.OnnxParser(network, log.logger)  # must live as long as the network: weights stay in its memory
    _set_parser_flags(trt, parser)
    if not parser.parse(model):
        raise BackendError(f"TensorRT {trt.__version__} refuses the model: {_parser_errors(parser, facts, log)}")
    _require_fixed_sizes(network)
    config = builder.create_builder_config()
    flags = _configure(trt, config, facts, settings, strong=strong)
    if settings.dla_core is not None:
        _use_dla(trt, builder, config, settings.dla_core)
    if settings.configure is not None:
        settings.configure(config)
    cache = None if settings.timing_cache is None else TimingCache(settings.timing_cache)
    if cache is not None:
        cache.attach(config, log)
    log.clear()
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise BackendError(f"TensorRT {trt.__version__} cannot build the model: {log.reason()}{_memory_hint(log)}")
    if cache is not None:
        cache.save(config)
    content = bytes(memoryview(built))
    return Engine(
        content=content,
        details={
            "engine_size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "build_seconds": round(time.perf_counter() - begin, 3),
            "typing": "strong" if strong else "weak",
            "builder_flags": flags,
            "model_precision": facts.precision,
            "tf32": settings.tf32,
            "timing_cache": None if cache is None else cache.state,
            "notices": [] if cache is None else cache.notices,
            **settings.record,
        },
    )


def _strongly_typed(trt: Any, settings: BuildSettings) -> bool:
    """Wherever it can be asked for; a DLA gets the builder flags that its documentation asks for, where they still exist."""
    exists = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    weak = hasattr(trt.BuilderFlag, "FP16")
    return exists and not (settings.dla_core is not None and weak)


def _network_flags(trt: Any, strong: bool) -> int:
    names = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if strong else [])]
    members = (getattr(trt.NetworkDefinitionCreationFlag, name, None) for name in names)
    return sum(1 << int(member) for member in members if member is not None)


def _set_parser_flags(trt: Any, parser: Any) -> None:
    """TensorRT's own instance normalisation: the default since 10; before it is a plugin."""
    flag = getattr(getattr(trt, "OnnxParserFlag", None), "NATIVE_INSTANCENORM", None)
    if flag is not None:
        parser.set_flag(flag)


def _configure(trt: Any, config: Any, facts: ModelFacts, settings: BuildSettings, *, strong: bool) -> list[str]:
    """Set what every build needs; the names of the precision flags that were set."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.avg_timing_iterations = _TIMING_ITERATIONS
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if hasattr(config, "max_aux_streams"):
        # One stream: the entries' times of the profile then add up, and the capture of a graph has no branches.
        config.max_aux_streams = 0
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    wanted = [] if strong else [*(["FP16"] if facts.half else []), *(["INT8"] if facts.quantised else [])]
    if settings.dla_core is not None and not strong and "FP16" not in wanted:
        wanted.append("FP16")  # what a DLA does not compute in int8
    present = [name for name in wanted if hasattr(trt.BuilderFlag, name)]
    for name in present:
        config.set_flag(getattr(trt.BuilderFlag, name))
    return present


def _use_dla(trt: Any, builder: Any, config: Any, core: int) -> None:
    kind, cores = getattr(getattr(trt, "DeviceType", None), "DLA", None), int(getattr(builder, "num_DLA_cores", 0))
    if kind is None or not cores:
        raise BackendError(
            f"this TensorRT ({trt.__version__}) offers no DLA on this device. Releases 10.8 to 10.16 and 11.0 to 11.3 have "
            "none, nor do Nano, TX2, Orin Nano and Thor; build for the GPU (NETADAPT_TRT_DEVICE=gpu)"
        )
    if core >= cores:
        raise BackendError(f"DLA core {core} is asked for, this device has {cores}, counted from 0")
    config.default_device_type = kind
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _require_fixed_sizes(network: Any) -> None:
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if any(size < 1 for size in shape):
            raise BackendError(f"{tensor.name!r} has no fixed size {shape}; export the model with fixed input sizes")


def _parser_errors(parser: Any, facts: ModelFacts, log: Log) -> str:
    """All errors, each with the node that caused it. Before 10 an error knows only the node's number."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        number = int(error.node())
        name, op_type = facts.nodes[number] if 0 <= number < len(facts.nodes) else ("", "")
        op_type = (error.node_operator() if hasattr(error, "node_operator") else "") or op_type
        name = (error.node_name() if hasattr(error, "node_name") else "") or name
        where = f"{op_type} {name!r}: " if op_type else ""
        found.append(f"{where}{' '.join(str(error.desc()).split())}")
    found = list(dict.fromkeys(found))
    more = f"; and {len(found) - _MOST_ERRORS} more" if len(found) > _MOST_ERRORS else ""
    return "; ".join(found[:_MOST_ERRORS]) + more if found else log.reason()


def _memory_hint(log: Log) -> str:
    text = " ".join(log.errors()).lower()
    if "memory" in text or "workspace" in text:
        return "; end other processes that use the GPU's memory, or take a smaller batch or input"
    return ""
