"""Files that mean harm, or that chance has damaged: lines of LUTs, and pickles that would run something if they could."""

from __future__ import annotations

import json
import math
import pickle  # noqa: TID251 - these are written, and only ever read by our own reader
import re
import struct
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.fields import parse_object
from netadapt_trt.lut.importers.netadapt_table import import_netadapt
from netadapt_trt.lut.importers.table import Conditions, ForeignFile
from netadapt_trt.lut.lint.check import check
from netadapt_trt.lut.schema import LEAST, format_record, parse_record
from netadapt_trt.lut.store import parse_lut
from netadapt_trt.lut.summary import summarise

if TYPE_CHECKING:
    import random

__all__ = [
    "attacks", "lut_complaint", "mutated_lut", "mutated_pickle", "other_figures", "pickle_complaint", "table_pickle",
]  # fmt: skip

SPICES = [
    b"NaN", b"-1", b"1e400", b"{", b"}", b"[", b"]", b'"', b"\n", b"\0", b"\xff", b"null", b"true", b"\\ud800", b",",
    b"[" * 5000, b"9" * 400, b"9" * 5000, b'{"type": "cell"}', b'"session"', b"\r\n", b"\xef\xbb\xbf", b"\xc0\xaf",
    b"[" * 100_000,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 1e-300, 1e300, "", "x" * 70_000, "\u0000", [], {}, [[]], {"median": "fast"}, [1, "a"], -0.0,
    2**63, [0], {"": 1},
]  # fmt: skip
FIGURES = [
    b"5e-324", b"1e-309", b"1e-12", b"1e-9", b"1e-6", b"0", b"0.001", b"0.05", b"1", b"3", b"7", b"20", b"999.9", b"65536",
    b"2147483648", b"1e9", b"1e12", b"1e200", b"1e300",
]  # fmt: skip
"""What a figure may be and still be read, or hardly not."""
_FIGURE = re.compile(rb"(?<=[\[ ])-?\d[\d.e+-]*(?=[,}\]])")


def mutated_lut(data: bytes, draw: random.Random) -> bytes:
    """``data`` after one to five damages: bytes, cuts, lines moved, doubled or lost, values of other types and sizes,
    figures at the bounds of what is read."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, length = draw.randrange(len(data) + 1), draw.choice((0, 1, 1, 4, 40))
        match draw.randrange(8):
            case 0:
                data = data[:at] + draw.choice(SPICES) + data[at + length :]
            case 1:
                data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[at + length :]
            case 4:
                parts = data.split(b"\n")
                draw.shuffle(parts)
                data = b"\n".join(parts)
            case 5:
                parts = data.split(b"\n")
                parts.insert(draw.randrange(len(parts) + 1), draw.choice(parts))
                data = b"\n".join(parts)
            case 6:
                data = _other_value(data, draw)
            case 7:
                data = other_figures(data, draw, draw.choice((1, 1, 3)))
        data = data or b"\n"
    return data


def other_figures(data: bytes, draw: random.Random, count: int) -> bytes:
    """``count`` figures replaced by others that a table may hold, or hardly not: still JSON, line by line.

    Half of the times that are hit grow or shrink as a whole, so that they keep their order and the line is read.
    """
    lines = data.split(b"\n")
    for _ in range(count):
        row = draw.randrange(len(lines))
        content = _object(lines[row])
        stats = content.get("latency_ms")
        if isinstance(stats, dict) and draw.random() < 0.5:
            factor = 10.0 ** draw.randint(-20, 20)
            for name in ("p10", "median", "p90"):
                stats[name] = min(max(float(stats[name]) * factor, LEAST), 1e12)
            lines[row] = json.dumps(content).encode()
        elif places := list(_FIGURE.finditer(lines[row])):
            place = draw.choice(places)
            lines[row] = lines[row][: place.start()] + draw.choice(FIGURES) + lines[row][place.end() :]
    return b"\n".join(lines)


def _object(line: bytes) -> dict[str, Any]:
    try:
        content = parse_object(line)
        for name in ("p10", "median", "p90"):
            float(content["latency_ms"][name])
    except (ValueError, TypeError, KeyError):
        return {}
    return content


def _other_value(data: bytes, draw: random.Random) -> bytes:
    """One value somewhere in one line replaced, or made a thousand times larger."""
    lines = data.split(b"\n")
    row = draw.randrange(len(lines))
    try:
        content = json.loads(lines[row])
    except (ValueError, RecursionError):
        return data
    at = content
    while isinstance(at, dict | list) and at:
        key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if draw.random() < 0.4 or not isinstance(at[key], dict | list) or not at[key]:
            old = at[key]
            grows = isinstance(old, int | float) and draw.random() < 0.4
            at[key] = old * draw.choice((1e3, 1e-3, -1, 1e20, math.inf)) if grows else draw.choice(VALUES)
            break
        at = at[key]
    lines[row] = json.dumps(content).encode()
    return b"\n".join(lines)


def lut_complaint(data: bytes) -> str | None:
    """What the reader says of this table; None where it takes it, and then it can be shown and checked."""
    try:
        lut = parse_lut(data, Path("fuzz"))
        summarise(lut)
        check(lut)
    except FileFormatError as error:
        return str(error)
    return None


def pickle_complaint(data: bytes) -> str | None:
    """What the importer says of this pickle; None where it is a table, and then its cells can be written."""
    try:
        table = import_netadapt(ForeignFile(Path("fuzz"), data, ""), Conditions(device="fuzz", batch=1))
        for cell in table.cells:
            parse_record(parse_object(format_record(replace(cell, session="s1")).encode()))
    except FileFormatError as error:
        return str(error)
    return None


class _Reduced:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def table_pickle(protocol: int) -> bytes:
    """A small table as the NetAdapt authors' code writes it."""
    entry = {
        "is_depthwise": False, "num_in_channels": 3, "num_out_channels": 16, "kernel_size": (3, 3), "stride": (2, 2),
        "padding": (1, 1), "groups": 1, "layer_type_str": "Conv2d", "input_feature_map_size": [1, 3, 32, 32],
        "latency": {(3, 8): 0.001, (3, 16): 0.002},
    }  # fmt: skip
    return pickle.dumps(OrderedDict(conv1=entry, conv2=entry), protocol)


