"""The Elman network's step and its derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.cpu.tanh import tanh_
from canton.kernels.spec import Product, Step
from canton.kernels.steps.base import Views, pairs, views
from canton.kernels.steps.products import prepare


class RNNStep(Step):
    """h' = act(x + U hidden_in). Saves h' before zoneout."""

    saved_blocks = grad_blocks = 1

    def __init__(self, hidden_map: Product, relu: bool, rows: int) -> None:
        self.hidden, self.relu = hidden_map.weight.shape[0], relu
        self.product = prepare(hidden_map, rows)

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        self.x, self.new = gx.unbind(0), views(saved, len(gx))

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        a = self.product.forward(self.x[t], hidden_in, self.new[t])
        out[0].copy_(a.relu_() if self.relu else tanh_(a))

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        self.saved_new, self.d, self.da = saved, d, d.unbind(0)

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        new = self.saved_new[lo:hi]
        self.lo = lo
        self.f = ((new > 0).to(new.dtype) if self.relu else 1 - new * new).unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        torch.mul(grads[0], self.f[t - self.lo], out=self.da[t])
        grads[0].zero_()
        self.product.add_input_grad(self.da[t], into)

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        return [self.product.weight_grad(pairs(hidden_in, self.d))]
