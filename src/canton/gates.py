"""The algebra of gated recurrence: pure elementwise functions, no parameters, no loops.

Every function takes summed pre-activations ("what the affine map of [hidden, input] gave"), channels on axis
1: (B, C) or (B, C, *space). The letters are the papers', with one meaning in all of Canton: ``z`` takes the
new (Chung et al. 2014, arXiv:1412.3555; `torch.nn.GRU` writes 1 - z), ``r`` is how much of the past the
candidate sees.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gru_gates(a: Tensor) -> tuple[Tensor, Tensor]:
    """Update gate z and reset gate r, both in (0, 1), from 2C pre-activations in the order z, r."""
    z, r = torch.sigmoid(a).chunk(2, dim=1)
    return z, r


def gate(a: Tensor) -> Tensor:
    """One gate in (0, 1)."""
    return torch.sigmoid(a)


def candidate(a: Tensor) -> Tensor:
    """The new value on offer, in (-1, 1)."""
    return torch.tanh(a)


def take(h: Tensor, z: Tensor, c: Tensor) -> Tensor:
    """The old value h moved towards the candidate c by the share z: (1 - z) h + z c."""
    return (1 - z) * h + z * c


def lstm_memory(i: Tensor, f: Tensor, g: Tensor, c: Tensor) -> Tensor:
    """The next memory: keep the share sigmoid(f) of c, add the share sigmoid(i) of tanh(g)."""
    return torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)


def lstm_output(o: Tensor, c: Tensor) -> Tensor:
    """What the memory c shows: sigmoid(o) tanh(c)."""
    return torch.sigmoid(o) * torch.tanh(c)


def positive(a: Tensor) -> Tensor:
    """minGRU's candidate, continuous and positive: a + 1/2 where a >= 0, else sigmoid(a).

    Source: Feng et al. 2024, arXiv:2410.01201v1, appendix B.3.
    """
    return torch.where(a >= 0, a + 0.5, torch.sigmoid(a))