def attacks(canary: Path) -> dict[str, bytes]:
    """Pickles by name, each of which would make the file ``canary`` if it were run, or exhaust whoever reads it."""
    import builtins
    import os
    import subprocess

    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    calls = {
        "os.system": _Reduced(os.system, shell),
        "eval": _Reduced(builtins.eval, code),
        "exec": _Reduced(builtins.exec, code),
        "open": _Reduced(open, str(canary), "w"),
        "subprocess": _Reduced(subprocess.call, ["touch", str(canary)]),
        "import": _Reduced(__import__, "antigravity"),
    }
    made = {}
    for name, value in calls.items():
        for protocol in range(6):
            made[f"{name} in protocol {protocol}"] = pickle.dumps(value, protocol)
            nested = OrderedDict(conv={"latency": {(1, 1): [value]}})
            made[f"{name} nested in protocol {protocol}"] = pickle.dumps(nested, protocol)
    return made | _assembled(shell.encode(), code.encode())


def _assembled(shell: bytes, code: bytes) -> dict[str, bytes]:
    """Instructions that Python's writer does not use for this, byte by byte."""
    text = b"X" + struct.pack("<I", len(shell)) + shell
    short = b"\x8c" + bytes([len(shell)]) + shell
    named = b"\x8c\x02os\x8c\x06system\x93"
    return {
        "INST": b"(" + text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x04" + named + short + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named + short + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04" + named + short + b"\x85R.",
        "STACK_GLOBAL with dots": b"\x80\x04\x8c\x0bcollections\x8c\x17abc.sys.modules.os.system\x93" + short + b"\x85R.",
        "below an admitted module": b"cnumpy\nsave\n" + text + b"\x85R.",
        "admitted name, other call": b"ccollections\nOrderedDict\n" + text + b"\x85R.",
        "state of an OrderedDict": b"ccollections\nOrderedDict\n)R}" + b"X\x01\x00\x00\x00a" + text + b"sb.",
        "eval by GLOBAL": b"c__builtin__\neval\n(S'" + code.replace(b"'", b'"') + b"'\ntR.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"Pos.system\n.",
        "BINPERSID": b"\x80\x02" + text + b"Q.",
        "BUILD": b"}}b.",
        "BINBYTES8 of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
        "BINUNICODE8 of 2^60": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
        "BINBYTES of 2^32": b"\x80\x03B\xff\xff\xff\xff.",
        "BINSTRING of -1": b"T\xff\xff\xff\xffx.",
        "BYTEARRAY8 of 2^60": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".",
        "FRAME of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        "LONG4 of 2^30": b"\x80\x02\x8b\x00\x00\x00\x40.",
        "LONG of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
        "INT with two signs": b"I--5\n.",
        "lists in lists": b"]" * 90_000 + b"a" * 89_999 + b".",
        "more lists than admitted": b"]" * 200_000 + b".",
        "tuples in tuples": b")" + b"\x85" * 100_000 + b".",
        "tuples in tuples as a key": b"})" + b"\x85" * 100_000 + b"Ns.",
        "marks in marks": b"(" * 100_000 + b".",
        "a list in itself": b"]q\x00h\x00a.",
        "twice as much at every level": b"]q\x00" + b"".join(
            b"]" + (b"h" + bytes([level]) + b"a") * 2 + b"q" + bytes([level + 1]) for level in range(60)
        ) + b".",
        "a set made of a large list, often": b"](" + b"N" * 400_000 + b"eq\x00" + b"cbuiltins\nset\nh\x00\x85R0" * 9 + b"N.",
        "memo entry of 2^32": b"Nr\xff\xff\xff\xff.",
        "memo entry that is not there": b"j\xff\xff\xff\x7f.",
        "key that is a list": b"}]Ns.",
        "value from nothing": b".",
        "mark from nothing": b"t.",
        "setitems on a number": b"K\x01(K\x01K\x02u.",
        "unknown instruction": b"\xff.",
        "protocol 9": b"\x80\x09N.",
        "a name as the value": b"ccollections\nOrderedDict\n.",
        "a name in a tuple": b"ccollections\nOrderedDict\n\x85.",
        "broken surrogate": b"V\\ud800\\uXYZ\n.",
        "no end": b"]",
        "nothing": b"",
    }  # fmt: skip


def mutated_pickle(data: bytes, draw: random.Random) -> bytes:
    """``data`` with bytes changed, cut or repeated, or with a program of random instructions in its midst."""
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] or b"."
            case 2:
                data = data[:at] + data[at + draw.randrange(8) :]
            case 3:
                data = (
                    data[:at]
                    + bytes(draw.choices(b"()]}.0123NIJKMLFGSTUVXBCabcdeghijloPpqRrstu\x80\x85\x90\x93\x94", k=8))
                    + data[at:]
                )
            case 4:
                data = data[:at] + data[at // 2 : at] * draw.randrange(1, 4) + data[at:]
    return data
