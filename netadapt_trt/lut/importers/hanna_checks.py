"""What is doubtful about a table of blocks: said at import, never mended. A search believes every number it is given."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["doubts"]

# Bounds of what can be: wider than any device that networks of this size are searched for.
_NETWORK_MS = (0.05, 60_000.0)
_POWER_MW = (20.0, 500_000.0)
_DEAR_SKIP = 0.25
_ONE_RUN = 3.0
"""Blocks of one network, run one after another on one device, are taken to keep within this factor in mean power."""
_SAME = 1e-3
_AGREE = 0.5


def doubts(
    latency_ms: np.ndarray, energy_mj: np.ndarray | None, power_mw: np.ndarray | None, blocks: Sequence[str]
) -> list[str]:
    """What there is to say about these arrays [layers, blocks], each a sentence. The last block is the skip."""
    tables = {"latency": latency_ms, "energy": energy_mj, "power": power_mw}
    given = {name: values for name, values in tables.items() if values is not None}
    found = [*_units(latency_ms, energy_mj, power_mw), *_skip(latency_ms), *_zeros(given)]
    for (one, first), (other, second) in combinations(given.items(), 2):
        found += _proportional_tables(one, first, other, second)
    for name, values in given.items():
        found += _proportional_columns(name, values, blocks)
    if energy_mj is not None:
        found += _runs(latency_ms, energy_mj, power_mw)
    return found


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def _units(latency_ms: np.ndarray, energy_mj: np.ndarray | None, power_mw: np.ndarray | None) -> Iterator[str]:
    network = float(np.median(latency_ms[:, :-1], axis=1).sum())
    if not _NETWORK_MS[0] <= network <= _NETWORK_MS[1]:
        yield (
            f"The unit of latency looks wrong: a network of middling blocks would take {network:.3g} ms. Nothing was "
            f"changed; say the file's unit with --unit s, ms or us"
        )
    watts = {"power": power_mw}
    if energy_mj is not None:
        watts["energy by latency"] = energy_mj[:, :-1] / latency_ms[:, :-1] * 1e3
    for name, values in watts.items():
        if values is None:
            continue
        middle = float(np.median(values))
        if not _POWER_MW[0] <= middle <= _POWER_MW[1]:
            yield (
                f"The unit of {name} looks wrong: its median is {middle / 1e3:.3g} W. Nothing was changed; energies are "
                f"read in joules, powers in watts"
            )


def _skip(latency_ms: np.ndarray) -> Iterator[str]:
    share = latency_ms[:, -1] / latency_ms[:, :-1].min(axis=1)
    dear = share[share > _DEAR_SKIP]
    if len(dear):
        yield (
            f"A skip computes nothing, but in {len(dear)} of {len(share)} layers it costs {_range(dear)} times the cheapest "
            f"block: the time of a call is in every cell, and a search will skip too little"
        )


def _zeros(given: dict[str, np.ndarray]) -> Iterator[str]:
    for name, values in given.items():
        rows = np.flatnonzero(values[:, -1] == 0) + 1
        if len(rows):
            listed = ", ".join(str(row) for row in rows)
            yield f"The {name} of skip is 0 in layers {listed}: no {name} is in the LUT there (a skip may not be offered)"


def _constant(first: np.ndarray, second: np.ndarray) -> float | None:
    """The factor between two arrays, where it is one and the same wherever either is not 0."""
    used = (first != 0) | (second != 0)
    if not used.any() or (first[used] == 0).any() or (second[used] == 0).any():
        return None
    ratio = second[used] / first[used]
    return float(np.median(ratio)) if ratio.max() - ratio.min() <= _SAME * ratio.max() else None


def _proportional_tables(one: str, first: np.ndarray, other: str, second: np.ndarray) -> Iterator[str]:
    if (factor := _constant(first, second)) is not None:
        yield (
            f"The table of {other} is that of {one} times {factor:.4g} (in the LUT's units) in every cell: it is one "
            f"measurement and no second one"
        )


def _proportional_columns(name: str, values: np.ndarray, blocks: Sequence[str]) -> Iterator[str]:
    for one, other in combinations(range(len(blocks)), 2):
        if (factor := _constant(values[:, one], values[:, other])) is not None:
            yield (
                f"The {name} of {blocks[other]} is that of {blocks[one]} times {factor:.4g} in every layer: "
                f"one of them was not measured"
            )


def _runs(latency_ms: np.ndarray, energy_mj: np.ndarray, power_mw: np.ndarray | None) -> Iterator[str]:
    """Energy by latency is a mean power, and that hardly varies, where both are of one run."""
    implied = energy_mj[:, :-1] / latency_ms[:, :-1] * 1e3
    low, high = np.quantile(implied, (0.05, 0.95))
    if high > _ONE_RUN * low:
        yield (
            f"Energy and latency are of different runs: energy by latency would be {low / 1e3:.2g} to {high / 1e3:.2g} W "
            f"(5th to 95th percentile), and one run of one device does not vary {high / low:.0f}-fold"
        )
    if power_mw is None:
        return
    ratio = implied / np.where(power_mw[:, :-1] > 0, power_mw[:, :-1], np.nan)
    apart = int((np.abs(np.log(ratio)) > _AGREE).sum())
    if apart * 2 > ratio.size:
        yield (
            f"Power does not belong to energy and latency: in {apart} of {ratio.size} cells it is more than "
            f"{np.exp(_AGREE):.1f} times off energy by latency"
        )
