"""Read and write pickled lists of NumPy arrays of numbers, without executing anything in the file.

Source: Python's ``pickletools`` describes the opcodes, ``numpy.ndarray.__reduce__`` gives the states.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from canton.errors import UserError

Array = np.ndarray[Any, Any]

_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
"""The opcodes in NumPy's pickles of arrays, from protocol 2 on. Dictionaries and sets are not among them:
hashing a nested key of 200 bytes can take forever."""
_MAX_OPCODES = 2**21
"""A weight takes about 70, so 30,000 weights fit. An opcode can take 100 times its size in memory."""
_MAX_AXES = 32  # NumPy 1's limit
_NUMBER = re.compile(r"b1|[iu][1248]|f[248]")


class _Refused(Exception):
    """Error for a pickle that contains anything but arrays of numbers."""


def one_line(text: object) -> str:
    """Return `text` without control characters, cut to 100 characters, for an error message."""
    words = str(text)
    words = words if len(words) <= 100 else f"{words[:100]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def load_arrays(content: bytes, source: str) -> list[Array]:
    """Return the arrays in a pickled list, or in a pickled object array of one axis, in order.

    Args:
        content: the pickle.
        source: its name in error messages.

    Raises:
        UserError: the pickle is damaged, or contains anything but arrays of numbers. Nothing is executed.
    """
    try:
        _check_opcodes(content)
        return _entries(_ArrayUnpickler(content).load())
    except _Refused as error:
        why = str(error)
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        why = f"it is damaged ({one_line(error)})"
    except (EOFError, MemoryError):
        why = "it is damaged (truncated)"
    raise UserError(f"{source} is not a file of number arrays: {why}. Nothing in it was executed")


def dump_arrays(arrays: list[Array]) -> bytes:
    """Return the pickle (protocol 3) of an object array of `arrays`, readable by NumPy 1 and 2.

    Raises:
        UserError: an array has 4 GiB or more, which protocol 3 cannot store.
    """
    outer = np.empty(len(arrays), dtype=object)
    for index, array in enumerate(arrays):
        outer[index] = np.array(array, order="C")
    try:
        content = pickle.dumps(outer, protocol=3)
    except OverflowError as error:
        raise UserError("a weight has 4 GiB or more, which the 2017 format cannot store") from error
    # The first name in the pickle, and the only one that NumPy 2 changed; NumPy 1 has no numpy._core.
    new, old = b"\x80\x03cnumpy._core.", b"\x80\x03cnumpy.core."
    return old + content[len(new) :] if content.startswith(new) else content


def _check_opcodes(content: bytes) -> None:
    """Refuse opcodes that arrays do not need, and files that make the unpickler allocate without limit.

    Raises:
        _Refused: the opcode that is not allowed, or the limit.
    """
    count = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content), 1):
        if opcode.name not in _OPCODES:
            raise _Refused(f"its opcode {opcode.name} is not allowed")
        # The unpickler's memo grows to its largest index.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(str(argument)) > count:
            raise _Refused(f"its memo index {argument} is not allowed")
        if count > _MAX_OPCODES:
            raise _Refused(f"it has more than {_MAX_OPCODES} opcodes")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that resolves the names in NumPy's pickles of arrays, and refuses every other name.

    The names resolve to the functions and classes of this file, which check their arguments. NumPy's own
    do not: ``_reconstruct`` with a large shape allocates 8 GiB for a file of 65 bytes, and
    ``ndarray.__setstate__`` with a list shorter than the shape is a segmentation fault (NumPy 2.4).
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        factory = _ArrayFactory(len(content))
        self.allowed = {
            "numpy.core.multiarray._reconstruct": factory.reconstruct,
            "numpy.core.multiarray.scalar": factory.scalar,
            "numpy.ndarray": _ndarray,
            "numpy.dtype": _DType,
            "_codecs.encode": factory.encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        found = self.allowed.get(full_name.replace("numpy._core.", "numpy.core.", 1))
        if found is None:
            raise _Refused(f"it asks for {one_line(full_name)}, which is refused")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it asks for a persistent object, which is refused")


class _ArrayFactory:
    """The functions that a pickle of arrays calls, with a limit on the bytes that they create.

    Each number of an array is stored once, so the arrays are no larger than the file. It is separate from the
    unpickler because a pickle's memo holds these functions, and the garbage collector does not look there.
    """

    def __init__(self, max_bytes: int) -> None:
        self.text_bytes_left = self.array_bytes_left = max_bytes

    def reconstruct(self, *arguments: Any) -> _PickledArray:
        match arguments:
            case (subtype, (0,), b"b" | "b") if subtype is _ndarray:
                return _PickledArray(self)
        raise _Refused("it calls numpy._reconstruct with other arguments than NumPy does")

    def scalar(self, *arguments: Any) -> Array:
        match arguments:
            case (_DType() as dtype, bytes() as data):
                return self.number_array((), dtype, data, "C")
        raise _Refused("it calls numpy.scalar with other arguments than NumPy does")

    def encode(self, *arguments: Any) -> bytes:
        """Decode the bytes of a protocol 2 pickle, which stores them as text."""
        match arguments:
            case (str() as text, "latin1" | "latin-1"):
                self.text_bytes_left -= len(text)
                if self.text_bytes_left < 0:
                    raise _Refused("it repeats the same bytes to more than the file's size")
                return text.encode("latin-1")
        raise _Refused("it calls _codecs.encode with other arguments than NumPy does")

    def number_array(self, shape: tuple[int, ...], dtype: _DType, data: bytes, order: Any) -> Array:
        numbers = np.dtype(dtype.order + dtype.code)
        if min(shape, default=0) < 0 or math.prod(shape) * numbers.itemsize != len(data):
            raise _Refused(f"an array of shape {one_line(shape)} and type {numbers} has {len(data)} bytes")
        self.array_bytes_left -= len(data)
        if self.array_bytes_left < 0:
            raise _Refused("it repeats the same numbers to more than the file's size")
        array = np.frombuffer(data, numbers).reshape(shape, order=order)
        return array.astype(numbers.newbyteorder("="), order="C")  # a writable copy


def _ndarray(*arguments: Any) -> Any:
    """Replace numpy.ndarray, which pickles of arrays name but never call."""
    raise _Refused("it calls numpy.ndarray")


class _DType:
    """A type of numbers, such as "f4", or "O" for the outermost array."""

    def __init__(self, *arguments: Any) -> None:
        match arguments:
            case (str() as code, bool() | int(), bool() | int()):
                self.is_object = code in ("O", "O8")
                if not self.is_object and not _NUMBER.fullmatch(code):
                    raise _Refused(f"it contains the type {one_line(repr(code))}, and not numbers")
                self.code, self.order = code, "="
            case _:
                raise _Refused("it calls numpy.dtype with other arguments than NumPy does")

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
                self.order = order
            case _:
                raise _Refused("a type has another state than NumPy's")


class _PickledArray:
    """An array between its construction and its state, which gives it shape, type and content."""

    def __init__(self, factory: _ArrayFactory) -> None:
        self.factory = factory
        self.array: Array | None = None
        self.entries: list[Any] | None = None  # of the outermost array

    def __setstate__(self, state: Any) -> None:
        if self.array is not None or self.entries is not None:
            raise _Refused("an array has two states")
        match state:
            case (int(), tuple() as shape, _DType(is_object=False) as dtype, fortran, bytes() as data) if len(
                shape
            ) <= _MAX_AXES and all(type(size) is int for size in shape):
                self.array = self.factory.number_array(shape, dtype, data, "F" if fortran else "C")
            case (int(), (int() as size,), _DType(is_object=True), _, list() as entries) if size == len(
                entries
            ):
                self.entries = entries
            case _:
                raise _Refused(
                    "an array has another state than NumPy's, or is neither numbers nor a list of arrays"
                )


def _entries(value: Any) -> list[Array]:
    """Return the arrays in the outermost value of a pickle."""
    if isinstance(value, _PickledArray):
        value = value.entries
    if not isinstance(value, list):
        raise _Refused("its outermost value is not a list of arrays")
    arrays = []
    for index, entry in enumerate(value):
        array = entry.array if isinstance(entry, _PickledArray) else entry
        if not isinstance(array, np.ndarray):
            kind = "objects" if isinstance(entry, _PickledArray) else f"a {type(entry).__name__}"
            raise _Refused(f"entry {index} holds {kind}, and not numbers")
        arrays.append(array)
    return arrays
