"""Reads a pickle that holds nothing but containers, texts and numbers, without Python's own reader.

A pickle is a program, and Python's reader runs it: it imports what it names and calls what it says. This one is a machine
that cannot do either. It knows the instructions that build plain values, and a handful of names, each of which stands for a
few lines here; nothing is ever imported or called by name. What a file may cost is bounded, too: bytes, instructions,
containers, depth, the length of a number. The instructions and their arguments are those of Python's ``pickletools``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.importers.pickle_names import NAMES, Name, NumpyKind, RefusalError, flat_key, pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_BYTES", "load_plain"]

MAX_BYTES = 1 << 25
"""32 MiB: a hundred times the tables that the NetAdapt authors' code makes."""
_MAX_STEPS = 4_000_000
_MAX_CONTAINERS = 100_000
_MAX_DEPTH = 16
_MAX_LINE = 1 << 16
_MAX_DIGITS = 40

_REFUSED = {
    "i": "INST (makes an object)", "o": "OBJ (makes an object)", "\x81": "NEWOBJ (makes an object)",
    "\x92": "NEWOBJ_EX (makes an object)", "\x82": "EXT1 (a registered extension)", "\x83": "EXT2 (a registered extension)",
    "\x84": "EXT4 (a registered extension)", "P": "PERSID (something outside the file)",
    "Q": "BINPERSID (something outside the file)", "\x97": "NEXT_BUFFER (something outside the file)",
    "\x98": "READONLY_BUFFER (something outside the file)", "\x96": "BYTEARRAY8 (a byte array)",
    "\x8b": "LONG4 (a number of more than 255 bytes)",
}  # fmt: skip


def load_plain(data: bytes, where: str) -> Any:
    """The value in ``data``: dict, list, tuple, set, frozenset, str, bytes, bool, None, int, float.

    An OrderedDict comes back as dict, a numpy number as the plain one. Keys and members of sets are numbers, texts, or
    tuples of them. Raises FileFormatError, beginning with ``where`` and the byte, for everything else.
    """
    if len(data) > MAX_BYTES:
        raise FileFormatError(f"{where} has {len(data)} bytes; at most {MAX_BYTES} are read from a pickle")
    machine = _Machine(data)
    try:
        value = machine.run()
        _require_shallow(value)
    except RefusalError as error:
        raise FileFormatError(
            f"{where} byte {machine.begin}: {error}. Only containers, texts and numbers are read from a pickle, and "
            f"nothing in it was run; where it is a table, write it with plain Python values"
        ) from error
    return value


def _require_shallow(value: Any) -> None:
    """Level by level, so that no depth costs more than its containers."""
    level, seen = [value], set[int]()
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, Name | NumpyKind):
                raise RefusalError("it uses the name of something as a value")
            if id(item) in seen or not isinstance(item, dict | list | tuple | set | frozenset):
                continue
            seen.add(id(item))
            below.extend(item)
            if isinstance(item, dict):
                below.extend(item.values())
        if not below:
            return
        level = below
    raise RefusalError(f"it is nested more than {_MAX_DEPTH} deep")


