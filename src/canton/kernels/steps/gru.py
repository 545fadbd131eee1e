"""The GRU's step and its derivative, with the reset before and after the map."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.cpu.tanh import tanh_
from canton.kernels.spec import Product, Step
from canton.kernels.steps.base import Views, block, channel_sum, pairs, views
from canton.kernels.steps.products import prepare


class GRUBeforeStep(Step):
    """z, r = sigmoid(x_zr + U hidden_in); c = tanh(x_c + V (r hidden_in)); h' = h + z (c - h). Saves z, r,
    c.
    """

    saved_blocks = grad_blocks = 3

    def __init__(self, gates: Product, candidate: Product, rows: int) -> None:
        self.hidden = candidate.weight.shape[0]
        self.gates, self.candidate = prepare(gates, rows, 2), prepare(candidate, rows)

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        count, size = len(gx), self.hidden
        self.x_zr, self.x_c = block(gx, 0, 2, size).unbind(0), block(gx, 2, 3, size).unbind(0)
        self.zr = views(block(saved, 0, 2, size), count)
        self.z, self.r, self.c = (views(block(saved, k, k + 1, size), count) for k in range(3))
        self.reset_hidden = torch.empty_like(self.c[0])

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        self.gates.forward(self.x_zr[t], hidden_in, self.zr[t]).sigmoid_()
        torch.mul(self.r[t], hidden_in, out=self.reset_hidden)
        c = tanh_(self.candidate.forward(self.x_c[t], self.reset_hidden, self.c[t]))
        torch.lerp(state[0], c, self.z[t], out=out[0])

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.activations = [block(saved, k, k + 1, size) for k in range(3)]
        self.d_zr, self.d_c = block(d, 0, 2, size), block(d, 2, 3, size)
        self.dzr, self.dc = self.d_zr.unbind(0), self.d_c.unbind(0)
        self.dz, self.dr = (block(d, k, k + 1, size).unbind(0) for k in range(2))
        self.reset_hidden = torch.empty_like(self.d_c, memory_format=torch.contiguous_format)
        self.scratch = torch.empty_like(self.reset_hidden[0])

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        z, r, c = (a[lo:hi] for a in self.activations)
        reset_hidden = torch.mul(r, hidden_in, out=self.reset_hidden[lo:hi])
        self.lo, self.r, self.keep = lo, r.unbind(0), (1 - z).unbind(0)
        self.slope_z = (c - state[0]).mul_(z).mul_(1 - z).unbind(0)
        self.slope_r = (1 - r).mul_(reset_hidden).unbind(0)
        self.slope_c = torch.addcmul(z, z * c, c, value=-1).unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        torch.mul(dh, self.slope_z[k], out=self.dz[t])
        torch.mul(dh, self.slope_c[k], out=self.dc[t])
        d_reset_hidden = self.candidate.input_grad(self.dc[t], self.scratch)
        torch.mul(d_reset_hidden, self.slope_r[k], out=self.dr[t])
        dh.mul_(self.keep[k])
        into.addcmul_(d_reset_hidden, self.r[k])
        self.gates.add_input_grad(self.dzr[t], into)

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        return [
            self.gates.weight_grad(pairs(hidden_in, self.d_zr)),
            self.candidate.weight_grad([(self.reset_hidden, self.d_c)]),
        ]


class GRUAfterStep(Step):
    """z, r as before; n = V hidden_in + b; c = tanh(x_c + r n); h' = h + z (c - h). Saves z, r, c, n."""

    saved_blocks, grad_blocks = 4, 3

    def __init__(self, gates: Product, candidate: Product, bias: Tensor | None, rows: int) -> None:
        self.hidden = candidate.weight.shape[0]
        self.gates, self.candidate = prepare(gates, rows, 2), prepare(candidate, rows)
        self.bias = bias

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        count, size = len(gx), self.hidden
        self.x_zr, self.x_c = block(gx, 0, 2, size).unbind(0), block(gx, 2, 3, size).unbind(0)
        self.zr = views(block(saved, 0, 2, size), count)
        self.z, self.r, self.c, self.n = (views(block(saved, k, k + 1, size), count) for k in range(4))
        bias = gx.new_zeros(size) if self.bias is None else self.bias
        self.base = bias.view(1, -1, *(1,) * (gx.ndim - 3)).expand_as(self.n[0])

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        self.gates.forward(self.x_zr[t], hidden_in, self.zr[t]).sigmoid_()
        n = self.candidate.forward(self.base, hidden_in, self.n[t])
        c = tanh_(torch.addcmul(self.x_c[t], self.r[t], n, out=self.c[t]))
        torch.lerp(state[0], c, self.z[t], out=out[0])

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.activations = [block(saved, k, k + 1, size) for k in range(4)]
        self.d_zr = block(d, 0, 2, size)
        self.d_n = torch.empty_like(block(d, 2, 3, size), memory_format=torch.contiguous_format)
        self.dzr, self.dn = self.d_zr.unbind(0), self.d_n.unbind(0)
        self.dz, self.dr, self.dc = (block(d, k, k + 1, size).unbind(0) for k in range(3))

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        z, r, c, n = (a[lo:hi] for a in self.activations)
        self.lo, self.r, self.keep = lo, r.unbind(0), (1 - z).unbind(0)
        self.slope_z = (c - state[0]).mul_(z).mul_(1 - z).unbind(0)
        self.slope_r = (1 - r).mul_(r).mul_(n).unbind(0)
        self.slope_c = torch.addcmul(z, z * c, c, value=-1).unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        torch.mul(dh, self.slope_z[k], out=self.dz[t])
        dc = torch.mul(dh, self.slope_c[k], out=self.dc[t])
        torch.mul(dc, self.slope_r[k], out=self.dr[t])
        torch.mul(dc, self.r[k], out=self.dn[t])
        dh.mul_(self.keep[k])
        self.candidate.add_input_grad(self.dn[t], into)
        self.gates.add_input_grad(self.dzr[t], into)

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        grads = [
            self.gates.weight_grad(pairs(hidden_in, self.d_zr)),
            self.candidate.weight_grad(pairs(hidden_in, self.d_n)),
        ]
        return grads if self.bias is None else [*grads, channel_sum(self.d_n)]
