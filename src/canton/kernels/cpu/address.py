"""Addresses of tensors for C++. No other file takes one.

C++ reads a fixed number of elements behind an address. Every tensor is therefore checked here, by exceptions
that ``python -O`` keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.support import is_plain


def address(name: str, tensor: Tensor, count: int, dtype: torch.dtype = torch.float32) -> int:
    """Return the address of a contiguous CPU tensor.

    Args:
        name: the argument's name, for the error.
        tensor: the tensor.
        count: the number of elements that C++ reads or writes.
        dtype: the type of the elements.

    Raises:
        ValueError: the tensor has another size, dtype or device, is not contiguous or has no memory.
    """
    if tensor.numel() != count:
        raise ValueError(f"{name} must have {count} elements for C++, got the shape {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous for C++, got the strides {tensor.stride()}")
    return _first(name, tensor, dtype)


def strided_address(name: str, tensor: Tensor, shape: tuple[int, ...]) -> int:
    """Return the address of a float32 CPU tensor whose strides C++ is told as well.

    Raises:
        ValueError: the tensor has another shape, dtype or device, or has no memory.
    """
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape} for C++, got {tuple(tensor.shape)}")
    return _first(name, tensor, torch.float32)


def _first(name: str, tensor: Tensor, dtype: torch.dtype) -> int:
    if not is_plain(tensor):
        raise ValueError(f"{name} must be a plain tensor for C++, got the subclass {type(tensor).__name__}")
    if tensor.dtype is not dtype or not tensor.is_cpu:
        raise ValueError(f"{name} must be {dtype} on the CPU for C++, got {tensor.dtype} on {tensor.device}")
    place = 0 if tensor.is_neg() else tensor.data_ptr()
    if not place and tensor.numel():
        raise ValueError(f"{name} must have its values in memory for C++, got a view that computes them")
    return place
