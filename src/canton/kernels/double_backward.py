"""Gradients that must themselves be differentiable: the readable loop is run again and differentiated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from canton.kernels.spec import Conv, Dense, Job, Plan, Result

Loop = Callable[[Job], Result]


def weights_of(plan: Plan | None) -> list[Tensor]:
    """The tensors in a plan, in its order."""
    fields = [field.weight if isinstance(field, (Dense, Conv)) else field for field in plan or ()]
    return [field for field in fields if isinstance(field, Tensor)]


def dead(job: Job) -> Tensor | None:
    """(T, B, 1, ...) true behind each row's length; None without lengths."""
    if job.lengths is None:
        return None
    times = torch.arange(len(job.gx), device=job.gx.device)
    return (times[:, None] >= job.lengths).view(*job.gx.shape[:2], *(1,) * (job.gx.ndim - 2))


def clean(job: Job) -> Job:
    """The job with zeros for what lies behind a row's length: not even a NaN there reaches anything."""
    gone = dead(job)
    return job if gone is None else job._replace(gx=job.gx.masked_fill(gone, 0))


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
        redone, finals = loop(clean(again))
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
    rounded = 16 * torch.finfo(ys.dtype).eps  # each way rounds at every step: an eighth in bfloat16
    same = torch.allclose(redone, ys, rtol=max(1e-2, rounded), atol=max(1e-3, rounded), equal_nan=True)
    if lost or not same:
        raise RuntimeError(
            "the gradient of a gradient needs the cell's own weights, but the cell ran on others "
            "(torch.func.functional_call?): use kernel='loop'"
        )
    return grads
