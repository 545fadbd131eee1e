"""The reset-before GRU as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.cpu import layout
from canton.kernels.cpu.abi import Sequence, call, empty
from canton.kernels.double_backward import differentiable
from canton.kernels.spec import GRUBefore, Job, Result


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`, whose plan is a GRUBefore; gradients of gradients go through `loop`."""
    plan = job.plan
    assert isinstance(plan, GRUBefore)
    tensors = (job.gx, job.state[0], job.fresh[0], plan.gates.weight, plan.candidate.weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, h = _Run.apply(job, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, (h,)
    hs = _forward(job, *tensors, keep=False)[1]
    ys = layout.first(hs[1:], 2)
    return ys, (ys[-1] if job.lengths is None else layout.final(job, hs),)


def _forward(
    job: Job, gx: Tensor, state: Tensor, fresh: Tensor, gates: Tensor, candidate: Tensor, *, keep: bool
) -> tuple[Sequence, Tensor, Tensor | None]:
    """The run's sizes, the states before, between and after the steps, and z, r, c of every step.

    Of a row that is over, the later states are 0, as its outputs are.
    """
    assert isinstance(job.plan, GRUBefore)
    q = layout.sequence(job.plan.gates, gx, state.shape[1])
    gx = layout.last(gx, 2)
    hs = empty(gx, len(gx) + 1, *gx.shape[1:-1], state.shape[1])
    hs[0] = state.movedim(1, -1)
    acts = empty(gx, *gx.shape) if keep else None
    call(
        "canton_gru_before",
        q,
        gx=gx,
        first=gates.contiguous(),
        second=candidate.contiguous(),
        hs=hs,
        acts=acts,
        fresh=None if job.reset is None else layout.last(fresh, 1),
        **layout.masks(q, job),
    )
    return q, hs, acts


class _Run(torch.autograd.Function):
    """forward(job, loop, gx, state, fresh, gates, candidate) -> ys and the last state."""

    @staticmethod
    def forward(
        ctx: Any,
        job: Job,
        loop: Callable[[Job], Result],
        gx: Tensor,
        state: Tensor,
        fresh: Tensor,
        gates: Tensor,
        candidate: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.q, hs, acts = _forward(job, gx, state, fresh, gates, candidate, keep=True)
        ctx.job, ctx.loop = job, loop
        ctx.save_for_backward(gx, state, fresh, gates, candidate, hs, acts, job.reset, job.lengths)
        return layout.first(hs[1:], 2), layout.final(job, hs)

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        gx, state, fresh, gates, candidate, hs, acts, reset, lengths = ctx.saved_tensors
        job = ctx.job._replace(gx=gx, state=(state,), fresh=(fresh,), reset=reset, lengths=lengths)
        if torch.is_grad_enabled():
            needs = ctx.needs_input_grad[2:]
            return None, None, *differentiable(job, ctx.loop, layout.first(hs[1:], 2), (d_ys, d_last), needs)
        d_gx, seen, d_state = (
            empty(acts, *acts.shape),
            empty(hs, *hs[1:].shape),
            layout.last(d_last, 1).clone(),
        )
        before = layout.before(job, hs, fresh)
        d_fresh = None if reset is None else torch.zeros_like(d_state)
        call(
            "canton_gru_before_gradient",
            ctx.q,
            first=gates.contiguous(),
            second=candidate.contiguous(),
            hs=before,
            acts=acts,
            dys=layout.last(d_ys, 2),
            dh=d_state,
            dgx=d_gx,
            seen=seen,
            dfresh=d_fresh,
            **layout.masks(ctx.q, job),
        )
        hidden = state.shape[1]
        d_gates = layout.weight_gradient(job.plan.gates, before, d_gx[..., : 2 * hidden])
        d_candidate = layout.weight_gradient(job.plan.candidate, seen, d_gx[..., 2 * hidden :])
        d_fresh = None if d_fresh is None else layout.first(d_fresh, 1)
        return None, None, layout.first(d_gx, 2), layout.first(d_state, 1), d_fresh, d_gates, d_candidate
