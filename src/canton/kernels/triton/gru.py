"""The dense reset-before GRU over a whole sequence on a GPU: one Triton launch a direction on the whole GPU.

Rows of a batch are independent, hidden units are not. A group of programs owns a block of rows, and each of
its programs owns some of the units. Twice a step the programs of a group wait for each other: for the reset
state before the candidate, and for the new state before the next step. Every program has a multiprocessor of
its own, and the launch is cooperative, so that all run at once. Gates and states lie in global memory, where
the group and the backward pass read them. The batch is in no compile-time constant; offsets are 64 bits wide.

Tests run these programs in Triton's interpreter (TRITON_INTERPRET=1) on the CPU, one after the other: groups
of one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import Loop, Result, Run


def execute(run: Run, loop: Loop) -> Result:
    """Run the dense reset-before GRU `run` on the GPU; `loop` is for gradients of gradients."""
    assert run.spec is not None
    gates, candidate = run.spec.weights
    ys = _Sequence.apply(run, loop, run.gx, run.state[0], gates, candidate)
    return ys, (ys[-1],)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run: Run, loop, gx: Tensor, h0: Tensor, gates: Tensor, candidate: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        from canton.kernels.triton import launch as launches

        states, zr, c, rh = launches.forward(gx, h0, gates, candidate)
        ctx.run, ctx.loop = run, loop
        ctx.save_for_backward(gx, h0, gates, candidate, states, zr, c, rh)
        return states[1:]

    @staticmethod
    def backward(ctx, d_ys: Tensor):  # type: ignore[no-untyped-def,override]
        from canton.kernels.triton import launch as launches

        gx, h0, gates, candidate, states, zr, c, rh = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted: differentiate the reference loop
            outputs, _ = ctx.loop(ctx.run._replace(gx=gx, state=(h0,)))
            wanted = [
                t
                for t, need in zip((gx, h0, gates, candidate), ctx.needs_input_grad[2:], strict=True)
                if need
            ]
            found = iter(torch.autograd.grad(outputs, wanted, d_ys, create_graph=True))
            return None, None, *(next(found) if need else None for need in ctx.needs_input_grad[2:])
        d_gx, d_h0 = launches.backward(d_ys, gates, candidate, states, zr, c)
        hidden = h0.shape[1]
        before = states[:-1].flatten(0, 1)
        d_flat = d_gx.flatten(0, 1)
        d_gates = d_flat[:, : 2 * hidden].t() @ before
        d_candidate = d_flat[:, 2 * hidden :].t() @ rh.flatten(0, 1)
        return None, None, d_gx, d_h0, d_gates, d_candidate
