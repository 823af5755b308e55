"""The names that a pickle of plain values may use, and what each stands for: a few lines here, never what the name says.

Python's own writer needs them for ordered dictionaries, for sets and bytes in old protocols, and for numpy's numbers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "Name", "NumpyKind", "RefusalError", "flat_key", "pairs_of"]

_SCALARS = (str, bytes, int, float, bool, type(None))
_MAX_PARTS = 16
_NUMPY_KINDS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B",
    "b1": "?",
}  # fmt: skip


class RefusalError(ValueError):
    """What is said of an instruction that is not carried out; the place is added on the way out."""


class Name:
    """An admitted name on the stack: it stands for ``make`` of the arguments and for nothing else."""

    def __init__(self, make: Callable[[tuple[Any, ...]], Any]) -> None:
        self.make = make


class NumpyKind:
    """A numpy type, as far as it is needed to read one number: ``code`` as "f8", ``order`` "<" or ">"."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


def flat_key(value: Any) -> Any:
    """``value`` as a key. Hashing goes as deep as a tuple does, so only flat ones are admitted. Raises RefusalError."""
    parts = value if type(value) is tuple else (value,)
    if len(parts) > _MAX_PARTS or any(type(part) not in _SCALARS for part in parts):
        raise RefusalError("a key is neither a text, a number, nor a short tuple of these")
    return value


def pairs_of(items: list[Any]) -> list[tuple[Any, Any]]:
    """key, value, key, value ... as pairs. Raises RefusalError for a key without a value, or one that is not flat."""
    if len(items) % 2:
        raise RefusalError("a key has no value")
    return [(flat_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = arguments[0] if len(arguments) == 1 and type(arguments[0]) is list else []
    broken = any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs)
    if len(arguments) > 1 or broken or (arguments and type(arguments[0]) is not list):
        raise RefusalError("an OrderedDict is not made of pairs")
    return dict(pairs_of([item for pair in pairs for item in pair]))


def _members(arguments: tuple[Any, ...]) -> set[Any]:
    if len(arguments) != 1 or type(arguments[0]) is not list:
        raise RefusalError("a set is not made of a list")
    return {flat_key(value) for value in arguments[0]}


def _latin(arguments: tuple[Any, ...]) -> bytes:
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] not in ("latin1", "latin-1"):
        raise RefusalError("bytes are not written as Latin-1")
    try:
        return arguments[0].encode("latin-1")
    except UnicodeEncodeError as error:
        raise RefusalError("bytes are not written as Latin-1") from error


def _numpy_kind(arguments: tuple[Any, ...]) -> NumpyKind:
    if not arguments or type(arguments[0]) is not str or arguments[0] not in _NUMPY_KINDS:
        raise RefusalError("it makes a numpy type that is no number")
    return NumpyKind(arguments[0])


def _numpy_number(arguments: tuple[Any, ...]) -> int | float | bool:
    if len(arguments) != 2 or type(arguments[0]) is not NumpyKind or type(arguments[1]) not in (str, bytes):
        raise RefusalError("a numpy number is incomplete")
    kind, raw = arguments
    form = kind.order + _NUMPY_KINDS[kind.code]
    data = _latin((raw, "latin1")) if type(raw) is str else raw
    if len(data) != struct.calcsize(form):
        raise RefusalError("a numpy number has another size than its type")
    value: int | float | bool = struct.unpack(form, data)[0]
    return value


NAMES = {
    ("collections", "OrderedDict"): Name(_ordered),
    ("builtins", "set"): Name(_members),
    ("__builtin__", "set"): Name(_members),
    ("builtins", "frozenset"): Name(lambda arguments: frozenset(_members(arguments))),
    ("__builtin__", "frozenset"): Name(lambda arguments: frozenset(_members(arguments))),
    ("_codecs", "encode"): Name(_latin),
    ("numpy", "dtype"): Name(_numpy_kind),
    ("numpy.core.multiarray", "scalar"): Name(_numpy_number),
    ("numpy._core.multiarray", "scalar"): Name(_numpy_number),
}
"""(module, attribute) as the file writes it. Exactly these; nothing below a module is admitted for being below it."""
