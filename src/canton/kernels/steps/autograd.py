"""The whole sequence as one node of the autograd graph, and the plain way to run it.

A `Runner` decides how the loop is run: `Direct` calls it, `canton.kernels.cuda_graphs` replays it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from canton.kernels.double_backward import Loop, clean, differentiable, weights_of
from canton.kernels.spec import LSTM, MGU, RNN, Conv, Dense, GRUAfter, GRUBefore, Job, Plan
from canton.kernels.steps import loop
from canton.kernels.steps.base import Algebra
from canton.kernels.steps.gru import After, Before
from canton.kernels.steps.lstm import Memory
from canton.kernels.steps.mgu import Minimal
from canton.kernels.steps.rnn import Plain


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


class Forward(NamedTuple):
    """What a forward run gives; `trace` is None if nothing was to be kept for the way back."""

    ys: Tensor
    final: tuple[Tensor, ...]
    trace: loop.Trace | None


Incoming = tuple[Tensor | None, ...]
"""The gradients that arrive, of the outputs and of each tensor of the last state; None is zero."""


class Runner(Protocol):
    """A way to run the loop there and back. Nothing it gives is written to again."""

    def forward(self, job: Job, keep: bool) -> Forward:
        """Run `job`; with `keep` the trace is there for `backward`."""

    def backward(self, job: Job, trace: loop.Trace, incoming: Incoming, weights: bool) -> loop.Gradients:
        """The gradients of all that went in; those of the weights only if `weights`."""


class Direct:
    """One operation of torch after the other."""

    def forward(self, job: Job, keep: bool) -> Forward:
        """See `Runner`."""
        trace = loop.forward(clean(job), algebra(job.plan, job.gx.shape[1]), keep)
        final = tuple(s[-1].clone() for s in trace.states)
        return Forward(loop.outputs(job, trace), final, trace if keep else None)

    def backward(self, job: Job, trace: loop.Trace, incoming: Incoming, weights: bool) -> loop.Gradients:
        """See `Runner`."""
        step = algebra(job.plan, job.gx.shape[1])
        return loop.backward(job, step, trace, incoming[0], incoming[1:], weights)


class Sequence(torch.autograd.Function):
    """forward(job, loop, runner, gx, *state, *fresh, *weights) -> (ys, *state); the tensors are the job's."""

    @staticmethod
    def forward(ctx: Any, job: Job, loop: Loop, runner: Runner, *tensors: Tensor) -> tuple[Tensor, ...]:
        ys, final, trace = runner.forward(job, keep=True)
        assert trace is not None
        masks = (job.reset, job.lengths, job.drop, *(job.zone or ()))
        ctx.save_for_backward(*tensors, *masks, trace.kept, *trace.states)
        ctx.plan, ctx.states, ctx.loop, ctx.runner = job.plan, len(job.state), loop, runner
        ctx.set_materialize_grads(False)
        return ys, *final

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, n = ctx.saved_tensors, ctx.states
        weights = len(weights_of(ctx.plan))
        gx, state, fresh = saved[0], saved[1 : n + 1], saved[n + 1 : 2 * n + 1]
        plan = with_weights(ctx.plan, saved[2 * n + 1 : 2 * n + 1 + weights])
        reset, lengths, drop, *zone = saved[2 * n + 1 + weights : -1 - n]
        job = Job(plan, gx, state, fresh, reset, lengths, drop, tuple(zone) or None)
        trace = loop.Trace(saved[-n:], saved[-1 - n])
        needs = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            ys = loop.outputs(job, trace)
            return None, None, None, *differentiable(job, ctx.loop, ys, incoming, needs)
        g = ctx.runner.backward(job, trace, incoming, any(needs[2 * n + 1 :]))
        unasked: list[Tensor | None] = [None] * weights
        return None, None, None, g.gx, *g.state, *(g.fresh or [None] * n), *(g.weights or unasked)
