"""The fake device's formula: how long a layer takes and what it draws. Small enough to work out by hand.

A layer is one kernel with its activation and residual sum fused in. It takes::

    time    = LAYER_MS + max(compute, memory)
    compute = macs / MACS_PER_MS[kind]            channels rounded up to the kernel's step (see ``padded``)
    memory  = bytes / BYTES_PER_MS                inputs, weights and output, each once

and draws ``COMPUTE_MW`` where compute is the longer of the two, else ``MEMORY_MW``; of that ``GPU_SHARE`` flows through the
rail ``FAKE_GPU`` and the rest through ``FAKE_DRAM``. A model takes::

    CALL_MS + time                                a lone layer
    CALL_MS + NETWORK_FACTOR * sum of times       several layers

and draws ``IDLE_MW`` during the call. So layers timed alone promise more than the network takes, as on real devices, where a
lone layer pays for layout changes at its edges. Channel steps make staircases, depthwise kernels are slow per operation, and
energy ranks layers differently from latency: everything that adapting has to cope with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BYTES_PER_MS",
    "CALL_MS",
    "COMPUTE_MW",
    "GPU_SHARE",
    "IDLE_MW",
    "LAYER_MS",
    "MACS_PER_MS",
    "MEMORY_MW",
    "NETWORK_FACTOR",
    "Kind",
    "LayerCost",
    "Work",
    "layer_cost",
    "model_cost",
    "padded",
]

Kind = Literal["dense", "depthwise", "other"]

CALL_MS = 0.005
LAYER_MS = 0.003
NETWORK_FACTOR = 0.8
MACS_PER_MS: dict[Kind, float] = {"dense": 20e6, "depthwise": 4e6, "other": 2e6}
BYTES_PER_MS = 10e6
COMPUTE_MW, MEMORY_MW, IDLE_MW = 5000.0, 3000.0, 1000.0
GPU_SHARE = {COMPUTE_MW: 0.8, MEMORY_MW: 0.4, IDLE_MW: 0.5}
_STEP: dict[Kind, int] = {"dense": 16, "depthwise": 8, "other": 1}
_IMAGE_CHANNELS = 4  # up to here an input is an image, for which kernels have a variant without rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a layer does: multiply-accumulates (of elements, for ``other``) with padded channels, and bytes moved."""

    kind: Kind
    macs: int
    bytes_moved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Milliseconds, millijoules, and how many of these came through the rail ``FAKE_GPU``."""

    latency_ms: float
    energy_mj: float
    gpu_mj: float


def padded(channels: int, kind: Kind) -> int:
    """Channels as the kernel computes them: the next multiple of 16 (dense) or 8 (depthwise); images stay as they are."""
    step = _STEP[kind]
    return channels if channels <= _IMAGE_CHANNELS and kind == "dense" else -(-channels // step) * step


def layer_cost(work: Work, *, speed: float = 1.0) -> LayerCost:
    """One layer; ``speed`` multiplies the arithmetic rate (2 for fp16)."""
    compute = work.macs / (MACS_PER_MS[work.kind] * speed)
    memory = work.bytes_moved / BYTES_PER_MS
    latency = LAYER_MS + max(compute, memory)
    power = COMPUTE_MW if compute >= memory else MEMORY_MW
    energy = latency * power / 1000
    return LayerCost(latency_ms=latency, energy_mj=energy, gpu_mj=energy * GPU_SHARE[power])


def model_cost(layers: Sequence[LayerCost]) -> LayerCost:
    """A whole model of these layers."""
    factor = 1.0 if len(layers) <= 1 else NETWORK_FACTOR
    call_mj = CALL_MS * IDLE_MW / 1000
    return LayerCost(
        latency_ms=CALL_MS + factor * sum(layer.latency_ms for layer in layers),
        energy_mj=call_mj + factor * sum(layer.energy_mj for layer in layers),
        gpu_mj=call_mj * GPU_SHARE[IDLE_MW] + factor * sum(layer.gpu_mj for layer in layers),
    )
