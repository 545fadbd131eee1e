"""The long short-term memory's step and its derivative, with or without peepholes and projection."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import LSTM
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


class Memory(Algebra):
    """i, f, g, o as in `canton.LSTMCell`; c' = f c + i g; h' = o tanh(c') or its projection.

    Keeps i, f, g, o and tanh(c').
    """

    kept, blocks = 5, 4

    def __init__(self, plan: LSTM, rows: int) -> None:
        self.hidden = plan.hidden.weight.shape[0] // 4
        self.product = ready(plan.hidden, rows, 4)
        self.projection = None if plan.projection is None else ready(plan.projection, rows)
        self.peephole = plan.peephole

    def open(self, gx: Tensor, kept: Tensor) -> None:
        size, count = self.hidden, len(gx)
        self.x = gx.unbind(0)
        self.ifgo, self.input_forget = (steps(block(kept, 0, n, size), count) for n in (4, 2))
        self.i, self.f, self.g, self.o, self.shown = (
            steps(block(kept, k, k + 1, size), count) for k in range(5)
        )
        self.output = torch.empty_like(self.shown[0])
        self._open_peephole(gx)

    def _open_peephole(self, gx: Tensor) -> None:
        if self.peephole is not None:
            self.p_i, self.p_f, self.p_o = (along_channels(p, gx[0]) for p in self.peephole.unbind(0))

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        i, f, g, o, c, new = self.i[t], self.f[t], self.g[t], self.o[t], state[1], out[1]
        self.product.plus(self.x[t], seen, self.ifgo[t])
        if self.peephole is not None:
            i.addcmul_(self.p_i, c)
            f.addcmul_(self.p_f, c)
        self.input_forget[t].sigmoid_()
        torch.mul(f, c, out=new).addcmul_(i, tanh_(g))
        if self.peephole is not None:
            o.addcmul_(self.p_o, new)
        shown = tanh_(self.shown[t].copy_(new))
        if self.projection is None:
            torch.mul(o.sigmoid_(), shown, out=out[0])
        else:
            torch.mul(o.sigmoid_(), shown, out=self.output)
            self.projection.plus(torch.zeros_like(out[0]), self.output, out[0])

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.all = [block(kept, k, k + 1, size) for k in range(5)]
        self.d, self.to = d, d.unbind(0)
        self.to_i, self.to_f, self.to_g, self.to_o = (block(d, k, k + 1, size).unbind(0) for k in range(4))
        self._open_peephole(d)
        self.d_peephole = None if self.peephole is None else torch.zeros_like(self.peephole)
        self.scratch = torch.empty_like(self.to_i[0], memory_format=torch.contiguous_format)
        self.d_outputs: list[Tensor] = []

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        i, f, g, o, shown = (a[lo:hi] for a in self.all)
        self.lo, self.keep = lo, f.unbind(0)
        self.f_i = (1 - i).mul_(i).mul_(g).unbind(0)
        self.f_f = (1 - f).mul_(f).mul_(state[1]).unbind(0)
        self.f_g = torch.addcmul(i, i * g, g, value=-1).unbind(0)
        self.f_o = (1 - o).mul_(o).mul_(shown).unbind(0)
        self.f_shown = torch.addcmul(o, o * shown, shown, value=-1).unbind(0)

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        (dh, dc), k = grads, t - self.lo
        if self.projection is not None:
            self.d_outputs.append(dh.clone())
            dm = self.projection.back_new(dh, self.scratch)
        else:
            dm = dh
        do = torch.mul(dm, self.f_o[k], out=self.to_o[t])
        dc.addcmul_(dm, self.f_shown[k])
        if self.peephole is not None:
            dc.addcmul_(do, self.p_o)
        di = torch.mul(dc, self.f_i[k], out=self.to_i[t])
        df = torch.mul(dc, self.f_f[k], out=self.to_f[t])
        torch.mul(dc, self.f_g[k], out=self.to_g[t])
        dc.mul_(self.keep[k])
        if self.peephole is not None:
            dc.addcmul_(di, self.p_i).addcmul_(df, self.p_f)
        dh.zero_()
        self.product.back(self.to[t], into)

    def collect(self, lo: int, hi: int, state: Views) -> None:
        if self.d_peephole is None:
            return
        i, f, g, _, _ = (a[lo:hi] for a in self.all)
        di, df, _, do = (block(self.d, k, k + 1, self.hidden)[lo:hi] for k in range(4))
        new = f * state[1] + i * g  # before zones, as the output gate saw it
        seen = ((di, state[1]), (df, state[1]), (do, new))
        self.d_peephole += torch.stack([channel_sum(d * c) for d, c in seen])

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        grads = [self.product.weight_grad(pairs(seen, self.d))]
        if self.d_peephole is not None:
            grads.append(self.d_peephole)
        if self.projection is not None:
            outputs = self.all[3] * self.all[4]
            grads.append(self.projection.weight_grad([(outputs, torch.stack(self.d_outputs[::-1]))]))
        return grads
