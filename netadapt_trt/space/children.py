"""Which children of a space to measure, and what the layers of each block are.

Children are chosen as in a Latin square: child j takes, at each place, the candidate that is j further on than that place's
offset, so a handful of children shows every block at every place once, and each in different company.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netadapt_trt.space.plan import FIXED, child_plan, names_of, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netadapt_trt.plan.schema import Layer, Plan
    from netadapt_trt.space.schema import Space

__all__ = ["Cost", "SpaceLayers", "arrangement", "space_layers"]

Cost = tuple[str, tuple[int, ...]]
"""What a LUT's cell is found by: a layer's key and the values of its axes."""


def arrangement(space: Space, round: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """The children of one round as choices of columns: every block at every place that offers it, once (a few twice).

    Round 0 has no offsets: all blocks of a child are the same where they may be, which spreads the children over all sizes.
    """
    places = space.places
    draw = random.Random(f"arrangement {seed} {round}")
    offsets = [0 if round == 0 else draw.randrange(len(place.candidates)) for place in places]
    count = max(len(place.candidates) for place in places)
    return [
        tuple(
            place.candidates[(child + offset) % len(place.candidates)] for place, offset in zip(places, offsets, strict=True)
        )
        for child in range(count)
    ]


@dataclass(frozen=True)
class SpaceLayers:
    """The layers of each block at each place (by row and column, empty for a skip), and of stem and head."""

    blocks: dict[tuple[int, int], tuple[Cost, ...]]
    fixed: tuple[Cost, ...]

    def all(self) -> set[Cost]:
        """Every layer of the space, each once."""
        return {*self.fixed, *(cost for costs in self.blocks.values() for cost in costs)}


def space_layers(space: Space, partition: Callable[[Plan], Sequence[Layer]], *, batch: int = 1) -> SpaceLayers:
    """What the runtime whose ``partition`` this is makes of every block. A layer belongs where its first operator does."""
    blocks: dict[tuple[int, int], tuple[Cost, ...]] = {}
    fixed: tuple[Cost, ...] = ()
    for choice in arrangement(space, 0):
        found: dict[int, list[Cost]] = {}
        for layer in partition(child_plan(space, names_of(space, choice), batch=batch)):
            found.setdefault(owner_of(layer.ops[0]), []).append((layer.key, layer.widths({})))
        fixed = tuple(found.get(FIXED, ()))
        for row, column in enumerate(choice):
            blocks[row, column] = tuple(found.get(row + 1, ()))
    return SpaceLayers(blocks, fixed)
