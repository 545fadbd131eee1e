"""Sequences of unequal length: packing, padding and reversal. Time is axis 0, the batch axis 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


def pack_like(ys: Tensor, packed: PackedSequence) -> PackedSequence:
    """Pack `ys` (T, B, ...) with the lengths and the row order of `packed`."""
    if packed.sorted_indices is not None:
        ys = ys.index_select(1, packed.sorted_indices)
    rows = torch.arange(ys.shape[1])
    lengths = (packed.batch_sizes[:, None] > rows).sum(0)
    data, batch_sizes, _, _ = pack_padded_sequence(ys, lengths)
    return PackedSequence(data, batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def mask_padding(xs: Tensor, lengths: Tensor) -> Tensor:
    """Return `xs` (T, B, ...) with zeros (or False) at the steps after each row's length."""
    valid = torch.arange(len(xs), device=xs.device)[:, None] < lengths
    return torch.where(valid.view(*valid.shape, *(1,) * (xs.ndim - 2)), xs, torch.zeros_like(xs))


def flip(xs: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse every row of `xs` (T, B, ...) in time up to its length; the padding stays in place."""
    if lengths is None:
        return xs.flip(0)
    steps = torch.arange(len(xs), device=xs.device)[:, None]
    rows = torch.arange(xs.shape[1], device=xs.device)
    reversed_steps = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return xs[reversed_steps, rows]


def backward_reset(reset: Tensor) -> Tensor:
    """Return the resets of the backward direction: the reset of step t + 1 moves to step t."""
    return torch.cat([reset[1:], torch.zeros_like(reset[:1])])


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_lengths(lengths: Tensor | Sequence[int], steps: int, batch: int, device: torch.device) -> Tensor:
    """Return `lengths` as an int64 tensor (batch,) on `device`.

    Raises:
        ValueError: it has another shape or dtype, or a length lies outside 0..steps.
    """
    lengths = torch.as_tensor(lengths)
    if tuple(lengths.shape) != (batch,) or not _is_integer(lengths.dtype):
        raise ValueError(f"lengths must be ({batch},) integers, got {tuple(lengths.shape)} {lengths.dtype}")
    lengths = lengths.long()  # a narrow type may not hold the differences
    if batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise ValueError(f"lengths must be in 0..{steps}, got {int(lengths.min())}..{int(lengths.max())}")
    return lengths.to(device)


def check_steps(
    name: str, given: Tensor | None, shape: tuple[int, ...], final: tuple[int, ...], device: torch.device
) -> Tensor | None:
    """Return the argument `name`, booleans of `shape`, as a tensor of the shape `final`; None if it is None.

    Args:
        name: the argument's name, for the error.
        given: the argument.
        shape: its shape.
        final: (T, B), of which `shape` may have the axes exchanged or no batch; or (B,).
        device: the device of the input.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, dtype or device is wrong.
    """
    if given is None:
        return None
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(given).__name__}")
    if tuple(given.shape) != shape or given.dtype != torch.bool:
        raise ValueError(f"{name} must be {shape} torch.bool, got {tuple(given.shape)} {given.dtype}")
    if given.device != device:
        raise ValueError(f"{name} must be on the input's device {device}, got {given.device}")
    return given.t() if len(shape) == 2 and shape != final else given.view(final)
