"""Figures of a training as TensorBoard files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["tensorboard_log"]


@contextmanager
def tensorboard_log(directory: Path | None, prefix: str = "") -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """A ``log`` for :func:`~netadapt_trt.training.fine_tune.fine_tune` writing under ``directory``; None without one.

    Without the tensorboard package nothing is logged.
    """
    if directory is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield None
        return
    writer = SummaryWriter(str(directory))

    def log(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(f"{prefix}{name}", value, step)

    try:
        yield log
    finally:
        writer.close()
