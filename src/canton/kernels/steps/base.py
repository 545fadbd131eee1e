"""What the loop over time asks of a cell: one step forward, and the same step's derivative.

A step keeps the values of its gates in `kept`. On the way back the derivatives that do not depend on the
incoming gradient, the *factors*, are computed for many steps at once; `back` then only multiplies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from canton.kernels.steps.products import Pairs

Views = Sequence[Tensor]

_MINUS_ONE = torch.tensor(-1.0)


class Algebra:
    """One cell's step. H is the channels of a gate; a *block* is H channels of a buffer.

    Attributes:
        hidden: H.
        kept: how many blocks a step keeps for the way back.
        blocks: how many blocks of pre-activations have a gradient; those of gx come last.
    """

    hidden: int
    kept: int
    blocks: int

    def open(self, gx: Tensor, kept: Tensor) -> None:
        """Before the first step: gx (T, B, G, *space), kept (T or 1, B, kept * H, *space)."""
        raise NotImplementedError

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        """Write the state after step t to `out`; `seen` is what the maps see of state[0]."""
        raise NotImplementedError

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        """Before the way back: d (T, B, blocks * H, *space) will hold the pre-activations' gradients."""
        raise NotImplementedError

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        """Make ready the steps lo to hi; `state` and `seen` (hi - lo, B, C, *space) as in `step`."""
        raise NotImplementedError

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        """From the gradients of the state after step t, in place, to those of the state before it.

        What passes through `seen` is added to `into`, which may be grads[0] itself.
        """
        raise NotImplementedError

    def collect(self, lo: int, hi: int, state: Views) -> None:
        """After steps lo to hi went back: gather what is not a product's weight, if there is any."""

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        """The gradients of the plan's weights in its order; `seen` is all steps, in pieces."""
        raise NotImplementedError


def block(buffer: Tensor, first: int, last: int, hidden: int) -> Tensor:
    """Blocks first to last (exclusive) of a buffer (T, B, C, *space)."""
    return buffer.narrow(2, first * hidden, (last - first) * hidden)


def steps(buffer: Tensor, count: int) -> Views:
    """A view for each of `count` steps; a buffer with one place serves them all."""
    views = buffer.unbind(0)
    return views if len(views) == count else views * count


def pairs(seen: list[Tensor], d: Tensor) -> Pairs:
    """The pieces of `seen`, each with its steps of `d`."""
    return list(zip(seen, d.split([len(s) for s in seen]), strict=True))


def channel_sum(d: Tensor) -> Tensor:
    """The sum of (T, B, C, *space) over all but the channels."""
    return d.sum([axis for axis in range(d.ndim) if axis != 2])


def along_channels(vector: Tensor, like: Tensor) -> Tensor:
    """A vector (C,) shaped to go with (B, C, *space)."""
    return vector.view(1, -1, *(1,) * (like.ndim - 2))


def tanh_(a: Tensor) -> Tensor:
    """tanh in place.

    Many in float32 on a processor as 2 sigmoid(2a) - 1, which torch computes several times as fast; its error
    is below 1.2e-7, one unit in the last place of 1.
    """
    if a.dtype is torch.float32 and a.device.type == "cpu" and a.numel() > 1024:
        # a tensor for the one: a Python number is converted anew at every call, as dear as the sum
        return torch.add(_MINUS_ONE, a.add_(a).sigmoid_(), alpha=2, out=a)
    return a.tanh_()
