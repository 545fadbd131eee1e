"""The shared library of C++ kernels: where it is, whether it can be used, and how it is called."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from canton.kernels.cpu.abi_check import constant_mismatch, structure_mismatch
from canton.kernels.cpu.address import address
from canton.kernels.spec import CppCell

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_PATH = Path(__file__).parent / f"libcanton{_SUFFIX}"

_HUGE_PAGE_BYTES = range(4 << 20, 64 << 20)
"""Bytes of a tensor that gains from huge pages; they slow down work that allocates hundreds of megabytes."""

LANES = {"portable": 4, "avx2": 8, "avx512": 16}
"""Floats in a vector of each instruction set."""

INSTRUCTION_SETS = tuple(LANES)

MAX_PRODUCTS, MAX_STATES = 2, 4
"""Maximum number of products and of state tensors of a cell."""

MAX_KERNEL_PIXELS = 343
"""Maximum number of pixels of a convolution's kernel."""

MIN_WINOGRAD_CHANNELS = 8
"""With fewer channels, torch's convolution is quicker."""

_CONSTANTS = {
    "MAX_PRODUCTS": MAX_PRODUCTS,
    "MAX_STATES": MAX_STATES,
    "MAX_KERNEL_PIXELS": MAX_KERNEL_PIXELS,
    "MIN_WINOGRAD_CHANNELS": MIN_WINOGRAD_CHANNELS,
    **{f"LANES_{name.upper()}": lanes for name, lanes in LANES.items()},
}

_int, _pointer = ctypes.c_int64, ctypes.c_void_p


class RecurrentRun(ctypes.Structure):
    """One run of a cell over a sequence. Like every structure here it is documented in abi.h."""

    _fields_ = (
        *((name, _int) for name in ("steps", "images", "depth", "height", "width", "hidden")),
        ("kernel", _int * 3),
        ("dilation", _int * 3),
        ("circular", _int),
        ("threads", _int),
        ("gx", _pointer),
        ("weights", _pointer * MAX_PRODUCTS),
        ("states", _pointer * MAX_STATES),
        ("saved", _pointer),
        ("d_outputs", _pointer),
        ("d_states", _pointer * MAX_STATES),
        ("d_gx", _pointer),
        ("product_inputs", _pointer * MAX_PRODUCTS),
        ("order", _pointer),
        ("lengths", _pointer),
        ("reset", _pointer),
        ("reset_state", _pointer * MAX_STATES),
        ("d_reset_state", _pointer * MAX_STATES),
    )


class ConvolutionRun(ctypes.Structure):
    """One convolution."""

    _fields_ = (
        *((name, _int) for name in ("images", "in_channels", "out_channels", "height", "width")),
        *((name, _int) for name in ("out_height", "out_width")),
        ("kernel", _int * 2),
        ("pad", _int * 2),
        *((name, _int) for name in ("circular", "transposed", "threads")),
        *((name, _int) for name in ("by_image", "by_channel", "by_line", "by_pixel")),
        *((name, _pointer) for name in ("x", "weight", "bias", "y", "dy")),
        ("dy_pixel", _int),
        ("dweight", _pointer),
    )


class GemmRun(ctypes.Structure):
    """One product of two matrices."""

    _fields_ = (
        *((name, _int) for name in ("rows", "columns", "depth", "threads")),
        *((name, _int) for name in ("a_row", "a_depth", "b_column", "b_depth", "c_row")),
        *((name, _pointer) for name in ("a", "b", "bias", "c")),
    )


class TanhRun(ctypes.Structure):
    """tanh of a matrix, in place."""

    _fields_ = (*((name, _int) for name in ("rows", "columns", "row", "threads")), ("x", _pointer))


Arrays = Tensor | list[Tensor] | list[Tensor | None] | None
"""What a field of `RecurrentRun` points to: one tensor, or one for each place of an array."""

STRUCTURES = (RecurrentRun, ConvolutionRun, GemmRun, TanhRun)
"""The structures that Python and C++ share; their fields are compared when the library is loaded."""

_MASKS = {"order": torch.int64, "lengths": torch.int64, "reset": torch.bool}


@cache
def _load() -> ctypes.CDLL | str:
    """Return the library, or why there is none."""
    if not _PATH.is_file():
        return "the C++ library was not built: installing Canton where there is a C++ compiler builds it"
    try:
        library = ctypes.CDLL(str(_PATH))
        library.canton_cell.restype = ctypes.c_void_p
        mismatch = structure_mismatch(library.canton_fields, STRUCTURES)
        return mismatch or constant_mismatch(library.canton_constants, _CONSTANTS) or library
    except (OSError, AttributeError) as error:
        return f"the C++ library cannot be loaded: {error}"


