"""Gate equations: elementwise functions without parameters.

The arguments are pre-activations (the sum of both halves' outputs) with channels on axis 1: (B, C) or
(B, C, *space). The update gate ``z`` weights the new value, as in Chung et al. 2014, arXiv:1412.3555
(`torch.nn.GRU` writes 1 - z). The reset gate ``r`` scales the state that the candidate reads.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gru_gates(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return update gate z and reset gate r, both in (0, 1), from (B, 2C, *space) in the order z, r."""
    z, r = torch.sigmoid(a).chunk(2, dim=1)
    return z, r


def gate(a: Tensor) -> Tensor:
    """Return a gate in (0, 1): sigmoid(a)."""
    return torch.sigmoid(a)


def candidate(a: Tensor) -> Tensor:
    """Return the candidate state in (-1, 1): tanh(a)."""
    return torch.tanh(a)


def lerp_gate(h: Tensor, z: Tensor, c: Tensor) -> Tensor:
    """Interpolate from the state h to the candidate c by the gate z: (1 - z) h + z c."""
    return (1 - z) * h + z * c


def lstm_memory(i: Tensor, f: Tensor, g: Tensor, c: Tensor) -> Tensor:
    """Return an LSTM's next memory: sigmoid(f) c + sigmoid(i) tanh(g)."""
    return torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)


def lstm_output(o: Tensor, c: Tensor) -> Tensor:
    """Return an LSTM's output: sigmoid(o) tanh(c)."""
    return torch.sigmoid(o) * torch.tanh(c)


def positive(a: Tensor) -> Tensor:
    """Return minGRU's positive candidate: a + 1/2 where a >= 0, else sigmoid(a).

    Source: Feng et al. 2024, arXiv:2410.01201v1, appendix B.3.
    """
    return torch.where(a >= 0, a + 0.5, torch.sigmoid(a))
