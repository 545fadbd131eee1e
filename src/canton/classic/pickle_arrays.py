"""Arrays of numbers out of a pickle, and into one, without Python's unpickler: nothing in the pickle can run.

A pickle is a program for a small stack machine whose instructions may call any function by name. This
reader runs the few instructions that NumPy's own pickles of arrays consist of. It imports nothing and calls
nothing by name: a name is a string to it, and only four strings are known. Everything else is refused by
its name.
"""

from __future__ import annotations

import math
import pickletools
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from canton.errors import UserError

Array = np.ndarray[Any, Any]

_RECONSTRUCT, _SCALAR, _NDARRAY, _DTYPE, _ENCODE = "reconstruct", "scalar", "ndarray", "dtype", "encode"
_KNOWN = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy.core.multiarray scalar": _SCALAR,
    "numpy._core.multiarray scalar": _SCALAR,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how protocol 2 writes bytes: as text, and the text's encoding
}
_NUMBER = re.compile(r"b1|[iu][1248]|f[248]")
_PUSH = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
"""What puts a constant on the stack, from protocol 2 on, which is the oldest that NumPy wrote in Python 3."""
_MOST_AXES = 32  # of NumPy 1.x
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}
_MOST_INSTRUCTIONS = 2**21
"""An array takes about 70, so that 30,000 weights fit; and no file makes the stack grow without end."""


@dataclass
class _Name:
    """A global of the pickle: known, but nothing that could be called."""

    meaning: str


@dataclass
class _Type:
    """A numeric dtype: its code, such as f4, and its byte order."""

    code: str
    order: str = "="
    array: bool = False  # whether it is "O", which only the outermost array may be


@dataclass
class _Made:
    """An array in the making: `state` comes with a later instruction."""

    state: tuple[Any, ...] = field(default=())


_MARK = object()


def shown(words: object) -> str:
    """What a file says, fit for one line of a message."""
    text = str(words)
    text = text if len(text) <= 100 else f"{text[:100]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def arrays_of(pickle: bytes, what: str) -> list[Array]:
    """The arrays in a pickled one-axis object array of them, or in a pickled list of them, in order.

    Args:
        pickle: the bytes.
        what: what to call them in an error.

    Raises:
        UserError: it is damaged, or holds or does anything that a pickle of number arrays does not. Nothing
            was run.
    """
    return _Machine(what).run(pickle)


