"""Which power source a verb measures with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netadapt_trt.backend import Backend
    from netadapt_trt.power.meter import PowerMeter

__all__ = ["open_meter"]


def open_meter(power: str, backend: Backend, *, window_s: float = 10.0) -> PowerMeter | None:
    """A meter, not open yet, on the source ``power`` names, or for ``auto`` on the best one here that counts what
    ``backend`` runs on.

    None where there is none or none is wanted, and for a simulated backend, which knows its energy itself.
    """
    if power == "none" or getattr(backend, "simulated", backend.name == "fake"):
        return None
    from netadapt_trt.backend import PlacedBackend
    from netadapt_trt.power.find import find_source
    from netadapt_trt.power.meter import PowerMeter

    placement = backend.placement() if isinstance(backend, PlacedBackend) else None
    source = find_source(prefer=None if power == "auto" else power, placement=placement)
    return None if source is None else PowerMeter(source, window_s=window_s)
