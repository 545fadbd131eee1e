"""The GRU's step and its derivative, with the reset before and after the map."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import GRUAfter, GRUBefore
from canton.kernels.steps.base import Algebra, Views, block, channel_sum, pairs, steps, tanh_
from canton.kernels.steps.products import ready


class Before(Algebra):
    """z, r = sigmoid(x_zr + U seen); c = tanh(x_c + V (r seen)); h' = h + z (c - h). Keeps z, r, c."""

    kept = blocks = 3

    def __init__(self, plan: GRUBefore, rows: int) -> None:
        self.hidden = plan.candidate.weight.shape[0]
        self.gates, self.candidate = ready(plan.gates, rows, 2), ready(plan.candidate, rows)

    def open(self, gx: Tensor, kept: Tensor) -> None:
        count, size = len(gx), self.hidden
        self.x_zr, self.x_c = block(gx, 0, 2, size).unbind(0), block(gx, 2, 3, size).unbind(0)
        self.zr = steps(block(kept, 0, 2, size), count)
        self.z, self.r, self.c = (steps(block(kept, k, k + 1, size), count) for k in range(3))
        self.passed = torch.empty_like(self.c[0])

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        self.gates.plus(self.x_zr[t], seen, self.zr[t]).sigmoid_()
        torch.mul(self.r[t], seen, out=self.passed)
        c = tanh_(self.candidate.plus(self.x_c[t], self.passed, self.c[t]))
        torch.lerp(state[0], c, self.z[t], out=out[0])

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.all = [block(kept, k, k + 1, size) for k in range(3)]
        self.d_zr, self.d_c = block(d, 0, 2, size), block(d, 2, 3, size)
        self.to_zr, self.to_c = self.d_zr.unbind(0), self.d_c.unbind(0)
        self.to_z, self.to_r = (block(d, k, k + 1, size).unbind(0) for k in range(2))
        self.passed = torch.empty_like(self.d_c, memory_format=torch.contiguous_format)
        self.scratch = torch.empty_like(self.passed[0])

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        z, r, c = (a[lo:hi] for a in self.all)
        passed = torch.mul(r, seen, out=self.passed[lo:hi])
        self.lo, self.r, self.keep = lo, r.unbind(0), (1 - z).unbind(0)
        self.f_z = (c - state[0]).mul_(z).mul_(1 - z).unbind(0)
        self.f_r = (1 - r).mul_(passed).unbind(0)
        self.f_c = torch.addcmul(z, z * c, c, value=-1).unbind(0)

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        torch.mul(dh, self.f_z[k], out=self.to_z[t])
        torch.mul(dh, self.f_c[k], out=self.to_c[t])
        d_passed = self.candidate.back_new(self.to_c[t], self.scratch)
        torch.mul(d_passed, self.f_r[k], out=self.to_r[t])
        dh.mul_(self.keep[k])
        into.addcmul_(d_passed, self.r[k])
        self.gates.back(self.to_zr[t], into)

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        return [
            self.gates.weight_grad(pairs(seen, self.d_zr)),
            self.candidate.weight_grad([(self.passed, self.d_c)]),
        ]


class After(Algebra):
    """z, r as before; n = V seen + b; c = tanh(x_c + r n); h' = h + z (c - h). Keeps z, r, c, n."""

    kept, blocks = 4, 3

    def __init__(self, plan: GRUAfter, rows: int) -> None:
        self.hidden = plan.candidate.weight.shape[0]
        self.gates, self.candidate = ready(plan.gates, rows, 2), ready(plan.candidate, rows)
        self.bias = plan.bias

    def open(self, gx: Tensor, kept: Tensor) -> None:
        count, size = len(gx), self.hidden
        self.x_zr, self.x_c = block(gx, 0, 2, size).unbind(0), block(gx, 2, 3, size).unbind(0)
        self.zr = steps(block(kept, 0, 2, size), count)
        self.z, self.r, self.c, self.n = (steps(block(kept, k, k + 1, size), count) for k in range(4))
        bias = gx.new_zeros(size) if self.bias is None else self.bias
        self.base = bias.view(1, -1, *(1,) * (gx.ndim - 3)).expand_as(self.n[0])

    def step(self, t: int, state: Views, seen: Tensor, out: Views) -> None:
        self.gates.plus(self.x_zr[t], seen, self.zr[t]).sigmoid_()
        n = self.candidate.plus(self.base, seen, self.n[t])
        c = tanh_(torch.addcmul(self.x_c[t], self.r[t], n, out=self.c[t]))
        torch.lerp(state[0], c, self.z[t], out=out[0])

    def open_back(self, kept: Tensor, d: Tensor) -> None:
        size = self.hidden
        self.all = [block(kept, k, k + 1, size) for k in range(4)]
        self.d_zr = block(d, 0, 2, size)
        self.d_n = torch.empty_like(block(d, 2, 3, size), memory_format=torch.contiguous_format)
        self.to_zr, self.to_n = self.d_zr.unbind(0), self.d_n.unbind(0)
        self.to_z, self.to_r, self.to_c = (block(d, k, k + 1, size).unbind(0) for k in range(3))

    def factors(self, lo: int, hi: int, state: Views, seen: Tensor) -> None:
        z, r, c, n = (a[lo:hi] for a in self.all)
        self.lo, self.r, self.keep = lo, r.unbind(0), (1 - z).unbind(0)
        self.f_z = (c - state[0]).mul_(z).mul_(1 - z).unbind(0)
        self.f_r = (1 - r).mul_(r).mul_(n).unbind(0)
        self.f_c = torch.addcmul(z, z * c, c, value=-1).unbind(0)

    def back(self, t: int, grads: Views, into: Tensor) -> None:
        dh, k = grads[0], t - self.lo
        torch.mul(dh, self.f_z[k], out=self.to_z[t])
        dc = torch.mul(dh, self.f_c[k], out=self.to_c[t])
        torch.mul(dc, self.f_r[k], out=self.to_r[t])
        torch.mul(dc, self.r[k], out=self.to_n[t])
        dh.mul_(self.keep[k])
        self.candidate.back(self.to_n[t], into)
        self.gates.back(self.to_zr[t], into)

    def weight_grads(self, seen: list[Tensor]) -> list[Tensor]:
        grads = [
            self.gates.weight_grad(pairs(seen, self.d_zr)),
            self.candidate.weight_grad(pairs(seen, self.d_n)),
        ]
        return grads if self.bias is None else [*grads, channel_sum(self.d_n)]
