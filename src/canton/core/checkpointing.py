"""Memory for time: what backward needs is computed once more instead of kept.

A sequence is run in about sqrt(T) pieces of about sqrt(T) steps. Of a piece only its input and the state
before it are kept; backward runs one piece after the other forward once more. So gates and projected inputs
exist for sqrt(T) steps at a time instead of T, and a step costs one more forward.
Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from canton.core.cell import Cell
from canton.kernels import Job, Result


def project(cell: Cell, xs: Tensor, kernel: str) -> Tensor:
    """The input half of all steps at once; natively, too, if `kernel` leaves that open."""
    inherited = type(cell).project is Cell.project
    rows = xs.flatten(0, 1)
    gx = cell.project(rows, fast=True) if inherited and kernel in ("auto", "native") else cell.project(rows)
    return gx.unflatten(0, xs.shape[:2])  # type: ignore[no-any-return]


def in_pieces(cell: Cell, xs: Tensor, whole: Job, run: Callable[[Job], Result], kernel: str) -> Result:
    """What `run` gives for `whole`, whose gx is a stand-in: each piece projects its own part of `xs`.

    Raises:
        RuntimeError: in backward, if the cell's parameters are no longer what they were in forward.
    """
    steps = len(xs)
    size = math.isqrt(steps - 1) + 1
    before, used = whole.state, _fingerprint(cell)

    def piece(lo: int, part: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        if _fingerprint(cell) != used:
            raise RuntimeError(
                "a parameter was changed or exchanged between forward and backward (an optimiser's step, "
                "torch.func.functional_call?): recompute=True would differentiate another function"
            )
        gx = project(cell, part, kernel)
        ys, after = run(_cut(whole, lo, lo + len(part))._replace(gx=gx, state=state))
        return ys, *(s.clone() for s in after)  # a view would hold all states of the piece

    outputs = []
    for lo in range(0, steps, size):
        ys, *after = checkpoint(piece, lo, xs[lo : lo + size], *before, use_reentrant=False)
        outputs.append(ys)
        before = tuple(after)
    return torch.cat(outputs), before


def stand_in(cell: Cell, xs: Tensor) -> Tensor:
    """A tensor with the shape of the projected `xs` (T, B, C, *space), and the memory of one step of it."""
    with torch.no_grad():
        gx: Tensor = cell.project(xs[0])
    return gx.expand(len(xs), *gx.shape)


def _cut(job: Job, lo: int, hi: int) -> Job:
    """The steps lo to hi of a job, gx and state still to come."""
    zone = job.zone
    return job._replace(
        reset=None if job.reset is None else job.reset[lo:hi],
        lengths=None if job.lengths is None else (job.lengths - lo).clamp(0, hi - lo),
        zone=None if zone is None else tuple(z[lo:hi] if len(z) > 1 else z for z in zone),
    )


def _fingerprint(cell: Cell) -> list[tuple[int, int]]:
    """Which tensors the parameters are, and how often each was written to."""
    return [(id(parameter), parameter._version) for parameter in cell.parameters()]
