"""The plain recurrent step and its derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import RNN
from canton.kernels.steps.base import Algebra, Views, pairs, steps, tanh_
from canton.kernels.steps.products import ready


class Plain(Algebra):
    """h' = act(x + U seen). Keeps h' before zones."""

    kept = blocks = 1

    def __init__(self, plan: RNN, rows: int) -> None:
        self.hidden, self.relu = plan.hidden.weight.shape[0], plan.relu
        self.product = ready(plan.hidden, rows)

    def open(self, gx: Tensor, kept: Tensor) -> None:
        self.x, self.new = gx.unbind(0), steps(kept, len(gx))

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        a = self.product.plus(self.x[t], seen, self.new[t])
        out[0].copy_(a.relu_() if self.relu else tanh_(a))

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        self.kept_new, self.d, self.to = kept, d, d.unbind(0)

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        new = self.kept_new[lo:hi]
        self.lo = lo
        self.f = ((new > 0).to(new.dtype) if self.relu else 1 - new * new).unbind(0)

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        torch.mul(grads[0], self.f[t - self.lo], out=self.to[t])
        grads[0].zero_()
        self.product.back(self.to[t], into)

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        return [self.product.weight_grad(pairs(seen, self.d))]