class _Machine:
    """The stack machine that a pickle is a program of. Every method that takes no argument and has an opcode is a step."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.begin = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps = 0
        self._containers = 0

    def run(self) -> Any:
        if not self._data:
            raise RefusalError("the file is empty")
        while True:
            self.begin = self._at
            code = chr(self._take(1)[0])
            self._spend(1)
            if code == ".":
                return self._plain(self._pop())
            step = _STEPS.get(code)
            if step is None:
                reason = f"instruction {_REFUSED[code]}" if code in _REFUSED else f"{code!r} is no instruction of a pickle"
                raise RefusalError(f"{reason} is not carried out" if code in _REFUSED else reason)
            step(self)

    # What a step may cost.

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise RefusalError(f"it takes more than {_MAX_STEPS} steps")

    def _container(self, value: Any) -> Any:
        self._containers += 1
        if self._containers > _MAX_CONTAINERS:
            raise RefusalError(f"it makes more than {_MAX_CONTAINERS} containers")
        return value

    # The bytes.

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise RefusalError(f"{count} bytes are announced and {len(self._data) - self._at} follow")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + _MAX_LINE)
        if end < 0:
            raise RefusalError("a line does not end")
        return self._take(end + 1 - self._at)[:-1].decode("latin-1")

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusalError("a text is not UTF-8") from error

    # The stack.

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def _floor(self) -> int:
        return self._marks[-1] if self._marks else 0

    def _pop(self) -> Any:
        if len(self._stack) <= self._floor():
            raise RefusalError("it takes a value from an empty stack")
        return self._stack.pop()

    def _plain(self, value: Any) -> Any:
        """A name alone, or half a numpy number, is no value."""
        if isinstance(value, Name | NumpyKind):
            raise RefusalError("it uses the name of something as a value")
        return value

    def _top(self, kind: type) -> Any:
        if len(self._stack) <= self._floor() or type(self._stack[-1]) is not kind:
            raise RefusalError(f"it puts something into what is not a {kind.__name__}")
        return self._stack[-1]

    def _marked(self) -> list[Any]:
        if not self._marks:
            raise RefusalError("it goes back to a mark that is not there")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    # Steps: control.

    def protocol(self) -> None:
        if (number := self._take(1)[0]) > 5:
            raise RefusalError(f"protocol {number} is unknown; known up to 5")

    def frame(self) -> None:
        if (length := self.number("<Q")) > len(self._data) - self._at:
            raise RefusalError(f"a frame of {length} bytes is announced and {len(self._data) - self._at} follow")

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()  # a mark can be taken off like a value
        else:
            self._pop()

    def duplicate(self) -> None:
        value = self._pop()
        self._stack += [value, value]

    # Steps: numbers and texts.

    def integer_line(self) -> None:
        text = self.line().removesuffix("L")
        if text in ("00", "01"):
            self.push(text == "01")
        elif len(text) > _MAX_DIGITS or not text.removeprefix("-").isdecimal() or not text.isascii():
            raise RefusalError("a number cannot be read")
        else:
            self.push(int(text))

    def float_line(self) -> None:
        text = self.line()
        try:
            self.push(float(text[:_MAX_LINE]))
        except ValueError as error:
            raise RefusalError("a number cannot be read") from error

    def long_bytes(self) -> None:
        length = self._take(1)[0]
        if length > 16:
            raise RefusalError(f"a number has {length} bytes; at most 16 are read")
        self.push(int.from_bytes(self._take(length), "little", signed=True))

    def quoted_line(self) -> None:
        text = self.line()
        if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"" or "\\" in text:
            raise RefusalError("a text is not quoted, or has escapes in it")
        self.push(text[1:-1])

    def unicode_line(self) -> None:
        try:
            self.push(self.line().encode("latin-1").decode("raw-unicode-escape"))
        except UnicodeDecodeError as error:
            raise RefusalError("a text has a broken escape") from error

    def text(self, form: str) -> None:
        self.push(self._text(self.number(form)))

    def bytes_as_text(self, form: str) -> None:
        length = self.number(form)
        if length < 0:
            raise RefusalError("a text has a negative length")
        self.push(self._take(length).decode("latin-1"))  # Python 2 did not say which

    def raw(self, form: str) -> None:
        self.push(self._take(self.number(form)))

    # Steps: containers.

    def append(self) -> None:
        value = self._plain(self._pop())
        self._top(list).append(value)

    def appends(self) -> None:
        values = [self._plain(value) for value in self._marked()]
        self._top(list).extend(values)

    def tuple_of(self, count: int) -> None:
        # Not plain yet: the arguments of an admitted name are a tuple, too. They are looked at where they are used.
        self.push(tuple(reversed([self._pop() for _ in range(count)])))

    def set_item(self) -> None:
        value, key = self._plain(self._pop()), self._pop()
        self._top(dict)[flat_key(key)] = value

    def set_items(self) -> None:
        found = pairs_of(self._marked())
        self._top(dict).update(found)

    def add_items(self) -> None:
        found = [flat_key(value) for value in self._marked()]
        self._top(set).update(found)

    # Steps: the memo.

    def put(self, number: int) -> None:
        value = self._pop()
        self.push(value)
        self._memo[number] = value

    def get(self, number: int) -> None:
        if number not in self._memo:
            raise RefusalError(f"it asks for entry {number} of its memo, which is not there")
        self.push(self._memo[number])

    def memoize(self) -> None:
        self.put(len(self._memo))

    def memo_line(self) -> int:
        text = self.line()
        if not text.isascii() or not text.isdecimal() or len(text) > 10:
            raise RefusalError("a number of a memo entry cannot be read")
        return int(text)

    # Steps: names.

    def name(self, module: Any, attribute: Any) -> None:
        found = NAMES.get((module, attribute)) if type(module) is str and type(attribute) is str else None
        if found is None:
            shown = f"{str(module)[:60]}.{str(attribute)[:60]}" if type(module) is type(attribute) is str else "something"
            raise RefusalError(f"it names {ascii(shown)[1:-1]}, which a table has no use for")
        self.push(found)

    def name_from_stack(self) -> None:
        attribute, module = self._pop(), self._pop()
        self.name(module, attribute)

    def reduce(self) -> None:
        arguments, name = self._pop(), self._pop()
        if type(name) is not Name or type(arguments) is not tuple:
            raise RefusalError("it calls something")
        self._spend(sum(len(item) for item in arguments if isinstance(item, list | tuple | dict | str | bytes)))
        made = name.make(arguments)
        self.push(self._container(made) if isinstance(made, dict | set | frozenset) else made)

    def build(self) -> None:
        state = self._pop()
        kind = self._pop()
        order = state[1] if type(state) is tuple and len(state) >= 2 else None
        if type(kind) is not NumpyKind or type(order) is not str or order not in ("<", ">", "|", "="):
            raise RefusalError("it sets the state of an object")
        kind.order = ">" if order == ">" else "<"
        self.push(kind)

    # Steps: containers of everything since the mark.

    def new_container(self, value: Any) -> None:
        self.push(self._container(value))

    def list_of_marked(self) -> None:
        self.new_container([self._plain(value) for value in self._marked()])

    def dict_of_marked(self) -> None:
        self.new_container(dict(pairs_of(self._marked())))

    def frozen_of_marked(self) -> None:
        self.new_container(frozenset(flat_key(value) for value in self._marked()))

    def tuple_of_marked(self) -> None:
        self.push(tuple(self._marked()))

    def forget_marked(self) -> None:
        self._marked()


_STEPS: dict[str, Callable[[_Machine], None]] = {
    "\x80": _Machine.protocol,
    "\x95": _Machine.frame,
    "(": _Machine.mark,
    "0": _Machine.pop,
    "1": _Machine.forget_marked,
    "2": _Machine.duplicate,
    "N": lambda machine: machine.push(None),
    "\x88": lambda machine: machine.push(True),
    "\x89": lambda machine: machine.push(False),
    "I": _Machine.integer_line,
    "L": _Machine.integer_line,
    "J": lambda machine: machine.push(machine.number("<i")),
    "K": lambda machine: machine.push(machine.number("<B")),
    "M": lambda machine: machine.push(machine.number("<H")),
    "\x8a": _Machine.long_bytes,
    "F": _Machine.float_line,
    "G": lambda machine: machine.push(machine.number(">d")),
    "S": _Machine.quoted_line,
    "T": lambda machine: machine.bytes_as_text("<i"),
    "U": lambda machine: machine.bytes_as_text("<B"),
    "V": _Machine.unicode_line,
    "X": lambda machine: machine.text("<I"),
    "\x8c": lambda machine: machine.text("<B"),
    "\x8d": lambda machine: machine.text("<Q"),
    "B": lambda machine: machine.raw("<I"),
    "C": lambda machine: machine.raw("<B"),
    "\x8e": lambda machine: machine.raw("<Q"),
    "]": lambda machine: machine.new_container([]),
    "}": lambda machine: machine.new_container({}),
    "\x8f": lambda machine: machine.new_container(set()),
    ")": lambda machine: machine.push(()),
    "l": _Machine.list_of_marked,
    "d": _Machine.dict_of_marked,
    "\x91": _Machine.frozen_of_marked,
    "t": _Machine.tuple_of_marked,
    "\x85": lambda machine: machine.tuple_of(1),
    "\x86": lambda machine: machine.tuple_of(2),
    "\x87": lambda machine: machine.tuple_of(3),
    "a": _Machine.append,
    "e": _Machine.appends,
    "s": _Machine.set_item,
    "u": _Machine.set_items,
    "\x90": _Machine.add_items,
    "p": lambda machine: machine.put(machine.memo_line()),
    "q": lambda machine: machine.put(machine.number("<B")),
    "r": lambda machine: machine.put(machine.number("<I")),
    "\x94": _Machine.memoize,
    "g": lambda machine: machine.get(machine.memo_line()),
    "h": lambda machine: machine.get(machine.number("<B")),
    "j": lambda machine: machine.get(machine.number("<I")),
    "c": lambda machine: machine.name(machine.line(), machine.line()),
    "\x93": _Machine.name_from_stack,
    "R": _Machine.reduce,
    "b": _Machine.build,
}
