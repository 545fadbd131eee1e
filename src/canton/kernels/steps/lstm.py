"""The long short-term memory's step and its derivative, with or without peepholes and projection."""

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


class LSTMStep(Step):
    """i, f, g, o as in `canton.LSTMCell`; c' = f c + i g; h' = o tanh(c') or its projection.

    Saves i, f, g, o and tanh(c').
    """

    saved_blocks, grad_blocks = 5, 4

    def __init__(
        self, hidden_map: Product, peephole: Tensor | None, projection: Product | None, rows: int
    ) -> None:
        self.hidden = hidden_map.weight.shape[0] // 4
        self.product = prepare(hidden_map, rows, 4)
        self.projection = None if projection is None else prepare(projection, rows)
        self.peephole = peephole

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        size, count = self.hidden, len(gx)
        self.x = gx.unbind(0)
        self.ifgo, self.input_forget = (views(block(saved, 0, n, size), count) for n in (4, 2))
        self.i, self.f, self.g, self.o, self.tanh_c = (
            views(block(saved, k, k + 1, size), count) for k in range(5)
        )
        self.output = torch.empty_like(self.tanh_c[0])
        self._view_peephole(gx)

    def _view_peephole(self, gx: Tensor) -> None:
        if self.peephole is not None:
            self.p_i, self.p_f, self.p_o = (along_channels(p, gx[0]) for p in self.peephole.unbind(0))

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        i, f, g, o, c, new = self.i[t], self.f[t], self.g[t], self.o[t], state[1], out[1]
        self.product.forward(self.x[t], hidden_in, self.ifgo[t])
        if self.peephole is not None:
            i.addcmul_(self.p_i, c)
            f.addcmul_(self.p_f, c)
        self.input_forget[t].sigmoid_()
        torch.mul(f, c, out=new).addcmul_(i, tanh_(g))
        if self.peephole is not None:
            o.addcmul_(self.p_o, new)
        tanh_c = tanh_(self.tanh_c[t].copy_(new))
        if self.projection is None:
            torch.mul(o.sigmoid_(), tanh_c, out=out[0])
        else:
            torch.mul(o.sigmoid_(), tanh_c, out=self.output)
            self.projection.forward(torch.zeros_like(out[0]), self.output, out[0])

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.activations = [block(saved, k, k + 1, size) for k in range(5)]
        self.d, self.da = d, d.unbind(0)
        self.di, self.df, self.dg, self.do = (block(d, k, k + 1, size).unbind(0) for k in range(4))
        self._view_peephole(d)
        self.d_peephole = None if self.peephole is None else torch.zeros_like(self.peephole)
        self.scratch = torch.empty_like(self.di[0], memory_format=torch.contiguous_format)
        self.d_outputs: list[Tensor] = []

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        i, f, g, o, tanh_c = (a[lo:hi] for a in self.activations)
        self.lo, self.keep = lo, f.unbind(0)
        self.slope_i = (1 - i).mul_(i).mul_(g).unbind(0)
        self.slope_f = (1 - f).mul_(f).mul_(state[1]).unbind(0)
        self.slope_g = torch.addcmul(i, i * g, g, value=-1).unbind(0)
        self.slope_o = (1 - o).mul_(o).mul_(tanh_c).unbind(0)
        self.slope_tanh_c = torch.addcmul(o, o * tanh_c, tanh_c, value=-1).unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        (dh, dc), k = grads, t - self.lo
        if self.projection is not None:
            self.d_outputs.append(dh.clone())
            dm = self.projection.input_grad(dh, self.scratch)
        else:
            dm = dh
        do = torch.mul(dm, self.slope_o[k], out=self.do[t])
        dc.addcmul_(dm, self.slope_tanh_c[k])
        if self.peephole is not None:
            dc.addcmul_(do, self.p_o)
        di = torch.mul(dc, self.slope_i[k], out=self.di[t])
        df = torch.mul(dc, self.slope_f[k], out=self.df[t])
        torch.mul(dc, self.slope_g[k], out=self.dg[t])
        dc.mul_(self.keep[k])
        if self.peephole is not None:
            dc.addcmul_(di, self.p_i).addcmul_(df, self.p_f)
        dh.zero_()
        self.product.add_input_grad(self.da[t], into)

    def accumulate(self, lo: int, hi: int, state: Views) -> None:
        if self.d_peephole is None:
            return
        i, f, g, _, _ = (a[lo:hi] for a in self.activations)
        di, df, _, do = (block(self.d, k, k + 1, self.hidden)[lo:hi] for k in range(4))
        new = f * state[1] + i * g  # before zoneout, as the output gate read it
        hidden_in = ((di, state[1]), (df, state[1]), (do, new))
        self.d_peephole += torch.stack([channel_sum(d * c) for d, c in hidden_in])

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        grads = [self.product.weight_grad(pairs(hidden_in, self.d))]
        if self.d_peephole is not None:
            grads.append(self.d_peephole)
        if self.projection is not None:
            outputs = self.activations[3] * self.activations[4]
            grads.append(self.projection.weight_grad([(outputs, torch.stack(self.d_outputs[::-1]))]))
        return grads
