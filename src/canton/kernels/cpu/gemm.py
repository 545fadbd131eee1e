"""Products of large matrices, natively: what a dense map does to all time steps at once, and its gradients.

The products outside the loop over time take the tiles that multiply inside it, where both matrices are large;
`make bench` times both ways and calls the faster one the floor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.cpu.abi import MatmulRun, empty, instruction_set, matmul, why_not

LEAST = 1 << 22
"""Multiplications below which packing both matrices would not pay."""

STRASSEN = ((1 << 29, 256), (1 << 34, 1024))
"""For one level of Strassen's recipe and for two: how many multiplications, and how many rows, columns and
depth at least, there must be lest its additions cost more than it saves."""


def levels_for(rows: int, columns: int, depth: int) -> int:
    """How many levels of Strassen's recipe are quickest for a product of this size; 0 multiplies plainly."""
    size, least = rows * columns * depth, min(rows, columns, depth)
    return sum(size >= enough and least >= side for enough, side in STRASSEN)


def serves(rows: int, columns: int, depth: int) -> bool:
    """Whether a float32 product of this size on the processor is quicker here than in torch."""
    large = rows * columns * depth >= LEAST and min(rows, columns, depth) >= 32
    return large and why_not() is None and instruction_set() != "portable"


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None, levels: int = 0) -> Tensor:
    """``a @ b + bias`` for float32 matrices on the processor.

    Either step of `a` and of `b` may be the 1: a transposed view is read in place.

    Args:
        a: (rows, depth).
        b: (depth, columns).
        bias: (columns,).
        levels: of Strassen's recipe, 0 to 2: each multiplies less and rounds more, and what one row owes to
            rounding, or a number that is not finite, reaches other rows.
    """
    a, b = (t if 1 in t.stride() else t.contiguous() for t in (a, b))
    (rows, depth), columns = a.shape, b.shape[1]
    bias = None if bias is None else bias.contiguous()
    c = empty(a, rows, columns)
    run = MatmulRun(
        rows=rows,
        columns=columns,
        depth=depth,
        threads=torch.get_num_threads(),
        a_row=a.stride(0),
        a_depth=a.stride(1),
        b_column=b.stride(1),
        b_depth=b.stride(0),
        c_row=columns,
        levels=levels,
        a=a.data_ptr(),
        b=b.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        c=c.data_ptr(),
    )
    matmul(run)
    return c


def product(a: Tensor, b: Tensor, *, summed: bool = False) -> Tensor:
    """``a @ b``, natively where that is quicker; no gradient passes through.

    summed: the depth is all rows of all time steps, and each number of the result is made of all of them, as
    a weight's gradient is. Then Strassen's recipe may be taken; else no row of the result may see another.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    native = all(t.dtype is torch.float32 and t.device.type == "cpu" for t in (a, b))
    if not native or not serves(rows, columns, depth):
        return torch.mm(a, b)
    return multiply(a, b, levels=levels_for(rows, columns, depth) if summed else 0)
