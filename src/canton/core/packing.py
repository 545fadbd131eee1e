"""Sequences of unequal length: packed, padded, turned round. Time is axis 0, batch axis 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """The padded sequence (T, B, ...) in the caller's order of rows, and the lengths (B,)."""
    return pad_packed_sequence(packed)


def pack_like(ys: Tensor, packed: PackedSequence) -> PackedSequence:
    """`ys` (T, B, ...) packed with the lengths and the order of rows of `packed`."""
    if packed.sorted_indices is not None:
        ys = ys.index_select(1, packed.sorted_indices)
    rows = torch.arange(ys.shape[1])
    lengths = (packed.batch_sizes[:, None] > rows).sum(0)
    data, batch_sizes, _, _ = pack_padded_sequence(ys, lengths)
    return PackedSequence(data, batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def within(xs: Tensor, lengths: Tensor) -> Tensor:
    """The rows (T, B, ...) with zeros (or False) behind their lengths."""
    alive = torch.arange(len(xs), device=xs.device)[:, None] < lengths
    return torch.where(alive.view(*alive.shape, *(1,) * (xs.ndim - 2)), xs, torch.zeros_like(xs))


def flip(xs: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn every row (T, B, ...) round within its length; what lies behind the length stays in its place."""
    if lengths is None:
        return xs.flip(0)
    steps, rows = (
        torch.arange(len(xs), device=xs.device)[:, None],
        torch.arange(xs.shape[1], device=xs.device),
    )
    turned = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return xs[turned, rows]


def backward_reset(reset: Tensor) -> Tensor:
    """Where a backward run restarts: what starts afresh before step t ends, read backwards, after it."""
    return torch.cat([reset[1:], torch.zeros_like(reset[:1])])


def _whole(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_lengths(lengths: Tensor | Sequence[int], steps: int, batch: int, device: torch.device) -> Tensor:
    """`lengths` as a tensor (batch,) of int64 on `device`.

    Raises:
        ValueError: it has another shape or dtype, or a length lies outside 0..steps.
    """
    lengths = torch.as_tensor(lengths)
    if tuple(lengths.shape) != (batch,) or not _whole(lengths.dtype):
        raise ValueError(f"lengths is {tuple(lengths.shape)} {lengths.dtype}: it is ({batch},) whole numbers")
    lengths = lengths.long()  # of narrower ones a difference may not be told
    if batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise ValueError(
            f"lengths go from {int(lengths.min())} to {int(lengths.max())}: they lie in 0..{steps}"
        )
    return lengths.to(device)
