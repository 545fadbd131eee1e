"""The sLSTM's step and its derivative."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from canton.kernels.cpu.tanh import tanh_
from canton.kernels.spec import Product, Step
from canton.kernels.steps.base import Views, block, pairs, views
from canton.kernels.steps.products import prepare


class SLSTMStep(Step):
    """i, f, z, o, m as in `canton.SLSTMCell`; c' = f c + i z; n' = f n + i; h' = o c' / n'.

    Saves i, f, z, o (after their functions) and the slope of log(sigmoid), sigmoid(-f).
    """

    saved_blocks, grad_blocks = 5, 4

    def __init__(self, hidden_map: Product, rows: int) -> None:
        self.hidden = hidden_map.weight.shape[0] // 4
        self.product = prepare(hidden_map, rows, 4)

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        size, count = self.hidden, len(gx)
        self.x, self.gates = gx.unbind(0), views(block(saved, 0, 4, size), count)
        self.i, self.f, self.z, self.o, self.log_slope = (
            views(block(saved, k, k + 1, size), count) for k in range(5)
        )

    def step(self, t: int, state: Views, hidden_in: Tensor, out: Views) -> None:
        i, f, z, o = self.i[t], self.f[t], self.z[t], self.o[t]
        _, c, n, m = state
        self.product.forward(self.x[t], hidden_in, self.gates[t])
        torch.neg(f, out=self.log_slope[t]).sigmoid_()
        log_f = F.logsigmoid(f).add_(m)
        new_m = torch.where(n == 0, i, torch.maximum(i, log_f))
        i.sub_(new_m).exp_()
        torch.sub(log_f, new_m, out=f).exp_()
        out[3].copy_(new_m)
        torch.mul(f, c, out=out[1]).addcmul_(i, tanh_(z))
        torch.mul(f, n, out=out[2]).add_(i)
        torch.div(out[1], out[2], out=out[0]).mul_(o.sigmoid_())

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.activations = [block(saved, k, k + 1, size) for k in range(5)]
        self.d, self.da = d, d.unbind(0)
        self.di, self.df, self.dz, self.do = (block(d, k, k + 1, size).unbind(0) for k in range(4))

    def precompute(self, lo: int, hi: int, state: Views, hidden_in: Tensor) -> None:
        i, f, z, o, log_slope = (a[lo:hi] for a in self.activations)
        _, c, n, _ = state
        new_n = f * n + i
        ratio = (f * c + i * z) / new_n
        # where m' = a its gradient goes to a, else to b; at equality half to each, as torch.maximum does
        to_a = torch.where(n == 0, torch.ones_like(i), (torch.sign(i - f) + 1) / 2)
        self.lo = lo
        self.slope_c, self.slope_n = (o / new_n).unbind(0), (-o * ratio / new_n).unbind(0)
        self.slope_o = (ratio * o * (1 - o)).unbind(0)
        self.slope_z = ((1 - z * z) * i).unbind(0)
        self.i_z, self.i_one, self.f_c, self.f_n, self.f_one = (
            part.unbind(0) for part in (i * z, i, f * c, f * n, f)
        )
        self.to_a, self.log_slopes = to_a.unbind(0), log_slope.unbind(0)

    def backward(self, t: int, grads: Views, into: Tensor) -> None:
        (dh, dc, dn, dm), k = grads, t - self.lo
        torch.mul(dh, self.slope_o[k], out=self.do[t])
        dc.addcmul_(dh, self.slope_c[k])
        dn.addcmul_(dh, self.slope_n[k])
        torch.mul(dc, self.slope_z[k], out=self.dz[t])
        da = torch.mul(dc, self.i_z[k], out=self.di[t]).addcmul_(dn, self.i_one[k])
        db = torch.addcmul(dc * self.f_c[k], dn, self.f_n[k])
        dm.sub_(da).sub_(db)
        to_a = dm * self.to_a[k]
        da.add_(to_a)
        db.add_(dm.sub_(to_a))
        torch.mul(db, self.log_slopes[k], out=self.df[t])
        dm.copy_(db)
        dc.mul_(self.f_one[k])
        dn.mul_(self.f_one[k])
        dh.zero_()
        self.product.add_input_grad(self.da[t], into)

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        return [self.product.weight_grad(pairs(hidden_in, self.d))]
