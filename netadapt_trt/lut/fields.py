"""Strict JSON for files that may come from anybody: one line in, checked values out, ValueError with the reason otherwise.

Python's reader alone accepts NaN, keeps the last of two equal keys, and recurses as deep as the text does; a table of
measurements must do none of that. Nothing here knows what a LUT is.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_COUNT", "MAX_LINE_BYTES", "Fields", "parse_object"]

MAX_LINE_BYTES = 1 << 20
"""No line we write comes near; a longer one is not ours and is not worth the memory."""

MAX_COUNT = 1 << 31
_MAX_TEXT = 1 << 16
_MAX_ITEMS = 1 << 16


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} appears twice")
    return content


def parse_object(line: bytes) -> dict[str, Any]:
    """One JSON object from one line.

    Raises:
        ValueError: anything that is not a plain object: no UTF-8, NaN, a repeated key, absurd nesting or length.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"it is {len(line)} bytes long; at most {MAX_LINE_BYTES} are read")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from error
    try:
        content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("a JSON object was expected")
    return content


class Fields:
    """Typed access to the values of one parsed object; every complaint names the key. Unknown keys are left alone."""

    def __init__(self, content: Mapping[str, Any], where: str = "") -> None:
        self._content = content
        self._where = where

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def _need(self, key: str) -> Any:
        if key not in self._content:
            raise ValueError(f"{self._name(key)} is missing")
        return self._content[key]

    def has(self, key: str) -> bool:
        """True when the key is there and not null."""
        return self._content.get(key) is not None

    def text(self, key: str) -> str:
        """A printable string: what is shown in a terminal must not carry control characters."""
        return self._text(self._need(key), self._name(key))

    def _text(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text")
        if len(value) > _MAX_TEXT:
            raise ValueError(f"{name} is longer than {_MAX_TEXT} characters")
        if not value.isprintable():  # False for control characters and for lone surrogates
            raise ValueError(f"{name} holds characters that cannot be printed")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of printable strings; () when the key is absent."""
        items = self._content.get(key, [])
        if not isinstance(items, list) or len(items) > _MAX_ITEMS:
            raise ValueError(f"{self._name(key)} must be a list of texts")
        return tuple(self._text(item, f"{self._name(key)}[{index}]") for index, item in enumerate(items))

    def number(self, key: str, *, low: float = 0.0, above: bool = True, high: float = 1e12) -> float:
        """A finite number above ``low`` (or at least ``low`` when not ``above``), at most ``high``."""
        return self._number(self._need(key), self._name(key), low=low, above=above, high=high)

    def _number(self, value: Any, name: str, *, low: float, above: bool, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite")
        if value > high or value < low or (above and value <= low):
            raise ValueError(f"{name} must be {'above' if above else 'at least'} {low:g} and at most {high:g}")
        return float(value)

    def numbers(self, key: str, *, low: float, above: bool) -> dict[str, float]:
        """Numbers by name; {} when the key is absent."""
        content = self._mapping(key)
        return {
            self._text(name, f"a name in {self._name(key)}"): self._number(
                value, f"{self._name(key)}.{name[:60]}", low=low, above=above, high=1e12
            )
            for name, value in content.items()
        }

    def count(self, key: str) -> int:
        """An integer of at least 1."""
        return self._count(self._need(key), self._name(key))

    def _count(self, value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
            raise ValueError(f"{name} must be an integer from 1 to {MAX_COUNT}")
        return value

    def counts(self, key: str) -> tuple[int, ...]:
        """A list of integers of at least 1."""
        items = self._need(key)
        if not isinstance(items, list) or len(items) > _MAX_ITEMS:
            raise ValueError(f"{self._name(key)} must be a list of integers")
        return tuple(self._count(item, f"{self._name(key)}[{index}]") for index, item in enumerate(items))

    def counts_by_name(self, key: str) -> dict[str, int]:
        """Integers of at least 1 by name, in the order of the file."""
        self._need(key)
        content = self._mapping(key)
        return {
            self._text(name, f"a name in {self._name(key)}"): self._count(value, f"{self._name(key)}.{name[:60]}")
            for name, value in content.items()
        }

    def scalars(self, key: str) -> dict[str, str | float | None]:
        """Texts, finite numbers and nulls by name; {} when the key is absent."""
        result: dict[str, str | float | None] = {}
        for name, value in self._mapping(key).items():
            label = f"{self._name(key)}.{name[:60]}"
            self._text(name, f"a name in {self._name(key)}")
            if value is None or isinstance(value, str):
                result[name] = None if value is None else self._text(value, label)
            else:
                self._number(value, label, low=-1e300, above=False, high=1e300)
                result[name] = value
        return result

    def group(self, key: str) -> Fields:
        """The object under ``key``."""
        value = self._need(key)
        if not isinstance(value, dict):
            raise ValueError(f"{self._name(key)} must be an object")
        return Fields(value, self._name(key))

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._content.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
            raise ValueError(f"{self._name(key)} must be an object")
        return value
