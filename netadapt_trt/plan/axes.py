"""The open sizes of a fragment: made one by one, found to be equal later, or found to be fixed.

Sizes are linear expressions (:class:`Dim`) of axes. What the fragment's structure says about two sizes is an equation, and
an equation that has no solution here is an error: a LUT row must never be written at sizes that do not fit together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from netadapt_trt.errors import TraceError
from netadapt_trt.plan.schema import Dim

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Axes", "divided", "proportion", "scaled", "total"]


class Axes:
    """``sizes`` gives for each axis the size it has in the network."""

    def __init__(self) -> None:
        self.sizes: dict[str, Dim] = {}
        self._same: dict[str, Dim] = {}

    def new(self, size: Dim) -> Dim:
        """An axis that nothing is known about yet but that it is ``size`` in the network."""
        name = f"axis{len(self.sizes)}"
        self.sizes[name] = size
        return Dim(0, ((name, 1),))

    def now(self, size: Dim) -> Dim:
        """``size`` after everything that was found so far."""
        const, terms = size.const, dict[str, int]()
        for axis, factor in size.terms:
            replaced = self.now(self._same[axis]) if axis in self._same else Dim(0, ((axis, 1),))
            const += replaced.const * factor
            for name, inner in replaced.terms:
                terms[name] = terms.get(name, 0) + inner * factor
        return Dim(const, tuple(sorted(terms.items())))

    def unify(self, left: Dim, right: Dim, where: str) -> None:
        """Both are one size from now on. Raises TraceError when no axis can be written by the others."""
        left, right = self.now(left), self.now(right)
        if left == right:
            return
        for plain, other in ((right, left), (left, right)):
            if plain.const == 0 and len(plain.terms) == 1 and plain.terms[0][1] == 1:
                axis = plain.terms[0][0]
                if all(name != axis for name, _ in other.terms):
                    self._same[axis] = other
                    return
        raise TraceError(f"the sizes of {where} cannot be expressed by independent channel counts; it cannot be a layer")

    def divided(self, size: Dim, parts: int, where: str) -> Dim:
        """One of ``parts`` equal parts of ``size``, a multiple from now on. Raises TraceError where it cannot be one."""
        for axis, factor in self.now(size).terms:
            missing = parts // math.gcd(parts, factor)
            held = self.sizes[axis]
            if missing > 1 and divided(held, missing) is not None:
                self._same[axis] = scaled(self.new(divided(held, missing) or held), missing)
        part = divided(self.now(size), parts) or divided(self.pin(size), parts)
        if part is None:
            raise TraceError(f"the sizes of {where} cannot be divided by {parts} at any width; it cannot be a layer")
        return part

    def pin(self, size: Dim) -> Dim:
        """Make the axes of ``size`` constants of the key, where the network never changes them."""
        for name, _ in self.now(size).terms:
            if self.sizes[name].fixed:
                self._same[name] = self.sizes[name]
        return self.now(size)


def total(sizes: Sequence[Dim]) -> Dim:
    """Their sum."""
    terms: dict[str, int] = {}
    for size in sizes:
        for axis, factor in size.terms:
            terms[axis] = terms.get(axis, 0) + factor
    return Dim(sum(size.const for size in sizes), tuple(sorted(terms.items())))


def scaled(size: Dim, factor: int) -> Dim:
    """``factor`` times ``size``."""
    return Dim(size.const * factor, tuple((axis, number * factor) for axis, number in size.terms))


def divided(size: Dim, parts: int) -> Dim | None:
    """A whole part of ``size`` at any widths; None where it is none."""
    if any(number % parts for number in (size.const, *(factor for _, factor in size.terms))):
        return None
    return Dim(size.const // parts, tuple((axis, factor // parts) for axis, factor in size.terms))


def proportion(whole: Dim, part: Dim) -> int | None:
    """The whole number k with ``whole == k * part`` at any widths; None when there is none, or ``part`` is fixed."""
    if part.fixed or [axis for axis, _ in whole.terms] != [axis for axis, _ in part.terms]:
        return None
    factor = whole.terms[0][1] // part.terms[0][1]
    return factor if scaled(part, factor) == whole else None