def available() -> bool:
    """Return whether the C++ kernels can be called here."""
    return not isinstance(_load(), str)


def why_not() -> str | None:
    """Return why the C++ kernels cannot be called; None if they can."""
    library = _load()
    return library if isinstance(library, str) else None


def instruction_set() -> str:
    """Return which copy of the kernels runs: "portable", "avx2" or "avx512".

    Raises:
        RuntimeError: the library is missing.
    """
    return INSTRUCTION_SETS[int(library().canton_isa())]


def use_instruction_set(name: str) -> None:
    """Select the copy for `name` in every thread, for tests and comparisons.

    Raises:
        ValueError: the name is unknown, or this processor has no such instructions.
        RuntimeError: the library is missing.
    """
    if name not in INSTRUCTION_SETS:
        raise ValueError(f"name must be one of {', '.join(INSTRUCTION_SETS)}, got {name!r}")
    wanted = INSTRUCTION_SETS.index(name)
    if library().canton_use_isa(wanted) != wanted:
        raise ValueError(f"name must be an instruction set of this processor, got {name!r}")


def library() -> ctypes.CDLL:
    """Return the loaded library.

    Raises:
        RuntimeError: it is missing; the message says why.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    return loaded


def empty(like: Tensor, *shape: int) -> Tensor:
    """Return ``like.new_empty(shape)``, in huge pages if it is large."""
    tensor = like.new_empty(shape)
    size = tensor.numel() * tensor.element_size()
    if size in _HUGE_PAGE_BYTES:
        place = address("a new array", tensor, tensor.numel(), tensor.dtype)
        library().canton_huge_pages(ctypes.c_void_p(place), ctypes.c_int64(size))
    return tensor


@cache
def cell(name: str) -> ctypes.c_void_p:
    """Return the handle of the C++ cell registered as `name`.

    Raises:
        RuntimeError: there is none, or the library is missing.
    """
    if handle := library().canton_cell(name.encode()):
        return ctypes.c_void_p(handle)
    raise RuntimeError(f"the C++ library has no cell named {name!r}: build it again")


def forward(kind: CppCell, run: RecurrentRun, counts: list[int], gates: int, **arrays: Arrays) -> None:
    """Run the cell forward.

    Args:
        kind: the cell.
        run: the sizes.
        counts: the number of elements of each weight.
        gates: blocks of channels of gx.
        arrays: contiguous tensors for the fields they name.

    Raises:
        ValueError: a tensor has another size, dtype or device than C++ reads, or is not contiguous.
    """
    _set(run, arrays, _counts(run, kind, counts, gates, run.steps + 1))
    library().canton_cell_forward(cell(kind.name), ctypes.byref(run))


def backward(kind: CppCell, run: RecurrentRun, counts: list[int], gates: int, **arrays: Arrays) -> None:
    """Run the cell backward; see `forward`. The states are those before each step."""
    _set(run, arrays, _counts(run, kind, counts, gates, run.steps))
    library().canton_cell_backward(cell(kind.name), ctypes.byref(run))


def is_quick(name: str, run: RecurrentRun) -> bool:
    """Return whether a step of `run` packs no weights, few or cached ones; only whether its arrays are null
    matters."""
    return bool(library().canton_cell_is_quick(cell(name), ctypes.byref(run)))


def _counts(
    run: RecurrentRun, kind: CppCell, weights: list[int], gates: int, states: int
) -> dict[str, int | list[int]]:
    """Return the number of elements of every array; abi.h has the shapes."""
    dense = run.kernel[0] * run.kernel[1] * run.kernel[2] == 1
    units = run.width if dense else run.images
    state = run.images * run.depth * run.height * run.width * run.hidden
    steps = run.steps * state
    return {
        "gx": steps * gates,
        "weights": weights,
        "states": states * state,
        "saved": steps * kind.saved,
        "d_outputs": steps,
        "d_states": state,
        "d_gx": steps * gates,
        "product_inputs": steps,
        "order": units,
        "lengths": units,
        "reset": run.steps * units,
        "reset_state": state,
        "d_reset_state": state,
    }


def _set(run: RecurrentRun, arrays: dict[str, Arrays], counts: dict[str, int | list[int]]) -> None:
    for field, value in arrays.items():
        count, dtype = counts[field], _MASKS.get(field, torch.float32)
        if isinstance(value, list):
            places, each = getattr(run, field), count if isinstance(count, list) else [count] * len(value)
            for k, (tensor, size) in enumerate(zip(value, each, strict=True)):
                places[k] = None if tensor is None else address(f"{field}[{k}]", tensor, size, dtype)
        elif isinstance(count, int):
            setattr(run, field, None if value is None else address(field, value, count, dtype))
