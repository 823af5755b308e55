"""Grids of knobs for a sweep: given as lists, read from a file, or laid out from what the table says.

HANNA drew its plots from 30 searches, half of them dominated by latency, half by energy. Which knobs do that depends on the
table: the dominance of a term is its share of the loss where every search starts.
"""

from __future__ import annotations

import json
import math
from itertools import product
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.space.knobs import Knobs, Start, start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from netadapt_trt.space.table import SpaceTable

__all__ = ["DOMINANCE", "MOST", "POWERS", "SHARES", "checked_grid", "default_grid", "product_grid", "read_grid"]

POWERS = (0.3, 0.6, 0.9)
"""Of both terms: from hardly telling fast networks from slow ones to nearly in proportion."""

SHARES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""The stronger term at the start, over the cross-entropy of guessing."""

DOMINANCE = 3.0
"""How many times the weaker term the stronger one is at the start."""

MOST = 500
"""A grid of more searches is a slip of the keyboard: five values of each knob would be 625."""

_NAMES = ("alpha", "beta", "gamma", "delta")
_DIGITS = 3


def default_grid(table: SpaceTable, classes: int) -> tuple[Knobs, ...]:
    """15 grids points dominated by latency and, where the table has energy, 15 by energy: :data:`POWERS` times shares."""
    at_one = start(table, Knobs(alpha=1.0, beta=1.0, gamma=1.0 if table.has_energy else 0.0, delta=1.0))
    guessing = math.log(max(2, classes))
    found = []
    for by_energy in (False, True) if table.has_energy else (False,):
        for power, share in product(POWERS, SHARES):
            strong, weak = share * guessing, share * guessing / DOMINANCE
            vlat, vener = (weak, strong) if by_energy else (strong, weak)
            gamma = vener / at_one.ener_j**power if at_one.ener_j else 0.0
            found.append(Knobs(alpha=_short(vlat / at_one.lat_s**power), beta=power, gamma=_short(gamma), delta=power))
    return tuple(found)


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def product_grid(
    alpha: Sequence[float] = (), beta: Sequence[float] = (), gamma: Sequence[float] = (), delta: Sequence[float] = ()
) -> tuple[Knobs, ...]:
    """Every combination of the values given; a knob without values keeps its default. Raises SpecError for bad ones."""
    usual = Knobs()
    lists = [values or (getattr(usual, name),) for name, values in zip(_NAMES, (alpha, beta, gamma, delta), strict=True)]
    if math.prod(len(values) for values in lists) > MOST:
        raise SpecError(f"{math.prod(len(values) for values in lists)} combinations of knobs; at most {MOST} are searched")
    return tuple(Knobs(**dict(zip(_NAMES, values, strict=True))) for values in product(*lists))


def read_grid(path: Path) -> tuple[Knobs, ...]:
    """A JSON list of objects, each with some of alpha, beta, gamma and delta; others have their defaults.

    Raises:
        FileFormatError: no such file, or another content. SpecError: knobs that make no sense.
    """
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist; a JSON list of knobs was expected there") from error
    except (ValueError, OSError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a JSON list of knobs: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise FileFormatError(
            f'{path} is not a JSON list of knobs; write for example [{{"alpha": 0.2, "beta": 0.6}}, {{"alpha": 0.4}}]'
        )
    found = []
    for count, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not set(entry) <= set(_NAMES):
            raise FileFormatError(f"{path}, entry {count}: an object with some of {', '.join(_NAMES)} was expected")
        try:
            found.append(Knobs(**entry))
        except SpecError as error:
            raise SpecError(f"{path}, entry {count}: {error}") from error
    return tuple(found)


def checked_grid(table: SpaceTable, grid: Sequence[Knobs]) -> tuple[tuple[Knobs, Start], ...]:
    """Each point once, with where its search begins.

    Raises:
        SpecError: none or too many, knobs that overflow on this table, or that weigh energy where it has none.
    """
    points = list(dict.fromkeys(grid))
    if not points:
        raise SpecError("a sweep needs knobs; give lists as --alpha 0.1,0.2, a file, or none for the usual 30")
    if len(points) > MOST:
        raise SpecError(f"a sweep of {len(points)} searches; at most {MOST} are made in one")
    return tuple((knobs, start(table, knobs)) for knobs in points)
