"""The shared library of native kernels: where it lies, whether it is there, and how it is called."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_PATH = Path(__file__).parent / f"libcanton{_SUFFIX}"

_LARGE = range(4 << 20, 64 << 20)
"""Bytes of a tensor that gains from large pages; where hundreds of megabytes come and go they were slower."""

LANES = {"portable": 4, "avx2": 8, "avx512": 16}
"""Numbers in a vector of each instruction set."""

INSTRUCTION_SETS = tuple(LANES)

_NUMBERS = ("steps", "images", "depth", "height", "width", "hidden")
_ARRAYS = ("gx", "first", "second", "vector", "hs", "cs", "acts", "dys", "dh", "dc", "dgx", "seen", "dvector")
_MASKS = {"order": torch.int64, "lengths": torch.int64, "reset": torch.bool}
_FRESH = ("fresh", "fresh_c", "dfresh", "dfresh_c")


class Sequence(ctypes.Structure):
    """One run over a sequence; sequence.h says what the fields mean."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("kernel", ctypes.c_int64 * 3),
        ("dilation", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("circular", "flag", "threads")),
        *((name, ctypes.c_void_p) for name in (*_ARRAYS, *_MASKS, *_FRESH)),
    )


class ConvolutionRun(ctypes.Structure):
    """One convolution; sequence.h says what the fields mean."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("images", "in_", "out", "height", "width")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width")),
        ("kernel", ctypes.c_int64 * 2),
        ("pad", ctypes.c_int64 * 2),
        *((name, ctypes.c_int64) for name in ("circular", "transposed", "threads")),
        *((name, ctypes.c_int64) for name in ("by_image", "by_channel", "by_line", "by_pixel")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "y")),
        ("halve", ctypes.c_int64),
        ("slope", ctypes.c_double),
        ("dy", ctypes.c_void_p),
        ("dy_pixel", ctypes.c_int64),
        ("dweight", ctypes.c_void_p),
    )


class MatmulRun(ctypes.Structure):
    """One product of two matrices; sequence.h says what the fields mean."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "columns", "depth", "threads")),
        *((name, ctypes.c_int64) for name in ("a_row", "a_depth", "b_column", "b_depth", "c_row")),
        ("levels", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("a", "b", "bias", "c")),
    )


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    if not _PATH.is_file():
        return "the native library was not built: installing Canton where there is a C++ compiler builds it"
    try:
        library = ctypes.CDLL(str(_PATH))
        library.canton_bytes.restype = ctypes.c_int64
        sizes = {0: ctypes.sizeof(Sequence), 3: ctypes.sizeof(ConvolutionRun), 4: ctypes.sizeof(MatmulRun)}
        if any(library.canton_bytes(which) != size for which, size in sizes.items()):
            return "the native library is of another version of Canton: install Canton again"
    except (OSError, AttributeError) as error:
        return f"the native library cannot be loaded: {error}"
    return library


def available() -> bool:
    """Whether the native kernels can be called here."""
    return not isinstance(_load(), str)


def why_not() -> str | None:
    """Why the native kernels cannot be called; None if they can."""
    library = _load()
    return library if isinstance(library, str) else None


def instruction_set() -> str:
    """Which copy of the kernels runs: "portable", "avx2" or "avx512".

    Raises:
        RuntimeError: the library is not there.
    """
    return INSTRUCTION_SETS[int(library().canton_isa())]


def use_instruction_set(name: str) -> None:
    """Run the copy for `name` from now on, in every thread: for tests and comparisons.

    Raises:
        ValueError: the name is unknown, or this processor has no such instructions.
        RuntimeError: the library is not there.
    """
    if name not in INSTRUCTION_SETS:
        raise ValueError(f"name is {name!r}: it is one of {', '.join(INSTRUCTION_SETS)}")
    wanted = INSTRUCTION_SETS.index(name)
    if library().canton_use_isa(wanted) != wanted:
        raise ValueError(f"name is {name!r}: this processor has no such instructions")


def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        RuntimeError: it is not there, and why.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    return loaded


def empty(like: Tensor, *shape: int) -> Tensor:
    """A tensor of `shape` as ``like.new_empty`` makes one; of some megabytes, in large pages."""
    made = like.new_empty(shape)
    size = made.numel() * made.element_size()
    if size in _LARGE:
        library().canton_large_pages(ctypes.c_void_p(made.data_ptr()), ctypes.c_int64(size))
    return made


_FIELDS = {
    "weights": ("first", "second"),
    "states": ("hs", "cs"),
    "saved": ("acts",),
    "d_outputs": ("dys",),
    "d_states": ("dh", "dc"),
    "d_gx": ("dgx",),
    "product_inputs": ("vector", "seen"),
    "reset_state": ("fresh", "fresh_c"),
    "d_reset_state": ("dfresh", "dfresh_c"),
}


def call(name: str, sequence: Sequence, **arrays: Tensor | list[Tensor] | list[Tensor | None] | None) -> None:
    """Run the cell entry `name`; `arrays` are contiguous tensors for the fields they name."""
    for field, value in arrays.items():
        dtype = _MASKS.get(field, torch.float32)
        parts = value if isinstance(value, list) else [value]
        for part, tensor in zip(_FIELDS.get(field, (field,)), parts, strict=False):
            assert tensor is None or (tensor.is_contiguous() and tensor.dtype == dtype), field
            setattr(sequence, part, None if tensor is None else tensor.data_ptr())
    getattr(library(), f"canton_{name}")(ctypes.byref(sequence))
