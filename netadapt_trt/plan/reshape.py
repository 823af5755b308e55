"""Which dimensions of a reshaped tensor hold what which dimensions held before, and how a plan writes that without counting.

The rules for channels, the export and plans that are made without either must see it alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHANNEL_AXIS", "matched", "relative_shape"]

CHANNEL_AXIS = 1
"""Along which a channel shuffle's view divides the channels; the last of the new dimensions is then the one that shrinks."""


def matched(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes, old and new, with the same number of elements, each as short as possible; axes of size one left out."""
    runs: list[tuple[list[int], list[int]]] = []
    old = new = 0
    while old < len(before) or new < len(after):
        olds, news, left, right = [], [], 1, 1
        if old < len(before):
            olds, left, old = [old], before[old], old + 1
        if new < len(after):
            news, right, new = [new], after[new], new + 1
        while left != right:
            if left < right and old < len(before):
                left, olds, old = left * before[old], [*olds, old], old + 1
            elif new < len(after):
                right, news, new = right * after[new], [*news, new], new + 1
            else:
                break
        runs.append(([axis for axis in olds if before[axis] > 1], [axis for axis in news if after[axis] > 1]))
    return runs


def relative_shape(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    """A target shape with 0 for "as it was" and one -1 for "the rest".

    The rest is the only size that is really new; of several the last of those that the channels were divided into, or the
    one that they are merged into, as the views of a channel shuffle do. Elsewhere sizes are written out.
    """
    runs = matched(before, after)
    still = {news[0] for olds, news in runs if len(news) == 1 and olds == news}
    values = [
        0 if index < len(before) and before[index] == size and (size == 1 or index in still) else size
        for index, size in enumerate(after)
    ]
    new = [index for index, size in enumerate(values) if size > 1]
    divided = [(olds, news) for olds, news in runs if max(len(olds), len(news)) > 1]
    if len(new) == 1:
        values[new[0]] = -1
    elif len(divided) == 1:
        olds, news = divided[0]
        if olds[0] == CHANNEL_AXIS and 1 in (len(olds), len(news)):
            values[news[-1]] = -1
    return tuple(values)
