"""Which channels lie where along a dimension, and which of them must be cut together.

A dimension's layout is a row of segments; channel c of a segment occupies positions c * inner to c * inner + inner - 1 of
it (a flattened 7x7 map has inner 49). While the graph is walked, segments name variables of a union-find; two that meet in
a sum become one. A variable that an operator cannot be cut through is frozen, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Layout", "Piece", "Variables", "length", "scaled"]


@dataclass(frozen=True, slots=True)
class Piece:
    """``channels`` channels of ``variable`` (None: channels that are never cut), ``inner`` positions each."""

    variable: int | None
    channels: int
    inner: int = 1

    @property
    def length(self) -> int:
        """Positions it takes."""
        return self.channels * self.inner


Layout = tuple[Piece, ...]


class Variables:
    """Sets of channels that shrink together."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self.names: list[str] = []
        self.sizes: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, name: str, size: int) -> Layout:
        """A layout of ``size`` channels that nothing is tied to yet."""
        self._parent.append(len(self._parent))
        self.names.append(name)
        self.sizes.append(size)
        return (Piece(len(self._parent) - 1, size),)

    def root(self, variable: int) -> int:
        """The set's first member, which gives it its name."""
        while self._parent[variable] != variable:
            self._parent[variable] = self._parent[self._parent[variable]]
            variable = self._parent[variable]
        return variable

    def freeze(self, layout: Iterable[Piece] | None, reason: str) -> None:
        """Never cut these channels; the first reason is kept."""
        for piece in layout or ():
            if piece.variable is not None:
                self._reasons.setdefault(self.root(piece.variable), reason)

    def reason(self, variable: int) -> str:
        """Why the set is frozen; empty when it is not."""
        return self._reasons.get(self.root(variable), "")

    def tie(self, left: Layout | None, right: Layout | None, where: str) -> None:
        """Make both shrink together, or neither where that cannot be expressed. None is a dimension that never shrinks."""
        if left is None or right is None:
            self.freeze(left, f"meets channels that are not cut in {where}")
            self.freeze(right, f"meets channels that are not cut in {where}")
            return
        if [(p.channels, p.inner) for p in left] != [(p.channels, p.inner) for p in right]:
            for layout in (left, right):
                self.freeze(layout, f"tied to channels of another arrangement in {where}")
            return
        for mine, other in zip(left, right, strict=True):
            self._union(mine, other, where)

    def _union(self, mine: Piece, other: Piece, where: str) -> None:
        if mine.variable is None or other.variable is None:
            self.freeze((mine, other), f"meets channels that are not cut in {where}")
            return
        first, second = sorted((self.root(mine.variable), self.root(other.variable)))
        if first != second:
            self._parent[second] = first
            if second in self._reasons:
                self._reasons.setdefault(first, self._reasons.pop(second))


def scaled(layout: Layout, factor: int) -> Layout:
    """The layout after ``factor`` trailing positions were merged into each channel."""
    return tuple(Piece(piece.variable, piece.channels, piece.inner * factor) for piece in layout)


def length(layout: Sequence[Piece]) -> int:
    """Positions along the dimension."""
    return sum(piece.length for piece in layout)
