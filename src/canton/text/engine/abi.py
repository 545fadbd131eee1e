"""The engine's C++ structs as ctypes structures, and its library."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from canton.errors import UserError
from canton.kernels.cpu import abi
from canton.kernels.cpu.abi_check import constant_mismatch, structure_mismatch
from canton.text.ngram import keys
from canton.text.types import MAX_FOLLOWERS

MAX_LAYERS = MAX_CONTEXTS = 8
MAX_TABLES = 12


class EngineLayer(ctypes.Structure):
    """A GRU layer. Like every structure here it is documented in engine_abi.h."""

    _fields_ = (("hidden", c_int64), *((name, c_void_p) for name in ("input", "bias", "gates", "candidate")))


class EngineKey(ctypes.Structure):
    """A kind of n-gram."""

    _fields_ = (("n", c_int64), ("words", c_int64))


class EngineTable(ctypes.Structure):
    """An n-gram table."""

    _fields_ = (
        ("key", EngineKey),
        ("rows", c_int64),
        *((name, c_void_p) for name in ("keys", "followers", "counts", "totals")),
    )


class EngineMixer(ctypes.Structure):
    """The weights of a mixer."""

    _fields_ = (("tables", c_int64), *((name, c_void_p) for name in ("weight", "gate", "gate_bias")))


class EngineModel(ctypes.Structure):
    """A byte model."""

    _fields_ = (
        *((name, c_int64) for name in ("layers", "embedding", "contexts", "skip", "head_size", "int8")),
        ("context_bytes", c_int64 * MAX_CONTEXTS),
        ("context_rows", c_int64 * MAX_CONTEXTS),
        ("context", c_void_p * MAX_CONTEXTS),
        *((name, c_void_p) for name in ("embed", "norm_weight", "norm_bias")),
        ("norm_eps", c_double),
        *((name, c_void_p) for name in ("head", "head_bias", "logits", "logits_bias")),
        ("layer", EngineLayer * MAX_LAYERS),
        *((name, c_int64) for name in ("lookback", "history_size", "count_edges_size", "total_edges_size")),
        *((name, c_void_p) for name in ("count_edges", "total_edges")),
        ("counts_mixer", EngineMixer),
        ("history_mixer", EngineMixer),
        ("table", EngineTable * MAX_TABLES),
        ("history_key", EngineKey * MAX_TABLES),
    )


class EngineCall(ctypes.Structure):
    """The arguments and results of a call."""

    _fields_ = (
        *((name, c_void_p) for name in ("logits", "state", "past", "out", "bits", "uniforms")),
        ("count", c_int64),
        *((name, c_double) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        *((name, c_void_p) for name in ("logit_bias", "recent")),
        *((name, c_int64) for name in ("recent_size", "repetition_window")),
        *((name, c_int64) for name in ("top_k", "utf8_state", "remaining")),
        ("utf8_next", c_void_p),
        ("utf8_fits", c_void_p),
    )


STRUCTURES = (EngineLayer, EngineKey, EngineTable, EngineMixer, EngineModel, EngineCall)

FREQUENCY_BITS = 24
"""The frequencies of the 256 bytes sum to 2**FREQUENCY_BITS, which float32 holds exactly."""

CONSTANTS = {
    "FREQUENCY_BITS": FREQUENCY_BITS,
    "MAX_FOLLOWERS": MAX_FOLLOWERS,
    "WORD_LOOKBACK": keys.WORD_LOOKBACK,
    "MAX_WORDS": keys.MAX_WORDS,
    "MAX_BYTES": keys.MAX_BYTES,
    "HASH_SHIFT_1": keys.HASH_SHIFTS[0],
    "HASH_SHIFT_2": keys.HASH_SHIFTS[1],
    "HASH_MASK": keys.HASH_MASK,
    "HASH_PRIME": keys.HASH_PRIME,
    "HASH_MULTIPLIER": keys.HASH_MULTIPLIER,
}
"""The constants that ngram_constants.h must repeat."""


def array_address(name: str, array: npt.NDArray[Any], count: int, dtype: type[np.generic]) -> int:
    """Return the address of a contiguous array.

    Args:
        name: the argument's name, for the error.
        array: the array.
        count: the number of elements that C++ reads or writes.
        dtype: the type of the elements.

    Raises:
        ValueError: the array has another size or dtype, or is not contiguous.
    """
    if array.size != count or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} must be {count} contiguous {np.dtype(dtype)} for C++, "
            f"got the shape {array.shape}, strides {array.strides} and dtype {array.dtype}"
        )
    return int(array.ctypes.data)


@cache
def load() -> ctypes.CDLL | str:
    """Return the library, or why the engine cannot be called."""
    if reason := abi.why_not():
        return reason
    library = abi.library()
    try:
        reason = structure_mismatch(library.canton_engine_fields, STRUCTURES)
        reason = reason or constant_mismatch(library.canton_engine_constants, CONSTANTS)
        for kind in ("engine", "exact_engine"):
            getattr(library, f"canton_{kind}_open").restype = c_void_p
            getattr(library, f"canton_{kind}_close").restype = None
        library.canton_engine_generate.restype = c_int64
        library.canton_exact_engine_predict.restype = c_int64
    except AttributeError as error:
        return f"the C++ library does not match this version of Canton: {error}; reinstall Canton"
    return reason or library


def library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        UserError: the library is missing or does not match this version of Canton.
    """
    loaded = load()
    if isinstance(loaded, str):
        raise UserError(loaded)
    return loaded
