"""The minimal gated unit's step and its derivative, in its four variants."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import MGU
from canton.kernels.steps.base import (
    Algebra,
    Views,
    along_channels,
    block,
    channel_sum,
    pairs,
    steps,
    tanh_,
)
from canton.kernels.steps.products import ready


class Minimal(Algebra):
    """f = sigmoid(x_f + U seen + b); c = tanh(x_c + V (f seen, or seen)); h' = h + f (c - h). Keeps f, c."""

    kept = blocks = 2

    def __init__(self, plan: MGU, rows: int) -> None:
        self.hidden, self.plan = plan.candidate.weight.shape[0], plan
        self.gate, self.candidate = ready(plan.gate, rows), ready(plan.candidate, rows)

    def open(self, gx: Tensor, kept: Tensor) -> None:
        size, count = self.hidden, len(gx)
        self.f, self.c = (steps(block(kept, k, k + 1, size), count) for k in range(2))
        self.passed = torch.empty_like(self.c[0])
        bias = gx.new_zeros(size) if self.plan.bias is None else self.plan.bias
        base = along_channels(bias, gx[0])
        if self.plan.gate_input:
            self.x_f, self.x_c = block(gx, 0, 1, size) + base, block(gx, 1, 2, size)
        else:
            self.x_f, self.x_c = base.expand(count, *self.c[0].shape), gx

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        f = self.gate.plus(self.x_f[t], seen, self.f[t]).sigmoid_()
        if self.plan.reset:
            seen = torch.mul(f, seen, out=self.passed)
        c = tanh_(self.candidate.plus(self.x_c[t], seen, self.c[t]))
        torch.lerp(state[0], c, f, out=out[0])

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        self.all = [block(kept, k, k + 1, self.hidden) for k in range(2)]
        self.d_f, self.d_c = (block(d, k, k + 1, self.hidden) for k in range(2))
        self.to_f, self.to_c = self.d_f.unbind(0), self.d_c.unbind(0)
        self.passed = torch.empty_like(self.d_c, memory_format=torch.contiguous_format)
        self.scratch = torch.empty_like(self.passed[0])

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        f, c = (a[lo:hi] for a in self.all)
        self.lo, self.f, self.keep = lo, f.unbind(0), (1 - f).unbind(0)
        self.f_f = (c - state[0]).mul_(f).mul_(1 - f).unbind(0)
        self.f_c = torch.addcmul(f, f * c, c, value=-1).unbind(0)
        if self.plan.reset:
            passed = torch.mul(f, seen, out=self.passed[lo:hi])
            self.f_p = (1 - f).mul_(passed).unbind(0)

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        df = torch.mul(dh, self.f_f[k], out=self.to_f[t])
        torch.mul(dh, self.f_c[k], out=self.to_c[t])
        dh.mul_(self.keep[k])
        if self.plan.reset:
            d_passed = self.candidate.back_new(self.to_c[t], self.scratch)
            df.addcmul_(d_passed, self.f_p[k])
            into.addcmul_(d_passed, self.f[k])
        else:
            self.candidate.back(self.to_c[t], into)
        self.gate.back(df, into)

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        passed = [(self.passed, self.d_c)] if self.plan.reset else pairs(seen, self.d_c)
        grads = [self.gate.weight_grad(pairs(seen, self.d_f)), self.candidate.weight_grad(passed)]
        return grads if self.plan.bias is None else [*grads, channel_sum(self.d_f)]
