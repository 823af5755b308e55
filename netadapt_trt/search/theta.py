"""Theta: how much each candidate of each place is liked. Probabilities are its softmax, row by row.

Draws take a generator, so that any step of a search can be repeated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from netadapt_trt.errors import FileFormatError
from netadapt_trt.files import finite, read_document, write_document
from netadapt_trt.space.store import space_hash

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from netadapt_trt.space.schema import Space

__all__ = ["Theta", "probabilities", "read_theta", "write_theta"]

FORMAT, VERSION = "netadapt-theta", 1


class Theta:
    """``values``: float64 [places, columns], a leaf that an optimizer may hold; only entries that are ``offered`` count.

    It stays in the main memory: it is small, and draws from it decide which blocks run.
    """

    def __init__(self, space: Space, start: float = 1.0) -> None:
        self.offered = torch.zeros(len(space.places), len(space.columns), dtype=torch.bool)
        for row, place in enumerate(space.places):
            self.offered[row, list(place.candidates)] = True
        self.values = torch.full(self.offered.shape, start, dtype=torch.float64, requires_grad=True)

    def logits(self) -> Tensor:
        """[places, columns], minus infinity where a candidate is not offered; differentiable."""
        return self.values.masked_fill(~self.offered, -math.inf)

    def probabilities(self) -> Tensor:
        """[places, columns], rows sum to 1; differentiable."""
        return self.logits().softmax(1)

    def gumbel_softmax(self, temperature: float, generator: torch.Generator) -> Tensor:
        """[places, columns]: softmax of (theta + Gumbel noise) / temperature, differentiable (Jang et al., ICLR 2017)."""
        return ((self.logits() + self._gumbel(generator)) / temperature).softmax(1)

    def draw(self, generator: torch.Generator) -> tuple[int, ...]:
        """One column for each place, drawn from :meth:`probabilities` (the largest of theta + Gumbel noise)."""
        with torch.no_grad():
            return tuple((self.logits() + self._gumbel(generator)).argmax(1).tolist())

    def draw_pairs(self, generator: torch.Generator) -> list[tuple[int, ...]]:
        """Two columns for each place, drawn one after the other without replacement; one where no more are offered."""
        with torch.no_grad():
            order = (self.logits() + self._gumbel(generator)).argsort(1, descending=True)
        counts = self.offered.sum(1).tolist()
        return [tuple(row[: min(2, count)]) for row, count in zip(order.tolist(), counts, strict=True)]

    def argmax(self) -> tuple[int, ...]:
        """The most probable column of each place; the first of equal ones."""
        with torch.no_grad():
            return tuple(self.logits().argmax(1).tolist())

    def entropy(self) -> float:
        """Nats, the mean over places: log(candidates) while all are alike, 0 when all is decided."""
        with torch.no_grad():
            found = self.probabilities()
            return float(-torch.where(found > 0, found * found.log(), 0.0).sum(1).mean())

    def array(self) -> NDArray[np.float64]:
        """A copy, NaN where a candidate is not offered."""
        found: NDArray[np.float64] = self.values.detach().masked_fill(~self.offered, math.nan).numpy().copy()
        return found

    def load(self, values: NDArray[np.float64]) -> None:
        """Take the entries of ``values`` [places, columns] that are offered; the optimizer's leaf stays the same."""
        with torch.no_grad():
            self.values[self.offered] = torch.from_numpy(values)[self.offered]

    def _gumbel(self, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(self.offered.shape, dtype=torch.float64, generator=generator)
        return -(-uniform.clamp_min(1e-300).log()).clamp_min(1e-300).log()


def probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax by row of theta [places, columns]; 0 where it is NaN."""
    filled = np.where(np.isnan(values), -np.inf, values)
    powers = np.exp(filled - filled.max(1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return found


def write_theta(path: Path, space: Space, values: NDArray[np.float64], epoch: int) -> None:
    """``values`` [places, columns], NaN where a candidate is not offered; ``epoch`` counts from 1, 0 is the start."""
    rows = [[None if math.isnan(value) else value for value in row] for row in values.tolist()]
    content = {
        "space": space.name,
        "space_hash": space_hash(space),
        "columns": list(space.columns),
        "epoch": epoch,
        "theta": rows,
    }
    write_document(path, format=FORMAT, version=VERSION, content=content)


def read_theta(path: Path, space: Space) -> tuple[NDArray[np.float64], int]:
    """(theta [places, columns] with NaN where a candidate is not offered, its epoch).

    Raises:
        FileFormatError: no theta file, one of another space, or values that do not fit.
    """
    content = read_document(path, format=FORMAT, version=VERSION)
    if content.get("space_hash") != space_hash(space):
        raise FileFormatError(
            f"{path} is the theta of another space ({str(content.get('space'))[:60]!r}), not of {space.name!r}; "
            f"name the space that it was searched in, or a theta of this one"
        )
    return _rows(path, space, content.get("theta")), _epoch(path, content.get("epoch"))


def _rows(path: Path, space: Space, rows: Any) -> NDArray[np.float64]:
    values = np.full((len(space.places), len(space.columns)), math.nan)
    if not isinstance(rows, list) or len(rows) != len(space.places):
        raise FileFormatError(f"{path}: theta needs a row for each of the {len(space.places)} places")
    for place, row in zip(space.places, rows, strict=True):
        if not isinstance(row, list) or len(row) != len(space.columns):
            raise FileFormatError(f"{path}: place {place.number} needs {len(space.columns)} entries")
        for column, value in enumerate(row):
            offered = column in place.candidates
            if not offered and value is None:
                continue
            if not offered or finite(value) is None:
                wanted = "a finite number" if offered else "null, since that place does not offer it"
                raise FileFormatError(f"{path}: place {place.number}, {space.columns[column]}: {wanted} was expected")
            values[place.number - 1, column] = value
    return values


def _epoch(path: Path, epoch: Any) -> int:
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise FileFormatError(f"{path}: the epoch must be a whole number from 0 on")
    return epoch
