"""Power of a desktop or server GPU through NVML. On a Jetson its rails come first: NVML there answers "not supported".

Preferred in this order: the energy counter (exact over a window of a second or more), the instantaneous power field, and the
plain power reading, which is a mean over about a second on Ampere and later.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from netadapt_trt.errors import PowerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType
    from typing import Self

    from netadapt_trt.power.source import Scope

__all__ = ["NvmlSource"]

_DEVICE_FILES = ("dev/nvidiactl", "dev/dxg", "dev/nvgpu")
_INSTANT_FIELD = 186  # NVML_FI_DEV_POWER_INSTANT, where the package is too old to name it
_AVERAGED_S = 1.0
_INSTANT_S = 0.1
_USEFUL_INTERVAL_S = 0.1

Reading = Literal["energy counter", "instant power", "averaged power"]


class NvmlSource:
    """The GPU at ``bus_id`` (0000:01:00.0), else number ``index``.

    NVML counts by the bus and knows nothing of CUDA_VISIBLE_DEVICES, CUDA counts the fastest first: only the place on the
    bus names the same GPU to both.
    """

    name = "nvml"
    scope: Scope = "gpu"
    step_mw = 1.0
    interval_s = _USEFUL_INTERVAL_S

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        bus_id: str | None = None,
        index: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._bus_id = bus_id
        self._index = index
        self._clock = clock
        self._nvml: Any = None
        self._handle: Any = None
        self._reading: Reading | None = None
        self._gpu = ""
        self._mark: tuple[float, int] | None = None  # when the energy counter last moved, and where to

    @property
    def rails(self) -> tuple[str, ...]:
        """``gpu-0`` for NVML's first GPU."""
        return (f"gpu-{self._index}",)

    @property
    def counts_energy(self) -> bool:
        """Whether readings come from the energy counter."""
        return self._reading == "energy counter"

    @property
    def time_constant_s(self) -> float:
        """About a tenth of a second, a second where only the averaged reading exists."""
        return _AVERAGED_S if self._reading == "averaged power" else _INSTANT_S

    def __enter__(self) -> Self:
        """Open the library and find a reading that this GPU supports. Raises PowerError."""
        nvml = self._module()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise PowerError(
                f"nvml: the library does not start: {error}; check that nvidia-smi works here (in a container: --gpus all)"
            ) from error
        self._nvml = nvml
        try:
            self._handle = self._found()
            name = nvml.nvmlDeviceGetName(self._handle)
            self._gpu = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            self._reading = self._supported()
        except nvml.NVMLError as error:
            self._close()
            which = f"GPU {self._index}" if self._bus_id is None else f"the GPU at {self._bus_id}"
            raise PowerError(f"nvml: {which} does not answer: {error}; nvidia-smi -L lists the GPUs") from error
        if self._reading is None:
            self._close()
            raise PowerError(
                f"nvml: {self._gpu} reports neither power nor energy (most Jetson boards, some laptops); on a Jetson use "
                "ina, else an external meter (csv:FILE)"
            )
        return self

    def _found(self) -> Any:
        if self._bus_id is None:
            return self._nvml.nvmlDeviceGetHandleByIndex(self._index)
        handle = self._nvml.nvmlDeviceGetHandleByPciBusId(self._bus_id)
        self._index = int(self._nvml.nvmlDeviceGetIndex(handle))
        return handle

    def _module(self) -> ModuleType:
        if not any((self._root / file).exists() for file in _DEVICE_FILES):
            raise PowerError(
                "nvml: no NVIDIA driver is loaded here (no /dev/nvidiactl); for a container add --gpus all to docker run"
            )
        try:
            return importlib.import_module("pynvml")
        except ImportError as error:
            raise PowerError("nvml: the Python package is not installed; pip install nvidia-ml-py") from error

    def _supported(self) -> Reading | None:
        nvml = self._nvml
        try:
            self._mark = (self._clock(), int(nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)))
        except (nvml.NVMLError, AttributeError):
            self._mark = None
        else:
            return "energy counter"
        if self._instant_mw() is not None:
            return "instant power"
        try:
            nvml.nvmlDeviceGetPowerUsage(self._handle)
        except nvml.NVMLError:
            return None
        return "averaged power"

    def _instant_mw(self) -> float | None:
        nvml = self._nvml
        field = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", _INSTANT_FIELD)
        try:
            (answer,) = nvml.nvmlDeviceGetFieldValues(self._handle, [field])
        except (nvml.NVMLError, AttributeError, ValueError):
            return None
        return float(answer.value.uiVal) if answer.nvmlReturn == 0 else None

    def read(self) -> dict[str, float] | None:
        """Power now, or since the last reading where the card counts energy, mW; None while its counter stands still.

        Raises PowerError when the GPU is gone.
        """
        if self._nvml is None:
            raise PowerError("nvml: it was read before it was entered; use it as a context manager")
        try:
            power = self._now_mw()
        except self._nvml.NVMLError as error:
            raise PowerError(
                f"nvml: {self._gpu} stopped answering: {error}; look at dmesg for Xid errors, then measure again"
            ) from error
        return None if power is None else {self.rails[0]: power}

    def _now_mw(self) -> float | None:
        if self._mark is None:
            if self._reading == "instant power":
                return self._instant_mw()
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle))
        now, count = self._clock(), int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        then, before = self._mark
        if count == before or now <= then:
            return None  # it moves in steps; the next reading then spans both
        self._mark = (now, count)
        # A counter that went back belongs to a driver that was loaded anew; what was used meanwhile is not known.
        return (count - before) / (now - then) if count > before else None

    def _close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                self._handle = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Close the library."""
        self._close()

    def details(self) -> dict[str, Any]:
        """The GPU and which of its readings is used."""
        return {
            "source": self.name,
            "scope": self.scope,
            "gpu": self._gpu,
            "bus_id": self._bus_id,
            "reading": self._reading,
            "board": "NVIDIA graphics card",
            "total": list(self.rails),
            "step_mw": self.step_mw,
            "time_constant_s": self.time_constant_s,
        }
