"""The TensorRT-RTX backend. It differs from TensorRT in typing (strong only), targets, caches and where it may run."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

from netadapt_trt.errors import BackendError

from ..trt.backend import TrtBackend
from ..trt.build import BuildSettings

if TYPE_CHECKING:
    from ..trt.cuda import Cuda, DeviceInfo

__all__ = ["RtxBackend"]

_OPSET = (20, 9)
_DEFAULT_TARGET = "SM89"  # where there is no GPU: Ada, the middle of what it supports
_ARCHITECTURES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


class RtxBackend(TrtBackend):
    """TensorRT-RTX. :meth:`build` works without a GPU, for the ``target`` (NETADAPT_RTX_TARGET, such as SM89).

    Running needs a GPU that it supports; Jetsons (SM72, SM87, SM110) are not among them, so no table of a Jetson can come
    from here.
    """

    name = "trt_rtx"
    _module: ClassVar[str] = "tensorrt_rtx"
    _runtime: ClassVar[str] = "tensorrt-rtx"
    _how: ClassVar[str] = "run: pip install tensorrt-rtx"

    def __init__(
        self,
        tensorrt: Any = None,
        cuda: Cuda | None = None,
        *,
        target: str | None = None,
        tf32: bool | None = None,
        cuda_graph: bool | None = None,
    ) -> None:
        super().__init__(tensorrt, cuda, device="gpu", tf32=tf32, cuda_graph=cuda_graph)
        self._target_option = target

    def _without_device(self, reason: str) -> str:
        return f"it parses and builds here, but cannot run: {reason}"

    def _refused(self, info: DeviceInfo) -> str | None:
        if info.architecture in _ARCHITECTURES:
            return None
        return (
            f"TensorRT-RTX does not run on {info.name} ({info.architecture}), only on {', '.join(_ARCHITECTURES)}; on a "
            "Jetson or a data centre GPU use --backend trt"
        )

    def opset(self) -> tuple[int, int]:
        """Its parser is that of TensorRT 11."""
        return _OPSET

    def _check_version(self, version: str) -> None:
        """All have the interface that is used here."""

    def _has_tf32(self) -> bool:
        return self._device_info().capability >= (8, 0)

    def _device_name(self) -> str:
        """The card's, asked of itself: on a board, whose name may be known, this raises."""
        return self._device_info().name

    def _device_info(self) -> DeviceInfo:
        info = super()._device_info()
        refused = self._refused(info)
        if refused is not None:
            raise BackendError(refused)
        return info

    def _target(self) -> str:
        """Asked for, else this machine's GPU, else the default. Raises BackendError for one that it does not know."""
        asked = self._target_option or os.environ.get("NETADAPT_RTX_TARGET")
        if asked is None:
            try:
                asked = self._device_info().architecture
            except BackendError:
                asked = _DEFAULT_TARGET
        members = [name for name in dir(self._tensorrt().ComputeCapability) if re.fullmatch(r"SM\d+", name)]
        if asked.upper() not in members:
            raise BackendError(
                f"TensorRT-RTX builds for {', '.join(sorted(members))}, not for {asked!r}; set NETADAPT_RTX_TARGET"
            )
        return asked.upper()

    def _settings(self) -> BuildSettings:
        """Without timing cache: kernels are chosen when the engine is loaded."""
        target = self._target()

        def configure(config: Any) -> None:
            config.num_compute_capabilities = 1
            if not config.set_compute_capability(getattr(self._tensorrt().ComputeCapability, target), 0):
                raise BackendError(f"TensorRT-RTX {self._version()} takes no {target} as target")

        record = {"target": target, "runtime_version": self._version()}
        return BuildSettings(tf32=self._tf32(), configure=configure, record=record)
