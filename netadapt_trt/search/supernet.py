"""The network that holds every candidate of every place, between one stem and one head.

Batch norms use the statistics of the batch, always: what a place hands on differs from path to path, so running means would
be those of no path at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from netadapt_trt.search.nested import NestedBlocks
from netadapt_trt.zoo.block_network import make_block, make_head, make_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from netadapt_trt.space.schema import Place, Space

__all__ = ["Supernet"]


class Supernet(nn.Module):
    """Candidates have weights of their own, or with ``nested`` each is a part of one block of its place.

    Of their own: ``places[i][j]`` stands in place ``i`` when its ``j``-th candidate is chosen
    (``space.places[i].candidates[j]``). Nested: see :class:`.NestedBlocks`.
    """

    def __init__(self, space: Space, num_classes: int, *, nested: bool = False) -> None:
        super().__init__()
        self.candidates = tuple(place.candidates for place in space.places)
        self.stem = make_stem(space, statistics=False)
        make = NestedBlocks if nested else _candidates
        self.places = nn.ModuleList(make(space, place) for place in space.places)
        self.head = make_head(space, statistics=False)
        self.classifier = nn.Linear(space.head_channels, num_classes)

    def mixed(self, images: Tensor, weights: Tensor) -> Tensor:
        """Scores [N, classes] with every candidate run, outputs added with ``weights`` [places, columns] (FBNet)."""
        weights = weights.to(images.device, images.dtype)

        def place(number: int, values: Tensor) -> Tensor:
            total: Tensor | None = None
            for column in self.candidates[number]:
                part = weights[number, column] * self._run(number, column, values)
                total = part if total is None else total + part
            return cast("Tensor", total)

        return self._through(images, place)

    def path(self, images: Tensor, columns: Sequence[int]) -> Tensor:
        """Scores [N, classes] with only ``columns``, one for each place."""
        return self._through(images, lambda number, values: self._run(number, columns[number], values))

    def gated(self, images: Tensor, active: Sequence[int], others: Sequence[int | None], gates: Tensor) -> Tensor:
        """The scores of path ``active``, whose derivative by ``gates`` [places, 2] is that of adding both outputs.

        Column 0 of ``gates`` belongs to ``active`` and has the value 1, column 1 to ``others`` and has the value 0 (None: a
        place with one candidate). The other block runs forward only: its gate being 0, nothing flows back through it. These
        are the binary gates of ProxylessNAS (Cai et al., ICLR 2019, sections 3.2 and 3.2.1), two paths at a time.
        """
        gates = gates.to(images.device, images.dtype)

        def place(number: int, values: Tensor) -> Tensor:
            made = self._run(number, active[number], values)
            other = others[number]
            if other is None:
                return made
            with torch.no_grad():
                alternative = self._run(number, other, values)
            return gates[number, 0] * made + gates[number, 1] * alternative

        return self._through(images, place)

    def _through(self, images: Tensor, place: Callable[[int, Tensor], Tensor]) -> Tensor:
        values = self.stem(images)
        for number in range(len(self.places)):
            values = place(number, values)
        return cast("Tensor", self.classifier(self.head(values).mean((2, 3))))

    def _run(self, number: int, column: int, values: Tensor) -> Tensor:
        place = self.places[number]
        if isinstance(place, NestedBlocks):
            return cast("Tensor", place(values, column))
        blocks = cast("nn.ModuleList", place)
        return cast("Tensor", blocks[self.candidates[number].index(column)](values))


def _candidates(space: Space, place: Place) -> nn.ModuleList:
    return nn.ModuleList(make_block(space, place, column, statistics=False) for column in place.candidates)
