"""The minGRU as one node of the autograd graph: one pass over memory each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.cpu.abi import Sequence, call
from canton.kernels.double_backward import differentiable
from canton.kernels.spec import Job, MinGRU, Result


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`, whose plan is a MinGRU; gradients of gradients go through `loop`."""
    tensors = (job.gx, job.state[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys = _Run.apply(loop, *tensors)  # type: ignore[no-untyped-call]
    else:
        ys = _forward(*tensors)[1:]
    return ys, (ys[-1],)


def _sizes(gx: Tensor, state: Tensor) -> Sequence:
    q = Sequence(steps=len(gx), width=len(state), hidden=state[0].numel(), threads=torch.get_num_threads())
    q.images = q.depth = q.height = 1
    q.kernel[:] = q.dilation[:] = (1, 1, 1)
    return q


def _forward(gx: Tensor, state: Tensor) -> Tensor:
    """The states before, between and after the steps (T + 1, B, C, *space)."""
    hs = gx.new_empty(len(gx) + 1, *state.shape)
    hs[0] = state
    call("canton_min_gru", _sizes(gx, state), gx=gx.contiguous(), hs=hs)
    return hs


class _Run(torch.autograd.Function):
    """forward(loop, gx, state) -> ys; keeps gx and the states, 3 numbers per unit."""

    @staticmethod
    def forward(ctx: Any, loop: Callable[[Job], Result], gx: Tensor, state: Tensor) -> Tensor:
        hs = _forward(gx, state)
        ctx.loop = loop
        ctx.save_for_backward(gx, state, hs)
        return hs[1:]

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor) -> tuple[Tensor | None, ...]:
        gx, state, hs = ctx.saved_tensors
        if torch.is_grad_enabled():
            job = Job(MinGRU(), gx, (state,), (torch.zeros_like(state),))
            needs = (*ctx.needs_input_grad[1:], False)
            found = differentiable(job, ctx.loop, hs[1:], (d_ys, None), needs)
            return None, *found[:2]
        d_gx = torch.empty_like(gx, memory_format=torch.contiguous_format)
        d_state = torch.zeros_like(hs[0])
        call(
            "canton_min_gru_gradient",
            _sizes(gx, state),
            gx=gx.contiguous(),
            hs=hs,
            dys=d_ys.contiguous(),
            dh=d_state,
            dgx=d_gx,
        )
        return None, d_gx, d_state
