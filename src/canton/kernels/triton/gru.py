"""The dense reset-before GRU over a whole sequence on a GPU: one Triton launch a direction, all of the GPU.

Rows of a batch never see each other, hidden units do: a group of programs owns a block of rows, each of its
programs some of the units, and twice a step the programs of a group wait for each other (the reset state
before the candidate, the new state before the next step). Every program has a multiprocessor of its own, and
the launch is cooperative, so that all run at once. Gates and states lie in global memory, where the group
and the backward pass find them. The batch is in no compile-time constant; offsets are 64 bits wide.

Tested in Triton's interpreter (TRITON_INTERPRET=1), which runs these very programs on the processor, one
after the other: groups of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from canton.kernels.spec import Dense, GRUBefore, Job, Result

SHARED_BYTES = 131_072
"""Of a multiprocessor's shared memory that a program takes at most; GPUs for games have 101,376."""


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def refuses(job: Job) -> str | None:
    """Why these kernels cannot run `job`; None if they can."""
    if job.gx.device.type != "cuda" and not (_interpreted() and job.gx.device.type == "cpu"):
        return "it needs a GPU"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if job.gx.device.type == "cuda" and (reason := _lacks(job.gx.device)):
        return reason
    plan = job.plan
    if not (isinstance(plan, GRUBefore) and isinstance(plan.gates, Dense)):
        return "it runs the dense reset-before GRU only"
    if job.reset is not None or job.lengths is not None or job.drop is not None or job.zone is not None:
        return "it knows no reset, lengths, recurrent dropout or zoneout"
    weights = (plan.gates.weight, plan.candidate.weight)
    if torch.is_autocast_enabled(job.gx.device.type):
        return "it does not know autocast"
    dtypes = {t.dtype for t in (job.gx, *job.state, *weights)}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.bfloat16}:
        return "input, state and weights must be all float32 or all bfloat16"
    return None


def _lacks(device: torch.device) -> str | None:
    if torch.version.hip is not None:
        return "it was written for NVIDIA's GPUs"
    bytes_there = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    if bytes_there < SHARED_BYTES:
        return (
            f"it needs {SHARED_BYTES:,} bytes of shared memory, and this GPU gives a program {bytes_there:,}"
        )
    return None


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job` on the GPU; gradients of gradients go through `loop`."""
    plan = job.plan
    assert isinstance(plan, GRUBefore)
    ys = _Sequence.apply(job, loop, job.gx, job.state[0], plan.gates.weight, plan.candidate.weight)
    return ys, (ys[-1],)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, job: Job, loop, gx: Tensor, h0: Tensor, gates: Tensor, candidate: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        from canton.kernels.triton import launch as launches

        states, zr, c, rh = launches.forward(gx, h0, gates, candidate)
        ctx.job, ctx.loop = job, loop
        ctx.save_for_backward(gx, h0, gates, candidate, states, zr, c, rh)
        return states[1:]

    @staticmethod
    def backward(ctx, d_ys: Tensor):  # type: ignore[no-untyped-def,override]
        from canton.kernels.triton import launch as launches

        gx, h0, gates, candidate, states, zr, c, rh = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted: differentiate the readable loop
            outputs, _ = ctx.loop(ctx.job._replace(gx=gx, state=(h0,)))
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
