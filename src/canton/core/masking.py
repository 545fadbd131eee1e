"""Masked steps: a run over the steps that count, and what it gives at all steps.

A row's steps that count move to its front, and their number is the row's length. Every kernel that takes
lengths then runs a mask as well, and computes nothing for a masked step. Time is axis 0, the batch axis 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Compaction(NamedTuple):
    """How the steps of a masked sequence move.

    Attributes:
        order: (T, B) integers, for every place the step that moves there.
        inverse: (T, B) integers, for every step the place to which it moves.
        lengths: (B,) integers, how many steps of each row count.
    """

    order: Tensor
    inverse: Tensor
    lengths: Tensor


def compaction(mask: Tensor) -> Compaction:
    """Return how the steps move for a `mask` (T, B), true where a step counts."""
    order = torch.argsort((~mask).to(torch.uint8), dim=0, stable=True)
    return Compaction(order, torch.argsort(order, dim=0), mask.sum(0))


def take(xs: Tensor, steps: Tensor) -> Tensor:
    """Return of `xs` (T, B, ...) in every row the `steps` (any, B)."""
    return xs[steps, torch.arange(xs.shape[1], device=xs.device)]


def select(which: Tensor, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return `new` in the rows of `which` (B,) and `old` in the others, (B, ...) each."""
    return tuple(
        torch.where(which.view(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True)
    )


def valid_steps(steps: int, lengths: Tensor) -> Tensor:
    """Return (T, B), true at the steps before each row's length."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def states_at_all_steps(states: Tensor, first: Tensor, mask: Tensor | None, *, backward: bool) -> Tensor:
    """Return the state after every step of the sequence (T, B, ...).

    Args:
        states: (T, B, ...), the state after each step that counts, in the order of the run.
        first: (B, ...), the state before the run.
        mask: (T, B), true where a step counts; None if all do.
        backward: whether the run went from the last step to the first. The state "after" a step is then the
            one that includes it and the later ones.
    """
    if mask is None:
        return states.flip(0) if backward else states
    counted = mask.long()
    done = counted.flip(0).cumsum(0).flip(0) if backward else counted.cumsum(0)
    return take(torch.cat([first.unsqueeze(0), states]), done)
