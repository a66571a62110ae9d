"""``refs(*).p``: reading the pickles of the RefCOCO releases without unpickling them.

A pickle is a programme for a small machine, and some of its instructions import and call. The releases need none of
these: they hold dictionaries, lists, tuples, strings, numbers, truth values and None. So the file is read here by a
machine that has the instructions for these and no others, and refuses the rest before anything is built from them.
Nothing of the module ``pickle`` runs.

Source: the instructions as ``pickletools`` of Python documents them.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from pickletools import opcodes
from typing import Any

from refam_analysis.evaluation.datasets.files import no_collection
from refam_analysis.evaluation.datasets.problems import DatasetFileError

_STOP = ord(".")
MAX_DIGITS = 1000
"""Of a whole number; more take time that grows with their square."""


class ForbiddenPickleError(DatasetFileError):
    """The pickle asks for more than plain data: to import, to call, to build objects."""

    def __init__(self, file: str, instruction: str, position: int) -> None:
        super().__init__(
            file,
            f"the pickle asks for {instruction} at byte {position}, which plain data never need",
            "Do not load it with anything else either: it can run code. Take the file from the release.",
        )


class _CutError(Exception):
    """The data end, or the stack is empty, where the pickle needs more."""


def read_plain_pickle(data: bytes, file: str) -> Any:
    r"""What a pickle of plain data holds.

    Args:
        data: the pickle, of any protocol from 0 to 5.
        file: what an error calls it.

    Returns:
        Dictionaries, lists, tuples, strings, whole and decimal numbers, truth values and None. Byte strings of Python 2
        become text: UTF-8, or else Latin-1.

    Raises:
        ForbiddenPickleError: it imports, calls, builds objects, or refers to things outside.
        DatasetFileError: it is cut, or no pickle.

    >>> read_plain_pickle(b"(lp0\n(dp1\nS'split'\np2\nS'val'\np3\nsa.", "refs(unc).p")
    [{'split': 'val'}]
    """
    machine = _Machine(data)
    try:
        with no_collection():
            return _run(machine, file)
    except (_CutError, struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, DatasetFileError):
            raise
        reason = f"it is cut, or no pickle (byte {machine.at}: {error})"
        raise DatasetFileError(file, reason) from error


def _run(machine: _Machine, file: str) -> Any:
    data, steps = machine.data, [_STEPS.get(bytes((code,))) for code in range(256)]
    while machine.at < len(data):
        code = data[machine.at]
        machine.at += 1
        step = steps[code]
        if step is not None:
            step(machine)
        elif code == _STOP:
            return machine.pop()
        else:
            raise _refusal(code, file, machine.at - 1)
    raise _CutError("it ends too early")


def _refusal(code: int, file: str, position: int) -> DatasetFileError:
    name = {opcode.code: opcode.name for opcode in opcodes}.get(chr(code))
    if name is None:
        return DatasetFileError(file, f"it is no pickle (byte {position} is no instruction)")
    return ForbiddenPickleError(file, name, position)


class _Machine:
    """The data, a place in them, a stack, marks on it, and the memo.

    The memo is a dictionary: no number of an entry asks for memory that the entries do not fill.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """The next bytes; never more than there are, whatever length the pickle claims."""
        end = self.at + count
        if end > len(self.data):
            raise _CutError("it ends too early")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _CutError("it ends too early")
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece

    def number(self, layout: str) -> Any:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return value

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _CutError("nothing is on the stack")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The value on top, which must be of a kind."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise _CutError(f"no {kind.__name__} is on the stack")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise _CutError("there is no mark")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def remember(self, number: int) -> None:
        if not self.stack:
            raise _CutError("nothing is on the stack")
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise _CutError(f"entry {number} of the memo is not there")
        self.stack.append(self.memo[number])


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise _CutError("a string lacks its quotes")
    return _text(codecs.escape_decode(line[1:-1])[0])


def _whole(line: bytes) -> int:
    if len(line) > MAX_DIGITS:
        raise _CutError(f"a number has more than {MAX_DIGITS} digits")
    return int(line.decode("ascii").rstrip("L"))


def _int_or_bool(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else _whole(line)


def _little_endian(data: bytes) -> int:
    if len(data) > MAX_DIGITS:
        raise _CutError(f"a number has more than {MAX_DIGITS} bytes")
    return int.from_bytes(data, "little", signed=True)


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.top(list).extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _check_key(key)
    machine.top(dict)[key] = value


def _set_items(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.top(dict).update(_pairs(values))


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[::2]
    for key in keys:
        _check_key(key)
    return dict(zip(keys, values[1::2], strict=True))


def _check_key(key: Any) -> None:
    """Refuse a tuple, which no release has for a key: finding its place in a dictionary could take for ever."""
    if isinstance(key, tuple):
        raise _CutError("the key of a dictionary is a tuple")


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _push(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.stack.append(read(machine))

    return step


_STEPS: dict[bytes, Callable[[_Machine], object]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME: its length is of no use when all data are at hand
    b"(": lambda m: m.marks.append(len(m.stack)),  # MARK
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": _push(lambda m: _int_or_bool(m.line())),
    b"L": _push(lambda m: _whole(m.line())),
    b"J": _push(lambda m: m.number("<i")),  # BININT
    b"K": _push(lambda m: m.number("<B")),  # BININT1
    b"M": _push(lambda m: m.number("<H")),  # BININT2
    b"\x8a": _push(lambda m: _little_endian(m.take(m.number("<B")))),  # LONG1
    b"\x8b": _push(lambda m: _little_endian(m.take(m.number("<I")))),  # LONG4
    b"F": _push(lambda m: float(m.line())),
    b"G": _push(lambda m: m.number(">d")),  # BINFLOAT
    b"S": _push(lambda m: _quoted(m.line())),  # STRING of Python 2
    b"T": _push(lambda m: _text(m.take(m.number("<I")))),  # BINSTRING
    b"U": _push(lambda m: _text(m.take(m.number("<B")))),  # SHORT_BINSTRING
    b"V": _push(lambda m: m.line().decode("raw-unicode-escape")),  # UNICODE
    b"X": _push(lambda m: m.take(m.number("<I")).decode("utf-8", "surrogatepass")),  # BINUNICODE
    b"\x8c": _push(lambda m: m.take(m.number("<B")).decode("utf-8", "surrogatepass")),  # SHORT_BINUNICODE
    b"\x8d": _push(lambda m: m.take(m.number("<Q")).decode("utf-8", "surrogatepass")),  # BINUNICODE8
    b"]": _push(lambda m: []),
    b"l": _push(lambda m: m.since_mark()),  # LIST
    b"a": _append,
    b"e": _appends,
    b"}": _push(lambda m: {}),
    b"d": _push(lambda m: _pairs(m.since_mark())),  # DICT
    b"s": _set_item,
    b"u": _set_items,
    b")": _push(lambda m: ()),
    b"t": _push(lambda m: tuple(m.since_mark())),  # TUPLE
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"p": lambda m: m.remember(_whole(m.line())),  # PUT
    b"q": lambda m: m.remember(m.number("<B")),  # BINPUT
    b"r": lambda m: m.remember(m.number("<I")),  # LONG_BINPUT
    b"\x94": lambda m: m.remember(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.recall(_whole(m.line())),  # GET
    b"h": lambda m: m.recall(m.number("<B")),  # BINGET
    b"j": lambda m: m.recall(m.number("<I")),  # LONG_BINGET
}
"""What each instruction does; those that are not here are refused. POP and POP_MARK too: they serve objects only, and
a tuple that contains itself, which no release has."""
