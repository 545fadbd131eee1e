"""Gradients of gradients: the reference loop runs again and is differentiated."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.kernels.spec import Loop, Run


def past_end(run: Run) -> Tensor | None:
    """Return (T, B, 1, ...), true after each row's length; None without lengths."""
    if run.lengths is None:
        return None
    times = torch.arange(len(run.gx), device=run.gx.device)
    return (times[:, None] >= run.lengths).view(*run.gx.shape[:2], *(1,) * (run.gx.ndim - 2))


def mask_past_end(run: Run) -> Run:
    """Return the run with zeros after each row's length, so that a NaN there has no effect."""
    ended = past_end(run)
    return run if ended is None else run._replace(gx=run.gx.masked_fill(ended, 0))


def differentiable_grads(
    run: Run, loop: Loop, ys: Tensor, incoming: tuple[Tensor | None, ...], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """Return the gradients of ``run.tensors()`` as a differentiable graph, through the reference loop.

    Args:
        run: the run.
        loop: the cell's reference loop.
        ys: the kernel's outputs.
        incoming: the gradients of the outputs and of each tensor of the last state; None is zero.
        needs: for each of ``run.tensors()`` whether its gradient is wanted.

    Raises:
        RuntimeError: the loop runs on other weights than the kernel did, as after torch.func.functional_call
            or with weights computed at every access.
    """
    with torch.enable_grad():
        # views, because one tensor may be both the state and what a row restarts from
        gx, *states = (t.view_as(t) for t in (run.gx, *run.state, *run.reset_state))
        half, weights = len(run.state), [] if run.spec is None else run.spec.weights
        viewed = run._replace(gx=gx, state=tuple(states[:half]), reset_state=tuple(states[half:]))
        ys_again, finals = loop(mask_past_end(viewed))
        sources = [gx, *states, *weights]
        # a weight in two places of the spec is one source: its whole gradient goes to the first place
        first = [all(s is not earlier for earlier in sources[:k]) for k, s in enumerate(sources)]
        wanted = [k for k, need in enumerate(needs) if need and first[k]]
        targets = [(y, g) for y, g in zip((ys_again, *finals), incoming, strict=True) if g is not None]
        found = torch.autograd.grad(
            [y for y, _ in targets],
            [sources[k] for k in wanted],
            [g for _, g in targets],
            create_graph=True,
            allow_unused=True,
        )
    grads: list[Tensor | None] = [None] * len(sources)
    for k, g in zip(wanted, found, strict=True):
        grads[k] = g
    unused = [k for k in wanted if k >= len(sources) - len(weights) and grads[k] is None]
    rounding = 16 * torch.finfo(ys.dtype).eps  # both computations round at every step: 1/8 in bfloat16
    same = torch.allclose(ys_again, ys, rtol=max(1e-2, rounding), atol=max(1e-3, rounding), equal_nan=True)
    if unused or not same:
        raise RuntimeError(
            "the gradient of a gradient needs the cell's own weights, but the cell ran on others "
            "(torch.func.functional_call?): use kernel='loop'"
        )
    return grads
