"""Tables of a search over blocks: one cell for each layer and each block that may stand in it.

Such a cell is no layer of ours. Its source says "layer 3, block k5_e6" and not what is in it, so its key is a name, says
so, and matches nothing that a backend makes of a plan. Everything else about it is as in any cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import CoverageError

if TYPE_CHECKING:
    from netadapt_trt.lut.store import Lut

__all__ = ["BlockTable", "block_key", "is_block_key", "read_block_table"]

_KEY = re.compile(r"named block, no ONNX fragment: layer=(\d+) block=([\w.-]+)")
_MAX_LAYERS = 10_000


def block_key(layer: int, block: str) -> str:
    """The key of ``block`` in ``layer`` (from 1), for example ``named block, no ONNX fragment: layer=3 block=skip``."""
    return f"named block, no ONNX fragment: layer={layer} block={block}"


def is_block_key(key: str) -> bool:
    """Whether ``key`` names a block, and no fragment that a backend makes of a plan."""
    return _KEY.fullmatch(key) is not None


@dataclass(frozen=True, slots=True)
class BlockTable:
    """What each block costs in each layer: ``latency_ms`` and ``energy_mj`` are float arrays [layers, blocks].

    ``layers`` are the numbers of the rows, from 1 as the source counts them; ``blocks`` the names of the columns. NaN where
    the table does not say, as for a skip that its layer does not offer.
    """

    layers: tuple[int, ...]
    blocks: tuple[str, ...]
    latency_ms: np.ndarray
    energy_mj: np.ndarray


def read_block_table(lut: Lut) -> BlockTable:
    """The blocks of ``lut`` as arrays, rows by number, columns in the table's order; cells of other layers are left alone.

    Raises CoverageError for a table without any block.
    """
    found: dict[tuple[int, str], tuple[float, float]] = {}
    for key in lut.layers():
        match = _KEY.fullmatch(key)
        cell = lut.cell(key, ())
        if match is None or cell is None or len(match[1]) > 6 or int(match[1]) > _MAX_LAYERS:
            continue
        latency = np.nan if cell.latency_ms is None else cell.latency_ms.median
        found[int(match[1]), match[2]] = (latency, np.nan if cell.energy_mj is None else cell.energy_mj.total)
    if not found:
        raise CoverageError(
            f"{lut.path or 'the LUT'} holds no blocks of a search; make such a table with: netadapt-trt lut import FILE "
            f"--format hanna -o OUT.lut.jsonl"
        )
    layers = tuple(sorted({layer for layer, _ in found}))
    blocks = tuple(dict.fromkeys(block for _, block in found))
    values = np.array([[found.get((layer, block), (np.nan, np.nan)) for block in blocks] for layer in layers])
    return BlockTable(layers, blocks, values[:, :, 0].copy(), values[:, :, 1].copy())