class _Machine:
    def __init__(self, what: str) -> None:
        self.what = what
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.made: dict[int, Array] = {}
        self.texts_left = self.arrays_left = 0

    def run(self, pickle: bytes) -> list[Array]:
        # Every number of an array stands in the file, once: what unfolds to more than the file is no weights.
        self.texts_left = self.arrays_left = len(pickle)
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
                if count == _MOST_INSTRUCTIONS:
                    raise self._bad(f"it has more than {count} instructions")
                if opcode.name == "STOP":
                    return self._outermost(self.stack.pop())
                self._do(opcode.name, argument)
        except UserError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._bad(f"it is damaged ({shown(error)})") from error
        raise self._bad("it is cut short")

    def _bad(self, why: str) -> UserError:
        return UserError(f"{self.what} is no file of number arrays: {why}. Nothing in it was run")

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _IGNORED:
            return
        if name in _PUSH:
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}.get(name, argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST"):
            stack.append(() if name == "EMPTY_TUPLE" else [])
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("TUPLE", "LIST"):
            items = self._pop_to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            if not isinstance(stack[-1], list):
                raise self._bad("it appends to something that is no list")
            stack[-1].extend(items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(argument if name == "GLOBAL" else self._joined_name())
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._call(function, arguments))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        else:
            raise self._bad(f"its instruction {name} has no place there")

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise self._bad("it takes more from the stack than there is")
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        index = len(self.stack) - 1
        while self.stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise self._bad("a mark is missing")
        items = self.stack[index + 1 :]
        del self.stack[index:]
        return items

    def _joined_name(self) -> str:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._bad("it asks for something by a name that is no text")
        return f"{module} {name}"

    def _name(self, name: str) -> None:
        if name not in _KNOWN:
            raise self._bad(f"it asks for {shown(name.replace(' ', '.'))}, which is refused")
        self.stack.append(_Name(_KNOWN[name]))

    def _call(self, function: Any, arguments: Any) -> Any:
        meaning = function.meaning if isinstance(function, _Name) else None
        match (meaning, arguments):
            case ("reconstruct", (_Name(meaning="ndarray"), (0,), b"b" | "b")):
                return _Made()
            case ("scalar", (_Type() as dtype, bytes() as raw)):
                return self._array((), dtype, raw)
            case ("dtype", (str() as code, bool() | int(), bool() | int())):
                return self._dtype(code)
            case ("encode", (str() as text, "latin1" | "latin-1")):
                self.texts_left -= len(text)
                if self.texts_left < 0:
                    raise self._bad("it unfolds the same bytes again and again")
                return text.encode("latin-1")
        raise self._bad(f"it calls {meaning or type(function).__name__} in a way that NumPy does not")

    def _dtype(self, code: str) -> _Type:
        if code in ("O", "O8"):
            return _Type("O", array=True)
        if not _NUMBER.fullmatch(code):
            raise self._bad(f"it holds the type {shown(repr(code))}, and not numbers")
        return _Type(code)

    def _build(self, state: Any) -> None:
        target = self.stack[-1]
        match (target, state):
            case (_Type(), (int(), str() as order, None, None, None, *_)) if order in ("<", ">", "|", "="):
                target.order = order
            case (
                _Made(state=()),
                (int(), tuple() as shape, _Type() as dtype, fortran, bytes() | list() as content),
            ) if len(shape) <= _MOST_AXES and all(type(size) is int for size in shape):
                target.state = (shape, dtype, bool(fortran), content)
            case _:
                raise self._bad("it gives something a state that NumPy does not give it")

    def _outermost(self, value: Any) -> list[Array]:
        if isinstance(value, _Made) and len(value.state) == 4 and value.state[1].array:
            shape, _, _, content = value.state
            if not isinstance(content, list) or shape != (len(content),):
                raise self._bad(
                    f"its outer array has the shape {shape}, and not one axis, one array an entry"
                )
            value = content
        if not isinstance(value, list):
            raise self._bad("its outermost value is no array of arrays")
        return [self._number_array(item, index) for index, item in enumerate(value)]

    def _number_array(self, item: Any, index: int) -> Array:
        if isinstance(item, np.ndarray):
            return item
        if not isinstance(item, _Made) or len(item.state) != 4 or item.state[1].array:
            inside = "objects" if isinstance(item, _Made) else f"a {type(item).__name__}"
            raise self._bad(f"entry {index} holds {inside}, and not numbers")
        shape, dtype, fortran, content = item.state
        if id(item) not in self.made:  # an array that stands there twice is made once
            self.made[id(item)] = self._array(shape, dtype, content, "F" if fortran else "C")
        return self.made[id(item)]

    def _array(self, shape: tuple[Any, ...], dtype: _Type, raw: Any, order: Literal["C", "F"] = "C") -> Array:
        if dtype.array or not isinstance(raw, bytes):
            raise self._bad("an inner array holds objects, and not numbers")
        if any(size < 0 for size in shape):
            raise self._bad(f"an array has the shape {shape}")
        numbers = np.dtype(dtype.order + dtype.code)
        if math.prod(shape) * numbers.itemsize != len(raw):
            raise self._bad(f"an array of shape {shape} and type {numbers} comes with {len(raw)} bytes")
        self.arrays_left -= len(raw)
        if self.arrays_left < 0:
            raise self._bad("it unfolds the same numbers again and again")
        flat = np.frombuffer(raw, numbers)
        # A copy in this machine's byte order, which may be written to.
        return flat.reshape(shape, order=order).astype(numbers.newbyteorder("="), order="C")


def pickle_of(arrays: list[Array]) -> bytes:
    """The pickle, protocol 3, of a one-axis object array of `arrays`, with the names from before NumPy 2.

    NumPy 2 itself would write names that NumPy 1.x, and so the 2017 library, does not know.

    Raises:
        UserError: an array of 4 GiB or more, which protocol 3 cannot hold.
    """
    outer = _put_array((len(arrays),), b"O8", b"|", b"](" + b"".join(map(_put_numbers, arrays)) + b"e")
    return b"\x80\x03" + outer + b"."


def _put_numbers(array: Array) -> bytes:
    plain = array.astype(array.dtype.newbyteorder("<"), order="C")
    raw = plain.tobytes()
    if len(raw) >= 2**32:
        raise UserError(
            f"a weight of shape {array.shape} has {len(raw)} bytes: the 2017 format holds less than 4 GiB"
        )
    code, order = plain.dtype.str[1:].encode(), plain.dtype.str[:1].encode()
    return _put_array(array.shape, code, order, b"B" + len(raw).to_bytes(4, "little") + raw)


def _put_array(shape: tuple[int, ...], code: bytes, order: bytes, content: bytes) -> bytes:
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    flags = b"K?" if code == b"O8" else b"K\x00"  # 63: NumPy's marks of an array of references
    dtype = b"cnumpy\ndtype\n" + _put_text(code) + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _put_text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + flags + b"tb"
    return empty + b"(K\x01(" + b"".join(map(_put_int, shape)) + b"t" + dtype + b"\x89" + content + b"tb"


def _put_text(text: bytes) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text


def _put_int(number: int) -> bytes:
    raw = number.to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + raw
