"""The whole sequence as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.fused import sequence
from canton.kernels.fused.algebra import Algebra
from canton.kernels.fused.gru import After, Before
from canton.kernels.fused.lstm import Memory
from canton.kernels.fused.mgu import Minimal
from canton.kernels.fused.rnn import Plain
from canton.kernels.plan import LSTM, MGU, RNN, Conv, Dense, GRUAfter, GRUBefore, Job, Plan, Result


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


def weights_of(plan: Plan | None) -> list[Tensor]:
    """The tensors in a plan, in its order."""
    fields = [field.weight if isinstance(field, (Dense, Conv)) else field for field in plan or ()]
    return [field for field in fields if isinstance(field, Tensor)]


def with_weights(plan: Plan, weights: list[Tensor]) -> Plan:
    """The same plan with other tensors."""
    rest, fields = iter(weights), list[Any]()
    for field in plan:
        if isinstance(field, (Dense, Conv)):
            fields.append(field._replace(weight=next(rest)))
        else:
            fields.append(next(rest) if isinstance(field, Tensor) else field)
    return type(plan)(*fields)


Loop = Callable[[Job], Result]


class Sequence(torch.autograd.Function):
    """forward(job, loop, gx, *state, *fresh, *weights) -> (ys, *state), the tensors being the job's."""

    @staticmethod
    def forward(ctx: Any, job: Job, loop: Loop, *tensors: Tensor) -> tuple[Tensor, ...]:
        trace = sequence.forward(sequence.clean(job), algebra(job.plan, job.gx.shape[1]), keep=True)
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


def differentiable(
    job: Job, loop: Loop, ys: Tensor, incoming: tuple[Tensor | None, ...], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of gx, state, fresh and weights as a graph of their own, by way of the readable loop.

    Raises:
        RuntimeError: the loop runs on other weights than the kernel did, as after torch.func.functional_call
            or with weights made anew at every access.
    """
    with torch.enable_grad():
        # views, because one tensor may be both the state and what a row restarts from
        gx, *states = (t.view_as(t) for t in (job.gx, *job.state, *job.fresh))
        half, weights = len(job.state), weights_of(job.plan)
        again = job._replace(gx=gx, state=tuple(states[:half]), fresh=tuple(states[half:]))
        redone, finals = loop(sequence.clean(again))
        sources = [gx, *states, *weights]
        # a weight in two places of the plan is one source: its whole gradient goes to the first place
        first = [all(s is not earlier for earlier in sources[:k]) for k, s in enumerate(sources)]
        asked = [k for k, need in enumerate(needs) if need and first[k]]
        goals = [(y, g) for y, g in zip((redone, *finals), incoming, strict=True) if g is not None]
        reached = torch.autograd.grad(
            [y for y, _ in goals],
            [sources[k] for k in asked],
            [g for _, g in goals],
            create_graph=True,
            allow_unused=True,
        )
    grads: list[Tensor | None] = [None] * len(sources)
    for k, g in zip(asked, reached, strict=True):
        grads[k] = g
    lost = [k for k in asked if k >= len(sources) - len(weights) and grads[k] is None]
    if lost or not torch.allclose(redone, ys, rtol=1e-2, atol=1e-3, equal_nan=True):
        raise RuntimeError(
            "the gradient of a gradient needs the cell's own weights, but the cell ran on others "
            "(torch.func.functional_call?): use kernel='loop'"
        )
    return grads
