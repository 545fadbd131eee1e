"""Dense layers. The weight is (in, out); the input's last axis is the channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from canton.classic.can import Can
from canton.classic.norms import LayerNorm


class Dense(Can):
    """i @ W + b: (batch, num_inputs) -> (batch, num_outputs).

    Args:
        num_inputs, num_outputs: channels.
        bias: whether there is a b.
        mean: initial value of b (not of W); 0 if None.
        stddev: W is initialised with the standard deviation sqrt(stddev / num_inputs); 2 if None.
        initializer: initial value of W, an array.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        bias: bool = True,
        mean: float | None = None,
        stddev: float | None = None,
        initializer: Any = None,
    ) -> None:
        super().__init__()
        deviation = math.sqrt((2.0 if stddev is None else stddev) / num_inputs)
        self.W = self.make_weight([num_inputs, num_outputs], stddev=deviation, initializer=initializer)
        self.use_bias = bias
        if bias:
            self.b = self.make_bias([num_outputs], mean=mean or 0.0)

    def forward(self, i: Tensor) -> Tensor:
        y = i @ self.W
        return y + self.b if self.use_bias else y


class LayerNormDense(Dense):
    """`Dense` with layer normalisation before the bias: LayerNorm(i @ W) + b."""

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        bias: bool = True,
        mean: float | None = None,
        stddev: float | None = None,
        initializer: Any = None,
    ) -> None:
        super().__init__(num_inputs, num_outputs, bias, mean, stddev, initializer)
        self.layernorm = self.add(LayerNorm(num_outputs))

    def forward(self, i: Tensor) -> Tensor:
        y: Tensor = self.layernorm(i @ self.W)
        return y + self.b if self.use_bias else y


class TimeDistributedDense(Dense):
    """`Dense` at every time step: (batch, time, num_inputs) -> (batch, time, num_outputs)."""

    def forward(self, i: Tensor) -> Tensor:
        batch, time, _ = i.shape
        return super().forward(i.reshape(batch * time, -1)).reshape(batch, time, -1)


class LastDimDense(Dense):
    """`Dense` on the last axis: (..., num_inputs) -> (..., num_outputs)."""

    def forward(self, i: Tensor) -> Tensor:
        return super().forward(i.reshape(-1, i.shape[-1])).reshape(*i.shape[:-1], self.W.shape[1])


class Expansion(Can):
    """Map every channel to `factor` channels: (batch, nip) -> (batch, nip * factor).

    Output n * factor + k is i[n] * W[n, k] + b[n * factor + k].

    Args:
        nip: channels of the input.
        factor: number of outputs per channel.
        stddev: standard deviation of W at initialisation.
    """

    def __init__(self, nip: int, factor: int, stddev: float = 1) -> None:
        super().__init__()
        self.nip, self.factor, self.nop = nip, factor, nip * factor
        self.W = self.make_weight([nip, factor], stddev=stddev)
        self.b = self.make_bias([nip * factor])

    def forward(self, i: Tensor) -> Tensor:
        return torch.einsum("bi,if->bif", i, self.W).reshape(-1, self.nop) + self.b
