"""tanh in C++: torch's takes several times as long as its sigmoid."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from canton.kernels.cpu.abi import TanhRun, available, library
from canton.kernels.cpu.address import strided_address

MIN_SIZE = 1024
"""For fewer numbers the call takes longer than it saves."""

_SIZE_FOR_THREADS = 1 << 15
"""torch, too, runs its elementwise operations on several threads from this size on."""


def tanh_(a: Tensor) -> Tensor:
    """Apply tanh in place to `a`, whose axes after the first are contiguous or one.

    Large float32 tensors on the CPU go to C++ where it is built. Its relative error is below 5e-7.
    """
    if a.dtype is not torch.float32 or not a.is_cpu or a.numel() <= MIN_SIZE or not available():
        return a.tanh_()
    matrix = a if a.ndim == 2 else a.view(len(a), -1)
    rows, columns = matrix.shape
    if matrix.stride(1) != 1:
        return a.tanh_()
    run = TanhRun(
        rows=rows,
        columns=columns,
        row=matrix.stride(0),
        threads=torch.get_num_threads() if a.numel() >= _SIZE_FOR_THREADS else 1,
        x=strided_address("a", matrix, (rows, columns)),
    )
    library().canton_tanh(ctypes.byref(run))
    return a
