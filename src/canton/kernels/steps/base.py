"""Helpers that the steps share: blocks and views of buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from canton.kernels.steps.products import Pairs

Views = Sequence[Tensor]

_MINUS_ONE = torch.tensor(-1.0)


def block(buffer: Tensor, first: int, last: int, hidden: int) -> Tensor:
    """Return blocks first to last (exclusive) of a buffer (T, B, C, *space)."""
    return buffer.narrow(2, first * hidden, (last - first) * hidden)


def views(buffer: Tensor, count: int) -> Views:
    """Return a view for each of `count` steps; a buffer of one step serves all of them."""
    found = buffer.unbind(0)
    return found if len(found) == count else found * count


def pairs(hidden_in: list[Tensor], d: Tensor) -> Pairs:
    """Return the pieces of `hidden_in`, each with its steps of `d`."""
    return list(zip(hidden_in, d.split([len(s) for s in hidden_in]), strict=True))


def channel_sum(d: Tensor) -> Tensor:
    """Return the sum of (T, B, C, *space) over all axes but the channels."""
    return d.sum([axis for axis in range(d.ndim) if axis != 2])


def along_channels(vector: Tensor, like: Tensor) -> Tensor:
    """Return a vector (C,) shaped to broadcast with (B, C, *space)."""
    return vector.view(1, -1, *(1,) * (like.ndim - 2))


def tanh_(a: Tensor) -> Tensor:
    """Apply tanh in place.

    On a CPU many float32 numbers go by 2 sigmoid(2a) - 1, which torch computes several times as fast. Its
    error is below 1.2e-7, one unit in the last place of 1.
    """
    if a.dtype is torch.float32 and a.device.type == "cpu" and a.numel() > 1024:
        # a tensor for the one: a Python number is converted at every call, which costs as much as the sum
        return torch.add(_MINUS_ONE, a.add_(a).sigmoid_(), alpha=2, out=a)
    return a.tanh_()
