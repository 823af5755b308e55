"""How well a table estimates networks it has not seen: each whole network of it against the others.

A network is left out in closed form (:meth:`~netadapt_trt.lut.layer_model.LayerModel.without_each`): each of its layers as
the model would say it without that cell, and without the other networks' cells of that setting; a setting that five networks
and more show stays, since one of them moves it little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.lut.reading import networks_of

if TYPE_CHECKING:
    from netadapt_trt.lut.estimator import NetworkEstimator

__all__ = ["HeldOut", "held_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """``networks``: how many were left out in turn. ``error``: mean relative error, ``worst`` the largest, ``rms`` the root
    mean square; the noise of their own measurements is in all of them."""

    networks: int
    error: float
    worst: float
    rms: float


def held_out(estimator: NetworkEstimator) -> HeldOut | None:
    """Leave each of the table's whole networks out in turn. None below four of them, or without cells in context."""
    known = networks_of(estimator.lut, estimator.plan, estimator.resource)
    if len(known) < 4 or not estimator.in_context or estimator.missing():
        return None
    left_out = {
        key: {
            tuple(point): value
            for point, value, alone in zip(
                model.evidence.points.tolist(), model.without_each().tolist(), model.evidence.alone, strict=True
            )
            if not alone
        }
        for key, model in estimator.in_context.items()
    }
    ratios = np.array([estimator.replaced(widths, left_out) / value for widths, value in known])
    errors = np.abs(ratios / np.median(ratios) - 1)
    return HeldOut(
        networks=len(known), error=float(errors.mean()), worst=float(errors.max()), rms=float(np.sqrt((errors**2).mean()))
    )
