"""The plain LSTM as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.again import differentiable
from canton.kernels.native import layout
from canton.kernels.native.library import Sequence, call, empty
from canton.kernels.plan import LSTM, Job, Product, Result


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`, whose plan is an LSTM without peepholes or projection; gradients of gradients by `loop`."""
    plan = job.plan
    assert isinstance(plan, LSTM)
    tensors = (job.gx, *job.state, plan.hidden.weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, c = _Run.apply(job, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, (ys[-1], c)
    _, hs, cs, _ = _forward(plan.hidden, *tensors, keep=False)
    ys = layout.first(hs[1:], 2)
    return ys, (ys[-1], layout.first(cs[-1], 1).clone())


def _forward(
    product: Product, gx: Tensor, h: Tensor, c: Tensor, weight: Tensor, *, keep: bool
) -> tuple[Sequence, Tensor, Tensor, Tensor | None]:
    """The run's sizes; h and c before, between and after the steps; i, f, g, o, tanh(c) of every step."""
    hidden = h.shape[1]
    q = layout.sequence(product, gx, hidden)
    gx = layout.last(gx, 2)
    shape = gx.shape[:-1]
    hs, cs = (empty(gx, shape[0] + 1, *shape[1:], hidden) for _ in range(2))
    hs[0], cs[0] = h.movedim(1, -1), c.movedim(1, -1)
    acts = empty(gx, *shape, 5 * hidden) if keep else None
    call("canton_lstm", q, gx=gx, first=weight.contiguous(), hs=hs, cs=cs, acts=acts)
    return q, hs, cs, acts


class _Run(torch.autograd.Function):
    """forward(job, loop, gx, h, c, weight) -> ys and the last c."""

    @staticmethod
    def forward(
        ctx: Any,
        job: Job,
        loop: Callable[[Job], Result],
        gx: Tensor,
        h: Tensor,
        c: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(job.plan, LSTM)
        ctx.q, hs, cs, acts = _forward(job.plan.hidden, gx, h, c, weight, keep=True)
        ctx.job, ctx.loop = job, loop
        ctx.save_for_backward(gx, h, c, weight, hs, cs, acts)
        return layout.first(hs[1:], 2), layout.first(cs[-1], 1).clone()

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        gx, h, c, weight, hs, cs, acts = ctx.saved_tensors
        if torch.is_grad_enabled():
            job = ctx.job._replace(gx=gx, state=(h, c))
            d_in, d_first, d_memory, by_weight = ctx.needs_input_grad[2:]
            needs = (d_in, d_first, d_memory, False, False, by_weight)  # nothing restarts here
            found = differentiable(job, ctx.loop, layout.first(hs[1:], 2), (d_ys, None, d_last), needs)
            return None, None, *found[:3], found[5]
        product = ctx.job.plan.hidden
        d_gx = empty(acts, *acts.shape[:-1], 4 * h.shape[1])
        d_h, d_c = torch.zeros_like(hs[0]), layout.last(d_last, 1).clone()
        call(
            "canton_lstm_gradient",
            ctx.q,
            first=weight.contiguous(),
            cs=cs,
            acts=acts,
            dys=layout.last(d_ys, 2),
            dh=d_h,
            dc=d_c,
            dgx=d_gx,
        )
        d_weight = layout.weight_gradient(product, hs[:-1], d_gx)
        d_h, d_c = layout.first(d_h, 1), layout.first(d_c, 1)
        return None, None, layout.first(d_gx, 2), d_h, d_c, d_weight
