"""Which channels lie where along a dimension, and which of them must be cut together.

A dimension's layout is a row of pieces; channel c of a piece occupies positions c * inner to c * inner + inner - 1 of it (a
flattened 7x7 map has inner 49). While the graph is walked, pieces name variables of a union-find: two that meet in a sum
become one, one that meets a concatenation is divided at its seams. A variable that an operator cannot be cut through is
frozen, with the reason. Pieces held from before a union or a division stay valid: :meth:`Variables.resolve` brings them up
to date.

What a grouped convolution reads or makes is a row of equal blocks, one a convolution group, that must stay equally long: the
blocks are made one variable (:meth:`Variables.alike`), which the row then names once a block. One of its channels is so a
*unit* of as many channels of the network as there are blocks: the first of each block, the second of each, ... A channel
shuffle turns the row of blocks ``(v, v)`` into one piece of ``v`` with as many positions a channel, and a grouped
convolution behind it divides that in turn, so that units of 4 are cut between two convolutions of 2 groups with a shuffle.
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
        self._sizes: list[int] = []
        self._reasons: dict[int, str] = {}
        # What became of a root that was divided, or found to be blocks of another variable's channels.
        self._parts: dict[int, Layout] = {}

    def new(self, size: int) -> Layout:
        """A layout of ``size`` channels that nothing is tied to yet."""
        self._parent.append(len(self._parent))
        self._sizes.append(size)
        return (Piece(len(self._parent) - 1, size),)

    def size(self, variable: int) -> int:
        """Channels of a variable."""
        return self._sizes[variable]

    def resolve(self, layout: Iterable[Piece]) -> Layout:
        """The same positions in terms of the sets as they are now; every variable in it is a root."""
        found: list[Piece] = []
        for piece in layout:
            if piece.variable is None:
                found.append(piece)
                continue
            root = self._root(piece.variable)
            parts = self._parts.get(root)
            if parts is None:
                found.append(Piece(root, piece.channels, piece.inner))
            else:
                found.extend(self.resolve(scaled(parts, piece.inner)))
        return tuple(found)

    def freeze(self, layout: Iterable[Piece] | None, reason: str) -> None:
        """Never cut these channels; the first reason is kept."""
        for piece in self.resolve(layout or ()):
            if piece.variable is not None:
                self._reasons.setdefault(piece.variable, reason)

    def reason(self, root: int) -> str:
        """Why a resolved variable is frozen; empty when it is not."""
        return self._reasons.get(root, "")

    def tie(self, left: Layout | None, right: Layout | None, where: str) -> None:
        """Make both shrink together, or neither where that cannot be expressed. None is a dimension that never shrinks.

        Where the seams of two layouts differ, the longer piece is divided if its channels allow that; else both freeze.
        """
        if left is None or right is None:
            self.freeze(left, f"meets channels that are not cut in {where}")
            self.freeze(right, f"meets channels that are not cut in {where}")
            return
        mine, other = list(reversed(left)), list(reversed(right))
        while mine and other:
            first, second = self._next(mine), self._next(other)
            if first.length == second.length:
                mine.pop()
                other.pop()
                self._unite(first, second, where)
                continue
            longer, shorter = (mine, other) if first.length > second.length else (other, mine)
            piece, size = longer[-1], shorter[-1].length
            if piece.variable is None:
                longer[-1:] = [Piece(None, piece.length - size), Piece(None, size)]
            elif size % piece.inner == 0:
                self._divide(piece.variable, _seams(piece, shorter))
            else:
                self.freeze((*mine, *other), f"tied to channels of another arrangement in {where}")
                return

    def _next(self, stack: list[Piece]) -> Piece:
        """The top of a row of pieces that is read from its end, brought up to date."""
        stack[-1:] = reversed(self.resolve(stack[-1:]))
        return stack[-1]

    def alike(self, layout: Layout, count: int, where: str) -> Layout | None:
        """Tie ``count`` equally long blocks of a layout to each other, and give the layout that each of them has.

        None, with nothing tied, where a seam between blocks falls into the positions of one channel.
        """
        blocks = self._blocks(layout, length(layout) // count)
        if blocks is None:
            return None
        for block in blocks[1:]:
            self.tie(blocks[0], block, where)
        return blocks[0]

    def _blocks(self, layout: Layout, size: int) -> list[Layout] | None:
        """The layout in blocks of ``size`` positions each; variables are divided at their seams."""
        blocks: list[Layout] = []
        block: list[Piece] = []
        rest, room = self.resolve(layout), size
        while rest:
            piece = rest[0]
            if piece.length > room and piece.variable is None:
                rest = (Piece(None, room), Piece(None, piece.length - room), *rest[1:])
            elif piece.length > room and room % piece.inner:
                return None
            elif piece.length > room:
                self._divide(piece.variable, _parts(piece, room, size))  # type: ignore[arg-type]
                rest = self.resolve(rest)
            else:
                block.append(piece)
                rest, room = rest[1:], room - piece.length
                if not room:
                    blocks.append(tuple(block))
                    block, room = [], size
        return blocks

    def _divide(self, root: int, sizes: Iterable[int]) -> None:
        self._parts[root] = tuple(piece for size in sizes for piece in self.new(size))
        self._move_reason(root, self._parts[root])

    def _unite(self, mine: Piece, other: Piece, where: str) -> None:
        """Two resolved pieces of equal length become one set."""
        if mine.variable is None or other.variable is None:
            self.freeze((mine, other), f"meets channels that are not cut in {where}")
        elif mine.variable == other.variable:
            return  # equal lengths, so equal arrangements
        elif mine.inner == other.inner:
            first, second = sorted((mine.variable, other.variable))
            self._parent[second] = first
            self._move_reason(second, (Piece(first, self._sizes[first]),))
        elif max(mine.inner, other.inner) % min(mine.inner, other.inner) == 0:
            # Channels of one are whole blocks of the other's: they go block by block.
            swap = mine.inner > other.inner
            gone, thin, thick = (other.variable, other, mine) if swap else (mine.variable, mine, other)
            self._parts[gone] = (Piece(thick.variable, thick.channels, thick.inner // thin.inner),)
            self._move_reason(gone, self._parts[gone])
        else:
            self.freeze((mine, other), f"tied to channels of another arrangement in {where}")

    def _move_reason(self, gone: int, layout: Layout) -> None:
        if gone in self._reasons:
            self.freeze(layout, self._reasons.pop(gone))

    def _root(self, variable: int) -> int:
        while self._parent[variable] != variable:
            self._parent[variable] = self._parent[self._parent[variable]]
            variable = self._parent[variable]
        return variable


def _seams(piece: Piece, row: Sequence[Piece]) -> list[int]:
    """Channels of ``piece`` between the seams of ``row``, which is read from its end, as far as they fall between channels.

    All at once: one after the other would nest as deep as there are seams.
    """
    parts: list[int] = []
    left = piece.channels
    for other in reversed(row):
        channels, rest = divmod(other.length, piece.inner)
        if rest or channels >= left:
            break
        parts.append(channels)
        left -= channels
    return [*parts, left]


def _parts(piece: Piece, room: int, size: int) -> list[int]:
    """Channels up to the first seam, between those that follow every ``size`` positions, and behind the last."""
    parts = [room // piece.inner]
    left = piece.channels - parts[0]
    if size % piece.inner == 0:  # all at once, as in _seams
        parts += [size // piece.inner] * (left // (size // piece.inner))
    rest = piece.channels - sum(parts)
    return [*parts, rest] if rest else parts


def scaled(layout: Layout, factor: int) -> Layout:
    """The layout after ``factor`` trailing positions were merged into each channel."""
    return tuple(Piece(piece.variable, piece.channels, piece.inner * factor) for piece in layout)


def length(layout: Iterable[Piece]) -> int:
    """Positions along the dimension."""
    return sum(piece.length for piece in layout)
