"""Spaces as files: presets that come with the package, and JSON that a user writes.

A file is checked as if a stranger had written it; a key that is not known is refused, because a mistyped one would silently
mean its default.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import check_header, read_document, shown, write_document
from netadapt_trt.space.check import check_space
from netadapt_trt.space.schema import Block, Space, Stage, Stem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMAT",
    "VERSION",
    "load_space",
    "preset_names",
    "save_space",
    "space_from_json",
    "space_hash",
    "space_to_json",
]

FORMAT = "netadapt-space"
VERSION = 1
_MAX_BYTES = 1 << 20
_MAX_ITEMS = 1000


def preset_names() -> tuple[str, ...]:
    """Names of the spaces that come with the package, sorted."""
    folder = resources.files(__package__) / "presets"
    return tuple(sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")))


def load_space(name_or_path: str | Path) -> Space:
    """The preset of that name, or the space in that JSON file.

    Raises:
        SpecError: no such preset or file, or a space that cannot be built (see
            :func:`~netadapt_trt.space.check.check_space`). FileFormatError: not a space file, or a value of the wrong kind.
    """
    name, path = str(name_or_path), Path(name_or_path)
    presets = preset_names()
    if name in presets:
        return _preset(name)
    if path.suffix != ".json" and not path.exists():
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SpecError(f"no search space {shown(name)}{hint} (presets: {', '.join(presets)}; or name a JSON file)")
    if path.is_file() and path.stat().st_size > _MAX_BYTES:
        raise FileFormatError(f"{path} is larger than {_MAX_BYTES} bytes; no space is, name a {FORMAT} file")
    return space_from_json(read_document(path, format=FORMAT, version=VERSION), where=str(path))


def _preset(name: str) -> Space:
    text = (resources.files(__package__) / "presets" / f"{name}.json").read_text(encoding="utf-8")
    return space_from_json(json.loads(text), where=name)


def save_space(space: Space, path: Path) -> None:
    """Write ``space`` to ``path`` in one step. Raises OSError."""
    write_document(path, format=FORMAT, version=VERSION, content=_content(space))


def space_to_json(space: Space) -> dict[str, Any]:
    """Plain JSON values with ``format`` and ``version``; :func:`space_from_json` reads them back."""
    return {"format": FORMAT, "version": VERSION, **_content(space)}


def space_hash(space: Space) -> str:
    """16 hexadecimal digits over everything but the name: equal for spaces that are the same."""
    content = {key: value for key, value in _content(space).items() if key != "name"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def space_from_json(content: Mapping[str, Any], *, where: str = "the space") -> Space:
    """The space in a parsed document; ``where`` is what messages call it. Raises as :func:`load_space`."""
    check_header(content, where=where, format=FORMAT, version=VERSION)
    try:
        space = _space({key: value for key, value in content.items() if key not in ("format", "version")})
    except ValueError as error:
        raise FileFormatError(f"{where}: {error}") from error
    return check_space(space)


def _content(space: Space) -> dict[str, Any]:
    return {
        "name": space.name,
        "input_shape": list(space.input_shape),
        "num_classes": space.num_classes,
        "stem": {"channels": space.stem.channels, "kernel": space.stem.kernel, "stride": space.stem.stride},
        "stages": [{"channels": s.channels, "repeats": s.repeats, "stride": s.stride} for s in space.stages],
        "blocks": [{"name": b.name, "kernel": b.kernel, "expansion": b.expansion, "groups": b.groups} for b in space.blocks],
        "head_channels": space.head_channels,
        "skip": space.skip,
        "batch_norm": space.batch_norm,
    }


class _Reader:
    """Takes values out of one object of the file; ValueError names the key. :meth:`end` refuses what nobody asked for."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{where or 'it'} must be an object, not {shown(content)}")
        self._left: dict[str, Any] = dict(content)
        self._known: list[str] = []
        self._where = where

    def _take(self, key: str, default: object) -> Any:
        self._known.append(key)
        if key not in self._left:
            if default is None:
                raise ValueError(f"{self.name(key)} is missing")
            return default
        return self._left.pop(key)

    def name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def whole(self, key: str, default: int | None = None) -> int:
        return _whole(self._take(key, default), self.name(key))

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.name(key)} must be true or false, not {shown(value)}")
        return value

    def text(self, key: str) -> str:
        value = self._take(key, None)
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{self.name(key)} must be a printable text, not {shown(value)}")
        return value

    def items(self, key: str) -> list[Any]:
        value = self._take(key, None)
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise ValueError(f"{self.name(key)} must be a list of at most {_MAX_ITEMS}")
        return value

    def object(self, key: str) -> _Reader:
        return _Reader(self._take(key, None), self.name(key))

    def end(self) -> None:
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(self._known)}"
            raise ValueError(f"the key {shown(key)}{f' in {self._where}' if self._where else ''} is unknown{hint}")


def _whole(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where} must be a whole number, not {shown(value)}")
    return value


def _space(content: Mapping[str, Any]) -> Space:
    reader = _Reader(dict(content), "")
    name = reader.text("name")
    sizes = [_whole(size, f"input_shape[{index}]") for index, size in enumerate(reader.items("input_shape"))]
    if len(sizes) != 3:
        raise ValueError(f"input_shape has {len(sizes)} sizes; it is [channels, height, width] of one picture")
    space = Space(
        name=name,
        input_shape=(sizes[0], sizes[1], sizes[2]),
        num_classes=reader.whole("num_classes"),
        stem=_stem(reader.object("stem")),
        stages=tuple(_stage(_Reader(item, f"stages[{index}]")) for index, item in enumerate(reader.items("stages"))),
        blocks=tuple(_block(_Reader(item, f"blocks[{index}]")) for index, item in enumerate(reader.items("blocks"))),
        head_channels=reader.whole("head_channels"),
        skip=reader.flag("skip", True),
        batch_norm=reader.flag("batch_norm", True),
    )
    reader.end()
    return space


def _stem(reader: _Reader) -> Stem:
    stem = Stem(channels=reader.whole("channels"), kernel=reader.whole("kernel", 3), stride=reader.whole("stride", 2))
    reader.end()
    return stem


def _stage(reader: _Reader) -> Stage:
    stage = Stage(channels=reader.whole("channels"), repeats=reader.whole("repeats"), stride=reader.whole("stride", 1))
    reader.end()
    return stage


def _block(reader: _Reader) -> Block:
    block = Block(
        name=reader.text("name"),
        kernel=reader.whole("kernel"),
        expansion=reader.whole("expansion"),
        groups=reader.whole("groups", 1),
    )
    reader.end()
    return block
