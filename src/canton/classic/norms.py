"""BatchNorm, LayerNorm and InstanceNorm. Channels are the last axis."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.classic.can import Can
from canton.classic.training_state import in_training


class BatchNorm(Can):
    """Batch normalisation per channel, then times gamma plus beta.

    Training uses the batch's statistics and updates the moving ones; inference uses the moving ones.

    Args:
        nip: channels.
        epsilon: added to the variance.
    """

    def __init__(self, nip: int, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.beta = self.make_bias([nip], name="beta", mean=0.0)
        self.gamma = self.make_bias([nip], name="gamma", mean=1.0)
        self.moving_mean = self.make_variable(torch.zeros(nip), name="moving_mean")
        self.moving_variance = self.make_variable(torch.ones(nip), name="moving_variance")
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        if not in_training(self):
            mean, variance = self.moving_mean, self.moving_variance
        else:
            axes = tuple(range(x.dim() - 1))
            variance, mean = torch.var_mean(x, axes, correction=0)
            with torch.no_grad():
                # As in the original: the decay is 0.01 instead of 0.99.
                self.moving_mean.mul_(0.01).add_(mean, alpha=0.99)
                self.moving_variance.mul_(0.01).add_(variance, alpha=0.99)
        scale = torch.rsqrt(variance + self.epsilon) * self.gamma
        return x * scale + (self.beta - mean * scale)


class LayerNorm(Can):
    """Layer normalisation over the last axis, then times alpha plus beta, which are scalars.

    Args:
        nop: ignored.
    """

    def __init__(self, nop: int | None = None) -> None:
        super().__init__()
        self.alpha = self.make_bias([], mean=1)
        self.beta = self.make_bias([], mean=0)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        # where instead of clamp, so that a constant row has no gradient through its variance
        floored = torch.where(variance > 1e-7, variance, variance.new_tensor(1e-7))
        return self.alpha * (x - mean) / torch.sqrt(floored) + self.beta


class InstanceNorm(LayerNorm):
    """Instance normalisation of images (batch, height, width, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, (1, 2), correction=0, keepdim=True)
        return self.alpha * (x - mean) / torch.sqrt(variance + 1e-8) + self.beta
