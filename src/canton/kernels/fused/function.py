"""The whole sequence as one node of the autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from canton.kernels.again import Loop, clean, differentiable, weights_of
from canton.kernels.fused import sequence
from canton.kernels.fused.algebra import Algebra
from canton.kernels.fused.gru import After, Before
from canton.kernels.fused.lstm import Memory
from canton.kernels.fused.mgu import Minimal
from canton.kernels.fused.rnn import Plain
from canton.kernels.plan import LSTM, MGU, RNN, Conv, Dense, GRUAfter, GRUBefore, Job, Plan


def algebra(plan: Plan | None, rows: int) -> Algebra:
    """The step of `plan`, its products ready for batches of `rows`."""
    if isinstance(plan, GRUBefore):
        return Before(plan, rows)
    if isinstance(plan, GRUAfter):
        return After(plan, rows)
    if isinstance(plan, LSTM):
        return Memory(plan, rows)
    if isinstance(plan, MGU):
        return Minimal(plan, rows)
    if isinstance(plan, RNN):
        return Plain(plan, rows)
    raise TypeError(f"no step is written for {type(plan).__name__}")


def with_weights(plan: Plan, weights: list[Tensor]) -> Plan:
    """The same plan with other tensors."""
    rest, fields = iter(weights), list[Any]()
    for field in plan:
        if isinstance(field, (Dense, Conv)):
            fields.append(field._replace(weight=next(rest)))
        else:
            fields.append(next(rest) if isinstance(field, Tensor) else field)
    return type(plan)(*fields)


class Sequence(torch.autograd.Function):
    """forward(job, loop, gx, *state, *fresh, *weights) -> (ys, *state), the tensors being the job's."""

    @staticmethod
    def forward(ctx: Any, job: Job, loop: Loop, *tensors: Tensor) -> tuple[Tensor, ...]:
        trace = sequence.forward(clean(job), algebra(job.plan, job.gx.shape[1]), keep=True)
        ys = sequence.outputs(job, trace)
        masks = (job.reset, job.lengths, job.drop, *(job.zone or ()))
        ctx.save_for_backward(*tensors, *masks, trace.kept, *trace.states)
        ctx.plan, ctx.states, ctx.loop = job.plan, len(job.state), loop
        ctx.set_materialize_grads(False)
        return ys, *(s[-1].clone() for s in trace.states)

    @staticmethod
    def backward(ctx: Any, gys: Tensor | None, *finals: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, n = ctx.saved_tensors, ctx.states
        weights = len(weights_of(ctx.plan))
        gx, state, fresh = saved[0], saved[1 : n + 1], saved[n + 1 : 2 * n + 1]
        plan = with_weights(ctx.plan, saved[2 * n + 1 : 2 * n + 1 + weights])
        reset, lengths, drop, *zone = saved[2 * n + 1 + weights : -1 - n]
        job = Job(plan, gx, state, fresh, reset, lengths, drop, tuple(zone) or None)
        trace = sequence.Trace(saved[-n:], saved[-1 - n])
        if torch.is_grad_enabled():
            ys = sequence.outputs(job, trace)
            found = differentiable(job, ctx.loop, ys, (gys, *finals), ctx.needs_input_grad[2:])
            return None, None, *found
        wanted = any(ctx.needs_input_grad[2 * n + 3 :])
        g = sequence.backward(job, algebra(plan, gx.shape[1]), trace, gys, finals, wanted)
        unasked: list[Tensor | None] = [None] * weights
        return None, None, g.gx, *g.state, *(g.fresh or [None] * n), *(g.weights or unasked)
