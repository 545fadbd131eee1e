"""Products of large matrices in C++: a dense map over all time steps at once, and its gradients."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from canton.kernels.cpu.abi import GemmRun, empty, instruction_set, library, why_not
from canton.kernels.cpu.address import address, strided_address
from canton.kernels.support import is_plain

MIN_MULTIPLICATIONS = 1 << 22
"""Below this, packing both matrices takes longer than it saves."""


def is_quicker(rows: int, columns: int, depth: int) -> bool:
    """Return whether a float32 product of this size is quicker here than in torch."""
    large = rows * columns * depth >= MIN_MULTIPLICATIONS and min(rows, columns, depth) >= 32
    return large and why_not() is None and instruction_set() != "portable"


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``a @ b + bias`` for float32 matrices on the CPU. A transposed view is read in place.

    Args:
        a: (rows, depth).
        b: (depth, columns).
        bias: (columns,).
    """
    a, b = (t if 1 in t.stride() else t.contiguous() for t in (a, b))
    (rows, depth), columns = a.shape, b.shape[1]
    bias = None if bias is None else bias.contiguous()
    c = empty(a, rows, columns)
    run = GemmRun(
        rows=rows,
        columns=columns,
        depth=depth,
        threads=torch.get_num_threads(),
        a_row=a.stride(0),
        a_depth=a.stride(1),
        b_column=b.stride(1),
        b_depth=b.stride(0),
        c_row=columns,
        a=strided_address("a", a, (rows, depth)),
        b=strided_address("b", b, (depth, columns)),
        bias=None if bias is None else address("bias", bias, columns),
        c=address("c", c, rows * columns),
    )
    library().canton_gemm(ctypes.byref(run))
    return c


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b``, by C++ where that is quicker; no gradient passes through."""
    (rows, depth), columns = a.shape, b.shape[1]
    readable = all(is_plain(t) and t.dtype is torch.float32 and t.is_cpu and not t.is_neg() for t in (a, b))
    if not readable or not is_quicker(rows, columns, depth):
        return torch.mm(a, b)
    return multiply(a, b)
