"""A search as TensorBoard files: a curve for each figure, and theta as a heat map."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from netadapt_trt.progress import Progress

__all__ = ["board_works", "heat_map", "search_board"]

_CELL = 16  # pixels
_PLAIN = ("epoch", "phase")
_DARK = np.array([8, 48, 107])  # probability 1; 0 is white
_MISSING = np.array([215, 215, 215])


def heat_map(probabilities: NDArray[np.float64], offered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture [3, places * 16, columns * 16]: white 0, dark blue 1, grey where nothing is offered."""
    shade = np.clip(np.nan_to_num(probabilities), 0.0, 1.0)[..., None]
    colours = np.where(offered[..., None], 255 + shade * (_DARK - 255), _MISSING).round().astype(np.uint8)
    return colours.repeat(_CELL, 0).repeat(_CELL, 1).transpose(2, 0, 1)


def board_works(progress: Progress = QUIET) -> bool:
    """Whether TensorBoard files can be written; ``progress`` is told where they cannot."""
    if _writer() is None:
        progress.notice(
            "tensorboard is not installed: no TensorBoard files are written, the figures are in history.jsonl all the same; "
            "pip install tensorboard for the files, or leave them out with --no-tensorboard"
        )
        return False
    return True


def _writer() -> Any:
    """The class that writes event files; None where the tensorboard package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter


@contextmanager
def search_board(
    directory: Path | None, epochs: int, *, progress: Progress = QUIET
) -> Iterator[Callable[[Mapping[str, Any], NDArray[np.float64], NDArray[np.bool_]], None]]:
    """Yields ``log(line of the history, probabilities [places, columns], offered)``; later than ``epochs`` is replaced.

    Without a directory nothing is logged; neither without the tensorboard package, of which ``progress`` is told.
    """
    if directory is None or not board_works(progress):
        yield lambda *_: None
        return
    writer = _writer()(str(directory), purge_step=epochs + 1 if epochs else None)

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
