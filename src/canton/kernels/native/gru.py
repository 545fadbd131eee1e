"""The reset-before GRU as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.again import differentiable
from canton.kernels.native import layout
from canton.kernels.native.library import Sequence, call, empty
from canton.kernels.plan import GRUBefore, Job, Result


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`, whose plan is a GRUBefore; gradients of gradients go through `loop`."""
    plan = job.plan
    assert isinstance(plan, GRUBefore)
    tensors = (job.gx, job.state[0], plan.gates.weight, plan.candidate.weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys = _Run.apply(job, loop, *tensors)  # type: ignore[no-untyped-call]
    else:
        ys = layout.first(_forward(plan, *tensors, keep=False)[1][1:], 2)
    return ys, (ys[-1],)


def _forward(
    plan: GRUBefore, gx: Tensor, state: Tensor, gates: Tensor, candidate: Tensor, *, keep: bool
) -> tuple[Sequence, Tensor, Tensor | None]:
    """The run's sizes, the states before, between and after the steps, and z, r, c of every step."""
    q = layout.sequence(plan.gates, gx, state.shape[1])
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
    )
    return q, hs, acts


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        job: Job,
        loop: Callable[[Job], Result],
        gx: Tensor,
        state: Tensor,
        gates: Tensor,
        candidate: Tensor,
    ) -> Tensor:
        assert isinstance(job.plan, GRUBefore)
        ctx.q, hs, acts = _forward(job.plan, gx, state, gates, candidate, keep=True)
        ctx.job, ctx.loop = job, loop
        ctx.save_for_backward(gx, state, gates, candidate, hs, acts)
        return layout.first(hs[1:], 2)

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor) -> tuple[Tensor | None, ...]:
        gx, state, gates, candidate, hs, acts = ctx.saved_tensors
        if torch.is_grad_enabled():
            job = ctx.job._replace(gx=gx, state=(state,))
            d_in, d_first, *others = ctx.needs_input_grad[2:]
            needs = (d_in, d_first, False, *others)  # nothing restarts here
            found = differentiable(job, ctx.loop, layout.first(hs[1:], 2), (d_ys, None), needs)
            return None, None, *found[:2], *found[3:]
        d_gx, seen, d_state = empty(acts, *acts.shape), empty(hs, *hs[1:].shape), torch.zeros_like(hs[0])
        call(
            "canton_gru_before_gradient",
            ctx.q,
            first=gates.contiguous(),
            second=candidate.contiguous(),
            hs=hs,
            acts=acts,
            dys=layout.last(d_ys, 2),
            dh=d_state,
            dgx=d_gx,
            seen=seen,
        )
        hidden = state.shape[1]
        d_gates = layout.weight_gradient(ctx.job.plan.gates, hs[:-1], d_gx[..., : 2 * hidden])
        d_candidate = layout.weight_gradient(ctx.job.plan.candidate, seen, d_gx[..., 2 * hidden :])
        return None, None, layout.first(d_gx, 2), layout.first(d_state, 1), d_gates, d_candidate
