"""A search as TensorBoard files: a curve for each figure, and theta as a heat map."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["heat_map", "search_board"]

_CELL = 16  # pixels
_PLAIN = ("epoch", "phase")
_DARK = np.array([8, 48, 107])  # probability 1; 0 is white
_MISSING = np.array([215, 215, 215])


def heat_map(probabilities: NDArray[np.float64], offered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture [3, places * 16, columns * 16]: white 0, dark blue 1, grey where nothing is offered."""
    shade = np.clip(np.nan_to_num(probabilities), 0.0, 1.0)[..., None]
    colours = np.where(offered[..., None], 255 + shade * (_DARK - 255), _MISSING).round().astype(np.uint8)
    return colours.repeat(_CELL, 0).repeat(_CELL, 1).transpose(2, 0, 1)


@contextmanager
def search_board(
    directory: Path | None, epochs: int
) -> Iterator[Callable[[Mapping[str, Any], NDArray[np.float64], NDArray[np.bool_]], None]]:
    """Yields ``log(line of the history, probabilities [places, columns], offered)``; later than ``epochs`` is replaced.

    Without a directory or the tensorboard package nothing is logged.
    """
    try:
        if directory is None:
            raise ImportError
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda *_: None
        return
    writer = SummaryWriter(str(directory), purge_step=epochs + 1 if epochs else None)

    def log(line: Mapping[str, Any], probabilities: NDArray[np.float64], offered: NDArray[np.bool_]) -> None:
        epoch = int(line["epoch"])
        for name, value in line.items():
            if name not in _PLAIN and value is not None:
                writer.add_scalar(f"search/{name}", value, epoch)
        writer.add_image("search/theta", heat_map(probabilities, offered), epoch)
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
