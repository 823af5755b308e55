"""The seam a runtime implements, and how one is found.

A backend is a class in the entry-point group ``netadapt_trt.backends``; its entry-point name, the ``--backend`` value and
the LUT file prefix are the same word. A backend executes a model *once* when asked to; warm-up, repetition and statistics
live in :mod:`netadapt_trt.measure`, so that every runtime is timed the same way.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from netadapt_trt.errors import BackendError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import numpy as np

    from netadapt_trt.plan.schema import Layer, Plan, Widths
    from netadapt_trt.spec import EnergyStats, Identity, Placement, Precision

__all__ = [
    "Affinity",
    "Attribution",
    "Backend",
    "CompileOptions",
    "DetailedExecutable",
    "EdgeTime",
    "Engine",
    "EngineBackend",
    "Executable",
    "LayerTime",
    "PatientExecutable",
    "PlacedBackend",
    "ProfiledExecutable",
    "backend_names",
    "load_backend",
]

GROUP = "netadapt_trt.backends"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """How to prepare a model. ``threads`` is explicit, never the runtime's own guess."""

    precision: Precision = "fp32"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Affinity:
    """How well a backend suits this machine: -1 cannot run, 0 only on request, 1 runs, 2 preferred; and why."""

    score: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a runtime that compiles ahead of time made of a model, for one device and one version of that runtime.

    ``details`` are plain JSON values: sizes, seconds, how it was built, ``sha256`` of ``content``.
    """

    content: bytes
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One layer's share of a whole network's run. ``region``: other layers' keys that ran in one piece with it.

    Where ``region`` is not empty the time is a share by multiply-accumulates, not a measurement of this layer.
    """

    layer: Layer
    latency_ms: float
    region: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTime:
    """Copies between two layers that want a tensor in different formats. None: the network's own input or output."""

    producer: Layer | None
    consumer: Layer | None
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Where the time of a network's run went. ``total_ms`` is the sum of all entries of the profile, which slows the run:
    use shares of it, and take the network's latency from a run without profile. ``mapped_share`` is what layers and edges
    explain of it, ``unmapped`` the names of the other entries. ``run_ms`` is a profiled run by the wall clock, where it was
    taken: what it is longer than ``total_ms`` passes between the entries. ``runs``: how many were profiled, where they were
    not as many as asked for.
    """

    layers: tuple[LayerTime, ...]
    edges: tuple[EdgeTime, ...]
    total_ms: float
    mapped_share: float
    unmapped: tuple[str, ...] = ()
    run_ms: float | None = None
    runs: int | None = None


@runtime_checkable
class Executable(Protocol):
    """A model made ready to run, with its buffers bound. A context manager: leaving it frees the runtime's memory."""

    def run(self) -> None:
        """Execute once, on the bound inputs, and wait until it has finished. Raises BackendError."""

    def elapsed_ms(self) -> float | None:
        """Device time of the last :meth:`run` where the runtime has its own clock; None: wall clock counts."""

    def energy_mj(self) -> EnergyStats | None:
        """Energy of the last :meth:`run` where the backend knows it without a power source (the fake one does)."""

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for these inputs. Raises BackendError."""

    def __enter__(self) -> Executable: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class DetailedExecutable(Executable, Protocol):
    """An executable that knows more than its time. Optional: ask with ``isinstance``."""

    def details(self) -> dict[str, Any]:
        """Plain JSON values: sizes in bytes (``engine_size_bytes``, ``device_memory_bytes``), how it was built and runs."""

    def host_elapsed_ms(self) -> float | None:
        """Wall time of the last :meth:`run`, from before it was enqueued until it was seen to end; None before the first."""


@runtime_checkable
class PatientExecutable(Executable, Protocol):
    """An executable that can wait for its device without keeping a processor busy. Optional: ask with ``isinstance``.

    Spinning gives the exact latency, and costs power that has nothing to do with the network: energy is measured asleep.
    """

    def wait_asleep(self, asleep: bool) -> None:
        """How each following :meth:`run` waits. Spinning is the default."""


@runtime_checkable
class ProfiledExecutable(Executable, Protocol):
    """An executable whose runtime says which part of a network took how long. Optional: ask with ``isinstance``."""

    def attribute(self, plan: Plan, layers: Sequence[Layer], widths: Widths, *, runs: int = 20) -> Attribution:
        """Mean times of ``runs`` profiled runs of a network that :func:`~netadapt_trt.plan.write.write_network` wrote."""


class Backend(Protocol):
    """One runtime. Constructing it imports nothing heavy; that happens on first use."""

    name: str

    def affinity(self) -> Affinity:
        """Whether it can run here. Never raises."""

    def precisions(self) -> tuple[Precision, ...]:
        """What :meth:`compile` takes."""

    def identity(self, *, precision: Precision, batch: int, threads: int) -> Identity:
        """The conditions a measurement here would have. Raises BackendError when the runtime is not here."""

    def default_threads(self) -> int:
        """Physical cores for a CPU runtime, 1 where threads mean nothing."""

    def opset(self) -> tuple[int, int]:
        """(opset, IR version) that models for this runtime are written with."""

    def partition(self, plan: Plan) -> list[Layer]:
        """Which ops this runtime executes as one layer. Pure: needs no runtime, no device.

        Every op that costs time belongs to exactly one layer; the others (reshapes without a copy, ...) to none.
        """

    def compile(self, model: bytes, options: CompileOptions) -> Executable:
        """Make a serialised ONNX model ready, random inputs bound.

        Raises:
            BackendError: the precision or the model is refused; the message names op or reason.
        """


@runtime_checkable
class EngineBackend(Protocol):
    """A backend that compiles ahead of time into a file. Optional: ask with ``isinstance``."""

    def build(self, model: bytes, options: CompileOptions) -> Engine:
        """The engine of a serialised ONNX model. Raises BackendError as ``compile`` does."""

    def open_engine(self, content: bytes, options: CompileOptions) -> Executable:
        """An engine made ready to run, random inputs bound.

        Raises:
            BackendError: it is damaged, or was built for another device or another version of the runtime.
        """


@runtime_checkable
class PlacedBackend(Protocol):
    """A backend that knows which chip it runs on, so that its power is measured. Optional: ask with ``isinstance``."""

    def placement(self) -> Placement:
        """The chip. Never raises."""


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def backend_names() -> list[str]:
    """Names of all registered backends, built in or third-party."""
    return sorted(_registered())


def load_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        SpecError: no such backend (the nearest names are given).
        BackendError: it is registered but cannot be imported.
    """
    registered = _registered()
    if not registered:
        raise BackendError("no backend is registered: netadapt-trt is not installed here; run: pip install -e .")
    if name not in registered:
        near = difflib.get_close_matches(name, registered, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SpecError(f"unknown backend {name!r}{hint} (known: {', '.join(sorted(registered))})")
    try:
        factory = registered[name].load()
    except ImportError as error:
        raise BackendError(f"backend {name!r} cannot be imported: {error}") from error
    backend: Backend = factory()
    return backend
