"""The look-up tables of the NetAdapt authors' code (github.com/denru01/netadapt): a pickle of seconds by layer name.

``{layer name: {settings ..., "latency": {(features in, features out): seconds}}}``; layers that are alike share one entry.
The batch is an argument of the program that measures (128 by default) and is not in the file.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.importers.conv_keys import Convolution, convolution_cell, linear_cell
from netadapt_trt.lut.importers.plain_pickle import load_plain
from netadapt_trt.lut.importers.table import UNITS, Imported, identity_of, latency_once
from netadapt_trt.lut.schema import LEAST, Cell

if TYPE_CHECKING:
    from netadapt_trt.lut.importers.table import Conditions, ForeignFile

__all__ = ["import_netadapt"]

_MAX_CELLS = 2_000_000
_MAX_SIZE = 1 << 20
_HIGHEST_MS = 1e8
_Cells = dict[tuple[str, tuple[int, ...]], Cell]


def import_netadapt(file: ForeignFile, conditions: Conditions) -> Imported:
    """Cells under the keys that the planner gives the same bare convolutions and linear layers. Nothing in the file is run.

    Layers of other kinds are left out and named. Raises FileFormatError for a pickle that is no such table, naming the layer
    and what is wrong with it; and where the batch has to be said.
    """
    table = load_plain(file.data, str(file.path))
    if (
        type(table) is not dict
        or not table
        or not all(type(entry) is dict and "latency" in entry for entry in table.values())
    ):
        raise FileFormatError(
            f"{file.path} holds no table of latencies by layer name; name the file that build_lookup_table.py wrote"
        )
    if conditions.batch is None:
        raise FileFormatError(
            f"{file.path} does not say which batch was measured; add --batch "
            f"(build_lookup_table.py measures 128 unless changed)"
        )
    cells: _Cells = {}
    notices = []
    done: set[int] = set()
    left_out = []
    for name, entry in table.items():
        # Layers that are alike share one entry, and a small file may share a large one many times.
        if id(entry) in done:
            continue
        done.add(id(entry))
        where = f"{file.path}: layer {ascii(name)[:60]}"
        if entry.get("layer_type_str") in ("Conv2d", "Linear"):
            _add_layer(cells, entry, where, conditions)
        else:
            left_out.append(f"{ascii(name)[1:60]} ({ascii(entry.get('layer_type_str'))[:40]})")
        if len(cells) > _MAX_CELLS:
            raise FileFormatError(f"{where}: the table has more than {_MAX_CELLS} cells, which is more than is read")
    if left_out:
        notices.append(
            f"Left out, since only Conv2d and Linear are read: {'; '.join(left_out[:10])} ({len(left_out)} in all)"
        )
    if not cells:
        raise FileFormatError(f"{file.path} holds no Conv2d and no Linear; nothing to import")
    notices.append(
        "Timed as single eager PyTorch layers: led by the cost of a call, such a table promises little of a network"
    )
    return Imported(
        identity=identity_of(conditions, backend="pytorch", runtime="pytorch", precision="fp32", batch=conditions.batch),
        cells=tuple(cells.values()),
        notices=tuple(notices),
        settings={"format": "netadapt-pickle", "latency_file_unit": conditions.unit or "s"},
    )


def _add_layer(cells: _Cells, entry: dict[Any, Any], where: str, conditions: Conditions) -> None:
    measured = entry["latency"]
    if type(measured) is not dict:
        raise FileFormatError(f"{where}: its latency is not a table of (in, out); write the table again")
    convolution = None if entry["layer_type_str"] == "Linear" else _convolution(entry, where, conditions)
    scale = UNITS[conditions.unit or "s"]
    for at, value in measured.items():
        if type(at) is not tuple or len(at) != 2 or not all(type(size) is int and 1 <= size <= _MAX_SIZE for size in at):
            raise FileFormatError(f"{where}: {ascii(at)[:60]} is not (features in, features out); write the table again")
        if type(value) not in (int, float) or not math.isfinite(value) or not LEAST <= value * scale <= _HIGHEST_MS:
            raise FileFormatError(f"{where}, {at}: {ascii(value)[:60]} is not a time; measure it again")
        batch = conditions.batch or 1
        try:
            key = linear_cell(batch, *at) if convolution is None else convolution_cell(convolution, *at)
        except ValueError as error:
            raise FileFormatError(f"{where}, {at}: {error}; write the table again") from error
        # The first of two layers with equal keys counts: the authors' code looks no further, either.
        cells.setdefault(key, Cell(layer=key[0], widths=key[1], session="", latency_ms=latency_once(value * scale)))


def _convolution(entry: dict[Any, Any], where: str, conditions: Conditions) -> Convolution:
    size: Any = entry.get("input_feature_map_size")
    if type(size) not in (list, tuple) or len(size) != 4:
        raise FileFormatError(f"{where}: input_feature_map_size is not (1, channels, height, width); write the table again")
    depthwise, groups = entry.get("is_depthwise"), entry.get("groups", 1)
    if type(depthwise) is not bool or (not depthwise and groups != 1):
        raise FileFormatError(f"{where}: is_depthwise and groups do not fit together; write the table again")
    return Convolution(
        batch=conditions.batch or 1,
        size=_pair(size[2:], "input_feature_map_size", where),
        kernel=_pair(entry.get("kernel_size"), "kernel_size", where),
        stride=_pair(entry.get("stride"), "stride", where),
        padding=_pair(entry.get("padding"), "padding", where, lowest=0),
        depthwise=depthwise,
        activation=conditions.activation,
    )


def _pair(value: Any, name: str, where: str, lowest: int = 1) -> tuple[int, int]:
    pair: Any = (value, value) if type(value) is int else value
    if (
        type(pair) not in (list, tuple)
        or len(pair) != 2
        or any(type(item) is not int or not lowest <= item <= _MAX_SIZE for item in pair)
    ):
        raise FileFormatError(f"{where}: {name} is not a whole number or a pair of them; write the table again")
    return pair[0], pair[1]
