"""Which of a layer's channel sizes can really vary, and which vary together.

A layer's axes are affine in the widths of the network's groups. Axes that follow the same combination of groups (a depthwise
convolution's input and output, both operands of a sum) are one *parameter*; an axis that no group changes is none. What a
table must cover, and what an estimate interpolates over, are the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netadapt_trt.plan.schema import Dim, Layer

__all__ = ["Parameter", "Space", "space_of"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A combination of group widths, ``sum(coefficient * width)``, with coefficients that have no common factor."""

    terms: tuple[tuple[str, int], ...]

    def value(self, widths: Mapping[str, int]) -> int:
        """Its value at these widths (every group of it must be there)."""
        return sum(coefficient * widths[group] for group, coefficient in self.terms)


@dataclass(frozen=True, slots=True)
class Space:
    """A layer's axes as functions of its parameters: axis j = ``const[j] + factor[j] * value of parameter[owner[j]]``.

    ``owner`` is -1 for an axis that is fixed.
    """

    parameters: tuple[Parameter, ...]
    const: tuple[int, ...]
    factor: tuple[int, ...]
    owner: tuple[int, ...]

    def axes(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """The layer's axes at these parameter values."""
        return tuple(
            const if owner < 0 else const + factor * values[owner]
            for const, factor, owner in zip(self.const, self.factor, self.owner, strict=True)
        )

    def locate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the axis values ``points`` [n, axes] this layer can take, and at which parameter values [m, parameters].

        Networks share rows, so a table may hold rows of this key that lie off this layer's own line or plane.
        """
        keep = np.ones(len(points), dtype=bool)
        values = np.zeros((len(points), len(self.parameters)), dtype=np.int64)
        seen: set[int] = set()
        for column, (const, factor, owner) in enumerate(zip(self.const, self.factor, self.owner, strict=True)):
            rest = points[:, column] - const
            if owner < 0:
                keep &= rest == 0
                continue
            quotient, remainder = np.divmod(rest, factor)
            keep &= remainder == 0
            if owner in seen:
                keep &= quotient == values[:, owner]
            else:
                values[:, owner] = quotient
                seen.add(owner)
        return keep, values[keep]


def _split(axis: Dim) -> tuple[Parameter | None, int]:
    if not axis.terms:
        return None, 0
    factor = math.gcd(*(coefficient for _, coefficient in axis.terms))
    return Parameter(tuple((group, coefficient // factor) for group, coefficient in axis.terms)), factor


def space_of(layer: Layer) -> Space:
    """The parameters behind the axes of ``layer``, in the order of their first axis."""
    parameters: list[Parameter] = []
    factors: list[int] = []
    owners: list[int] = []
    for axis in layer.axes:
        parameter, factor = _split(axis)
        if parameter is not None and parameter not in parameters:
            parameters.append(parameter)
        factors.append(factor)
        owners.append(-1 if parameter is None else parameters.index(parameter))
    return Space(tuple(parameters), tuple(axis.const for axis in layer.axes), tuple(factors), tuple(owners))
