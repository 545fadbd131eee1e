"""Layer normalisation of pre-activations, gate by gate, over the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GateNorm(nn.Module):
    """Layer normalisation of (B, gates * hidden, *space): each gate at each position, over its channels.

    The `hidden` channels of a gate get mean 0 and variance 1, then a learned gain and, with `bias`, a learned
    shift. Source: Ba et al. 2016, "Layer Normalization", arXiv:1607.06450, which takes one mean and variance
    over all gates instead.
    """

    def __init__(self, gates: int, hidden_size: int, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.gates, self.eps = gates, eps
        self.weight = nn.Parameter(torch.ones(gates * hidden_size))
        self.bias = nn.Parameter(torch.zeros(gates * hidden_size)) if bias else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the gain to 1 and the shift to 0."""
        self.weight.fill_(1)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, a: Tensor) -> Tensor:
        blocks = a.unflatten(1, (self.gates, -1))
        var, mean = torch.var_mean(blocks, dim=2, correction=0, keepdim=True)
        normed: Tensor = ((blocks - mean) * torch.rsqrt(var + self.eps)).flatten(1, 2)
        space = (1,) * (a.ndim - 2)
        normed = normed * self.weight.view(-1, *space)
        return normed if self.bias is None else normed + self.bias.view(-1, *space)
