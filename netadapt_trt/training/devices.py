"""Which devices torch can train on here."""

from __future__ import annotations

import torch

from netadapt_trt.errors import SpecError

__all__ = ["devices_here", "require_device"]


def devices_here() -> tuple[str, ...]:
    """``cpu`` and every CUDA device by its number."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cpu", *(f"cuda:{index}" for index in range(count)))


def require_device(name: str) -> None:
    """Raise SpecError, listing the devices that are there, unless ``name`` is one that can hold numbers here."""
    here = devices_here()
    refusal = f"there is no device {name!r} here; choose one of: {', '.join(here)}"
    try:
        device = torch.device(name)
        if device.type != "cuda":  # a CUDA device is counted instead: trying it would take memory on it
            torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has no common type for "not there"
        raise SpecError(refusal) from error
    if device.type == "cuda" and f"cuda:{device.index or 0}" not in here:
        raise SpecError(refusal)
