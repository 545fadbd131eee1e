"""The minimal gated unit's step and its derivative, in its four variants."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.cpu.tanh import tanh_
from canton.kernels.spec import Product, Step
from canton.kernels.steps.base import (
    Views,
    along_channels,
    block,
    channel_sum,
    pairs,
    views,
)
from canton.kernels.steps.products import prepare


class MGUStep(Step):
    """f = sigmoid(x_f + U hidden_in + b); c = tanh(x_c + V (f hidden_in, or hidden_in)); h' = h + f (c - h).

    Saves f, c.
    """

    saved_blocks = grad_blocks = 2

    def __init__(
        self,
        gate: Product,
        candidate: Product,
        bias: Tensor | None,
        *,
        gate_input: bool,
        reset: bool,
        rows: int,
    ) -> None:
        self.hidden, self.bias = candidate.weight.shape[0], bias
        self.gate_input, self.reset = gate_input, reset
        self.gate, self.candidate = prepare(gate, rows), prepare(candidate, rows)

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        size, count = self.hidden, len(gx)
        self.f, self.c = (views(block(saved, k, k + 1, size), count) for k in range(2))
        self.reset_hidden = torch.empty_like(self.c[0])
        bias = gx.new_zeros(size) if self.bias is None else self.bias
        base = along_channels(bias, gx[0])
        if self.gate_input:
            self.x_f, self.x_c = block(gx, 0, 1, size) + base, block(gx, 1, 2, size)
        else:
            self.x_f, self.x_c = base.expand(count, *self.c[0].shape), gx

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        f = self.gate.forward(self.x_f[t], hidden_in, self.f[t]).sigmoid_()
        if self.reset:
            hidden_in = torch.mul(f, hidden_in, out=self.reset_hidden)
        c = tanh_(self.candidate.forward(self.x_c[t], hidden_in, self.c[t]))
        torch.lerp(state[0], c, f, out=out[0])

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        self.activations = [block(saved, k, k + 1, self.hidden) for k in range(2)]
        self.d_f, self.d_c = (block(d, k, k + 1, self.hidden) for k in range(2))
        self.df, self.dc = self.d_f.unbind(0), self.d_c.unbind(0)
        self.reset_hidden = torch.empty_like(self.d_c, memory_format=torch.contiguous_format)
        self.scratch = torch.empty_like(self.reset_hidden[0])

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        f, c = (a[lo:hi] for a in self.activations)
        self.lo, self.f, self.keep = lo, f.unbind(0), (1 - f).unbind(0)
        self.slope_f = (c - state[0]).mul_(f).mul_(1 - f).unbind(0)
        self.slope_c = torch.addcmul(f, f * c, c, value=-1).unbind(0)
        if self.reset:
            reset_hidden = torch.mul(f, hidden_in, out=self.reset_hidden[lo:hi])
            self.slope_reset_hidden = (1 - f).mul_(reset_hidden).unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        df = torch.mul(dh, self.slope_f[k], out=self.df[t])
        torch.mul(dh, self.slope_c[k], out=self.dc[t])
        dh.mul_(self.keep[k])
        if self.reset:
            d_reset_hidden = self.candidate.input_grad(self.dc[t], self.scratch)
            df.addcmul_(d_reset_hidden, self.slope_reset_hidden[k])
            into.addcmul_(d_reset_hidden, self.f[k])
        else:
            self.candidate.add_input_grad(self.dc[t], into)
        self.gate.add_input_grad(df, into)

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        reset_hidden = [(self.reset_hidden, self.d_c)] if self.reset else pairs(hidden_in, self.d_c)
        grads = [self.gate.weight_grad(pairs(hidden_in, self.d_f)), self.candidate.weight_grad(reset_hidden)]
        return grads if self.bias is None else [*grads, channel_sum(self.d_f)]
