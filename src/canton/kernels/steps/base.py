"""Helpers that the steps share: blocks and views of buffers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from canton.kernels.steps.products import Pairs

Views = Sequence[Tensor]


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
