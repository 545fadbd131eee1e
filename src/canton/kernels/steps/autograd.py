"""The whole sequence as one node of the autograd graph.

A `Runner` decides how the loop over time is run: `Direct` calls it, `canton.kernels.cuda_graphs` replays it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from canton.kernels.double_backward import differentiable_grads, mask_past_end
from canton.kernels.spec import Loop, Run, Step
from canton.kernels.steps import loop as time_loop
from canton.kernels.steps.loop import Gradients, Trace


class Forward(NamedTuple):
    """The result of a forward pass; `trace` is None if nothing was to be saved for the backward pass."""

    ys: Tensor
    final: tuple[Tensor, ...]
    trace: Trace | None


Incoming = tuple[Tensor | None, ...]
"""The gradients of the outputs, of each tensor of the last state and, with `Run.all_states`, of the states at
all steps; None is zero."""


class Runner(Protocol):
    """A way to run the loop over time. It never writes to its results again."""

    def forward(self, run: Run, save: bool) -> Forward:
        """Run `run`; with `save` the result has a trace for `backward`."""

    def backward(self, run: Run, trace: Trace, incoming: Incoming, weights: bool) -> Gradients:
        """Return the gradients of all inputs; those of the weights only if `weights`."""


class Direct:
    """A runner of eager torch operations."""

    def forward(self, run: Run, save: bool) -> Forward:
        """Run `run`, see `Runner`."""
        trace = time_loop.forward(mask_past_end(run), _step(run), save)
        final = tuple(s[-1].clone() for s in trace.states)
        if run.all_states:
            final += trace.states[1:]
        return Forward(time_loop.outputs(run, trace), final, trace if save else None)

    def backward(self, run: Run, trace: Trace, incoming: Incoming, weights: bool) -> Gradients:
        """Return the gradients, see `Runner`."""
        return time_loop.backward(run, _step(run), trace, incoming, weights)


def _step(run: Run) -> Step:
    assert run.spec is not None
    return run.spec.step(run.gx.shape[1])


class ManualSequence(torch.autograd.Function):
    """forward(run, loop, runner, gx, *state, *reset_state, *weights) -> (ys, *state); the tensors are the
    run's.
    """

    @staticmethod
    def forward(ctx: Any, run: Run, loop: Loop, runner: Runner, *tensors: Tensor) -> tuple[Tensor, ...]:
        ys, final, trace = runner.forward(run, save=True)
        assert trace is not None
        masks = (run.reset, run.lengths, run.dropout_mask, *(run.zoneout_keep or ()))
        ctx.save_for_backward(*tensors, *masks, trace.saved, *trace.states)
        ctx.spec, ctx.states, ctx.loop, ctx.runner = run.spec, len(run.state), loop, runner
        ctx.all_states = run.all_states
        ctx.set_materialize_grads(False)
        return ys, *final

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, n = ctx.saved_tensors, ctx.states
        weights = len(ctx.spec.weights)
        gx, state, reset_state = saved[0], saved[1 : n + 1], saved[n + 1 : 2 * n + 1]
        spec = ctx.spec.with_weights(saved[2 * n + 1 : 2 * n + 1 + weights])
        reset, lengths, dropout_mask, *zoneout = saved[2 * n + 1 + weights : -1 - n]
        run = Run(spec, gx, state, reset_state, reset, lengths, dropout_mask, tuple(zoneout) or None)
        run = run._replace(all_states=ctx.all_states)
        trace = Trace(saved[-n:], saved[-1 - n])
        needs = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            ys = time_loop.outputs(run, trace)
            return None, None, None, *differentiable_grads(run, ctx.loop, ys, incoming, needs)
        g = ctx.runner.backward(run, trace, incoming, any(needs[2 * n + 1 :]))
        unasked: list[Tensor | None] = [None] * weights
        return None, None, None, g.gx, *g.state, *(g.reset_state or [None] * n), *(g.weights or unasked)
