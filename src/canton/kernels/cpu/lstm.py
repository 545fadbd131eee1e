"""The plain LSTM as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.cpu import layout
from canton.kernels.cpu.abi import Sequence, call, empty
from canton.kernels.double_backward import differentiable
from canton.kernels.spec import LSTM, Job, Result


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`, whose plan is an LSTM without peepholes or projection; gradients of gradients by `loop`."""
    plan = job.plan
    assert isinstance(plan, LSTM)
    tensors = (job.gx, *job.state, *job.fresh, plan.hidden.weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, h, c = _Run.apply(job, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, (h, c)
    _, hs, cs, _ = _forward(job, *tensors, keep=False)
    ys = layout.first(hs[1:], 2)
    return ys, (ys[-1] if job.lengths is None else layout.final(job, hs), layout.final(job, cs))


def _forward(
    job: Job, gx: Tensor, h: Tensor, c: Tensor, fresh: Tensor, fresh_c: Tensor, weight: Tensor, *, keep: bool
) -> tuple[Sequence, Tensor, Tensor, Tensor | None]:
    """The run's sizes; h and c before, between and after the steps; i, f, g, o, tanh(c) of every step.

    Of a row that is over, the later h are 0, as its outputs are. Of one that restarts, c is the fresh one.
    """
    assert isinstance(job.plan, LSTM)
    hidden = h.shape[1]
    q = layout.sequence(job.plan.hidden, gx, hidden)
    gx = layout.last(gx, 2)
    shape = gx.shape[:-1]
    hs, cs = (empty(gx, shape[0] + 1, *shape[1:], hidden) for _ in range(2))
    hs[0], cs[0] = h.movedim(1, -1), c.movedim(1, -1)
    acts = empty(gx, *shape, 5 * hidden) if keep else None
    call(
        "canton_lstm",
        q,
        gx=gx,
        first=weight.contiguous(),
        hs=hs,
        cs=cs,
        acts=acts,
        fresh=None if job.reset is None else layout.last(fresh, 1),
        fresh_c=None if job.reset is None else layout.last(fresh_c, 1),
        **layout.masks(q, job),
    )
    return q, hs, cs, acts


class _Run(torch.autograd.Function):
    """forward(job, loop, gx, h, c, fresh h, fresh c, weight) -> ys and the last h and c."""

    @staticmethod
    def forward(
        ctx: Any, job: Job, loop: Callable[[Job], Result], *tensors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.q, hs, cs, acts = _forward(job, *tensors, keep=True)
        ctx.job, ctx.loop = job, loop
        ctx.save_for_backward(*tensors, hs, cs, acts, job.reset, job.lengths)
        return layout.first(hs[1:], 2), layout.final(job, hs), layout.final(job, cs)

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        gx, h, c, fresh, fresh_c, weight, hs, cs, acts, reset, lengths = ctx.saved_tensors
        job = ctx.job._replace(gx=gx, state=(h, c), fresh=(fresh, fresh_c), reset=reset, lengths=lengths)
        if torch.is_grad_enabled():
            needs = ctx.needs_input_grad[2:]
            return None, None, *differentiable(job, ctx.loop, layout.first(hs[1:], 2), (d_ys, *d_last), needs)
        d_gx = empty(acts, *acts.shape[:-1], 4 * h.shape[1])
        d_h, d_c = (layout.last(d, 1).clone() for d in d_last)
        d_fresh = [None if reset is None else torch.zeros_like(d) for d in (d_h, d_c)]
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
            dfresh=d_fresh[0],
            dfresh_c=d_fresh[1],
            **layout.masks(ctx.q, job),
        )
        d_weight = layout.weight_gradient(job.plan.hidden, layout.before(job, hs, fresh), d_gx)
        found = (d_h, d_c, *d_fresh)
        return (
            None,
            None,
            layout.first(d_gx, 2),
            *(d if d is None else layout.first(d, 1) for d in found),
            d_weight,
        )
