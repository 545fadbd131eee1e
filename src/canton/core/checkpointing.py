"""Gradient checkpointing over time: recompute in backward what forward did not store.

A sequence runs in about sqrt(T) segments of about sqrt(T) steps. Only the input and the first state of a
segment are stored. Backward repeats the forward pass of each segment in turn. Gates and projected inputs are
in memory for sqrt(T) steps at a time, at the cost of one more forward pass.
Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from canton.core.cell import Cell
from canton.kernels import Kernel, Result, Run


def project(cell: Cell, xs: Tensor, kernel: Kernel) -> Tensor:
    """Return the input half of all steps (T, B, ...), by compiled code if `kernel` allows it."""
    inherited = type(cell).project is Cell.project
    rows = xs.flatten(0, 1)
    gx = cell.project(rows, fast=True) if inherited and kernel in ("auto", "cpp") else cell.project(rows)
    return gx.unflatten(0, xs.shape[:2])  # type: ignore[no-any-return]


def checkpointed_segments(
    cell: Cell, xs: Tensor, whole: Run, execute: Callable[[Run], Result], kernel: Kernel
) -> Result:
    """Return ``execute(whole)``; every segment projects its own part of `xs` and runs again in backward.

    Args:
        whole: the run; its gx is a `placeholder`.

    Raises:
        RuntimeError: in backward, if a parameter of the cell changed since forward.
    """
    steps = len(xs)
    size = segment_size(steps)
    state, versions = whole.state, _parameter_versions(cell)

    def segment(lo: int, part: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        if _parameter_versions(cell) != versions:
            raise RuntimeError(
                "a parameter changed between forward and backward (an optimiser step or "
                "torch.func.functional_call), which recompute=True does not support"
            )
        gx = project(cell, part, kernel)
        ys, new_state = execute(_slice(whole, lo, lo + len(part))._replace(gx=gx, state=state))
        return ys, *(s.clone() for s in new_state)  # a view would keep all states of the segment alive

    outputs, count = [], len(state)
    for lo in range(0, steps, size):
        ys, *rest = checkpoint(segment, lo, xs[lo : lo + size], *state, use_reentrant=False)
        outputs.append((ys, *rest[count:]))
        state = tuple(rest[:count])
    ys, *over_time = map(torch.cat, zip(*outputs, strict=True))
    return ys, (*state, *over_time)


def segment_size(steps: int) -> int:
    """Return the number of steps of a segment of a sequence of `steps`."""
    return math.isqrt(steps - 1) + 1


def placeholder(cell: Cell, xs: Tensor) -> Tensor:
    """Return a tensor with the shape of the projected `xs` (T, B, C, *space) and the memory of one step."""
    with torch.no_grad():
        gx: Tensor = cell.project(xs[0])
    return gx.expand(len(xs), *gx.shape)


def _slice(run: Run, lo: int, hi: int) -> Run:
    """Return the run's steps lo to hi; the caller replaces gx and state."""
    keep = run.zoneout_keep
    return run._replace(
        reset=None if run.reset is None else run.reset[lo:hi],
        lengths=None if run.lengths is None else (run.lengths - lo).clamp(0, hi - lo),
        zoneout_keep=None if keep is None else tuple(z[lo:hi] if len(z) > 1 else z for z in keep),
    )


def _parameter_versions(cell: Cell) -> list[tuple[int, int]]:
    """Return the identity and the version counter of every parameter."""
    return [(id(parameter), parameter._version) for parameter in cell.parameters()]
