"""The loss of theta: ``CE + alpha * LAT^beta + gamma * ENER^delta``, LAT in seconds and ENER in joules (HANNA)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from netadapt_trt.space.knobs import Knobs

__all__ = ["cost_terms"]

_LEAST = 1e-12  # of a second or joule; below it a power under 1 has no finite slope


def cost_terms(knobs: Knobs, lat_s: Tensor, ener_j: Tensor | None) -> Tensor:
    """``alpha * LAT^beta + gamma * ENER^delta``, a scalar; the second term only where energy is known."""
    total = lat_s.new_zeros(())
    if knobs.alpha > 0:  # 0 times a term that overflows would be no number
        total = total + knobs.alpha * lat_s.clamp_min(_LEAST) ** knobs.beta
    if ener_j is not None and knobs.gamma > 0:
        total = total + knobs.gamma * ener_j.clamp_min(_LEAST) ** knobs.delta
    return total
