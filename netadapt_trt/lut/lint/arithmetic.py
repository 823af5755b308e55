"""What a layer's key tells about its work: whether it computes anything, and how many multiply-accumulates.

Keys are written by :mod:`netadapt_trt.plan.key`; tables from elsewhere have keys of their own, where the last word counts.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from netadapt_trt.plan.key import letters

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_skip", "macs", "place_of", "shape_in"]

_OP = re.compile(r"(?P<name>[A-Za-z]\w*)\((?P<inside>[^()]*)\)=(?P<outs>[^()]*?)(?= [A-Za-z]\w*\(|$)")
_INPUT = re.compile(r"(?P<name>x\d+)\[(?P<shape>[^\]]*)\]")
_TERM = re.compile(r"(?P<factor>\d*)(?P<letter>[a-z]*)")
_PRODUCTS = ("Conv", "Gemm", "MatMul")
# These leave the shape of their first operand as it is.
_SAME_SHAPE = (
    "Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Selu", "PRelu", "Tanh", "Erf", "Softmax",
    "Identity", "Add", "Sub", "Mul", "Div", "QuantizeLinear", "DequantizeLinear", "Cast", "BatchNormalization",
)  # fmt: skip
_MAX_DIGITS = 9
_MOST = 10**18  # no layer does a minute's work of the fastest machine; a key that says so is damaged


class _Op(NamedTuple):
    name: str
    operands: tuple[str, ...]
    attributes: dict[str, str]
    out: str


@lru_cache(maxsize=4096)
def _ops(key: str) -> tuple[_Op, ...]:
    """The operators of a key; () for one that is not ours."""
    found = []
    for match in _OP.finditer(key):
        words = match["inside"].split(" ")
        attributes = dict(word.split("=", 1) for word in words if "=" in word)
        operands = tuple(word for word in words if word and "=" not in word)
        found.append(_Op(match["name"], operands, attributes, match["outs"].split(" ")[0]))
    return tuple(found)


def is_skip(key: str) -> bool:
    """Whether the layer computes nothing: no convolution and no matrix product, or a foreign key that ends in ``skip`` (or
    ``block=skip``, as :func:`netadapt_trt.lut.blocks.block_key` writes it)."""
    ops = _ops(key)
    if not ops:
        return key.rpartition(" ")[2].rpartition("=")[2] == "skip"
    return not any(product in op.name for op in ops for product in _PRODUCTS)


def place_of(key: str) -> str:
    """Where in a network the layer may stand: its inputs, or a foreign key without its last word, which names the block."""
    if _ops(key):
        return " ".join(match.group() for match in _INPUT.finditer(key))
    return key.rpartition(" ")[0]


def shape_in(key: str, widths: Sequence[int]) -> tuple[int, ...] | None:
    """The sizes of the first input at these widths; None where the key does not tell."""
    match = _INPUT.match(key)
    return _shape(match["shape"], _values(widths)) if match else None


def macs(key: str, widths: Sequence[int]) -> int | None:
    """Multiply-accumulates of one run; None where the key does not tell them."""
    if not _ops(key):
        return None
    values = _values(widths)
    shapes = {match["name"]: _shape(match["shape"], values) for match in _INPUT.finditer(key)}
    total = 0
    for op in _ops(key):
        data = shapes.get(op.operands[0]) if op.operands else None
        if any(product in op.name for product in _PRODUCTS):
            done = _product(op, data, values)
            if done is None:
                return None
            count, shapes[op.out] = done
            total += count
            if total > _MOST:
                return None
        elif op.name in _SAME_SHAPE:
            shapes[op.out] = data
        elif op.name == "GlobalAveragePool" and data is not None:
            shapes[op.out] = (*data[:2], *(1 for _ in data[2:]))
    return total


def _product(op: _Op, data: tuple[int, ...] | None, values: dict[str, int]) -> tuple[int, tuple[int, ...]] | None:
    """(multiply-accumulates, shape of the result); None where shapes are not known."""
    weight = next((_shape(word[1:].split("]")[0], values) for word in op.operands if word.startswith("[")), None)
    if data is None or not weight:
        return None
    if op.name == "Conv":
        if len(weight) != len(data) or len(data) < 3:
            return None
        out = _spatial(op, data[2:], weight[2:])
        return data[0] * math.prod(weight) * math.prod(out), (data[0], weight[0], *out)
    if op.name in ("Gemm", "MatMul") and len(weight) == 2 and op.attributes.get("transA", "0") == "0":
        columns = weight[0] if op.attributes.get("transB", "0") == "1" else weight[1]
        return math.prod(data[:-1]) * math.prod(weight), (*data[:-1], columns)
    return None


def _spatial(op: _Op, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
    """Output height and width of a convolution."""
    ones, n = [1] * len(size), len(size)
    strides, dilations = _numbers(op, "strides") or ones, _numbers(op, "dilations") or ones
    pads = _numbers(op, "pads") or [0] * (2 * n)
    if not len(strides) == len(dilations) == n or len(pads) != 2 * n or 0 in strides:
        return tuple(size)
    if op.attributes.get("auto_pad", "").startswith("SAME"):
        return tuple(-(-size[i] // strides[i]) for i in range(n))
    reach = [dilations[i] * (kernel[i] - 1) + 1 for i in range(n)]
    return tuple(max((size[i] + pads[i] + pads[i + n] - reach[i]) // strides[i] + 1, 1) for i in range(n))


def _numbers(op: _Op, name: str) -> list[int]:
    words = op.attributes.get(name, "").split(",")
    return [int(word) for word in words] if all(word.isdecimal() and len(word) <= _MAX_DIGITS for word in words) else []


def _values(widths: Sequence[int]) -> dict[str, int]:
    return {letters(index): width for index, width in enumerate(widths)}


def _shape(text: str, values: dict[str, int]) -> tuple[int, ...] | None:
    """``1,2a+3,8,8`` with the letters' values; None where it is no shape or holds a letter without one."""
    sizes = []
    for size in text.split(","):
        total = 0
        for term in size.split("+"):
            match = _TERM.fullmatch(term)
            if not term or match is None or len(match["factor"]) > _MAX_DIGITS:
                return None
            if match["letter"] and match["letter"] not in values:
                return None
            total += int(match["factor"] or 1) * (values[match["letter"]] if match["letter"] else 1)
        sizes.append(total)
    return tuple(sizes)
