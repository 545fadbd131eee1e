"""The loop over time, forward and backward, for any `Algebra`; masks, restarts, lengths, zones live here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from canton.kernels.double_backward import dead
from canton.kernels.spec import Job
from canton.kernels.steps.base import Algebra, steps

_AT_ONCE_CPU, _AT_ONCE_GPU = 1 << 16, 1 << 21
"""Elements of one block whose factors are computed at once: a few such buffers fit in a processor's cache. On
a GPU it is the number of operations that counts."""


class Trace(NamedTuple):
    """What a forward run leaves: the states after every step, (T, B, C, *space) each, and what was kept."""

    states: tuple[Tensor, ...]
    kept: Tensor


class Gradients(NamedTuple):
    """What a backward run gives; `fresh` is None without restarts, `weights` where nobody asked."""

    gx: Tensor
    state: tuple[Tensor, ...]
    fresh: tuple[Tensor, ...] | None
    weights: list[Tensor] | None


def outputs(job: Job, trace: Trace) -> Tensor:
    """The outputs (T, B, C, *space): the first tensor of the state, zero behind a row's length."""
    gone = dead(job)
    return trace.states[0] if gone is None else trace.states[0].masked_fill(gone, 0)


def forward(job: Job, algebra: Algebra, keep: bool) -> Trace:
    """Run a `clean` job; without `keep` only the outputs and the last state are there afterwards."""
    count, (rows, _, *space) = len(job.gx), job.gx.shape[1:]
    kept = job.gx.new_empty(count if keep else 1, rows, algebra.kept * algebra.hidden, *space)
    algebra.open(job.gx, kept)
    # a state that is not an output needs two places only: the one read and the one written
    places = [count if keep or k == 0 else min(count, 2) for k in range(len(job.state))]
    buffers = [s.new_empty(n, *s.shape) for n, s in zip(places, job.state, strict=True)]
    outs = list(zip(*((b.unbind(0) * count)[:count] for b in buffers), strict=True))
    taken, restart = _taken(job), _restart(job)
    state, masked = job.state, None if job.drop is None else torch.empty_like(outs[0][0])
    for t, out in enumerate(outs):
        if restart is not None:
            state = tuple(torch.where(restart[t], f, s) for f, s in zip(job.fresh, state, strict=True))
        seen = state[0] if job.drop is None else torch.mul(state[0], job.drop, out=masked)
        algebra.step(t, state, seen, out)
        if taken is not None:
            for k, (old, new) in enumerate(zip(state, out, strict=True)):
                torch.lerp(old, new, taken(t, k), out=new)
        state = out
    ends = (b if len(b) == count else b[(count - 1) % 2].unsqueeze(0) for b in buffers)
    return Trace(tuple(ends), kept)


def backward(
    job: Job,
    algebra: Algebra,
    trace: Trace,
    gys: Tensor | None,
    finals: tuple[Tensor | None, ...],
    weights: bool,
) -> Gradients:
    """From the gradients of the outputs and of the last state to those of everything that went in."""
    gx, size = job.gx, algebra.hidden
    count, (rows, _, *space) = len(gx), gx.shape[1:]
    d = gx.new_empty(count, rows, algebra.blocks * size, *space)
    algebra.open_back(trace.kept, d)
    taken, restart, gone = _taken(job), _restart(job), dead(job)
    arriving = None if gys is None else gys if gone is None else gys.masked_fill(gone, 0)
    grads = tuple(
        torch.zeros_like(s, memory_format=torch.contiguous_format) if g is None else g.clone()
        for s, g in zip(job.state, finals, strict=True)
    )
    fresh = None if restart is None else tuple(torch.zeros_like(g) for g in grads)
    into = grads[0] if job.drop is None else torch.empty_like(grads[0])
    altered = restart is not None or job.drop is not None
    all_seen = torch.empty_like(trace.states[0]) if altered and weights else None
    at_once = _AT_ONCE_CPU if gx.device.type == "cpu" else _AT_ONCE_GPU
    chunk = max(1, at_once // max(1, grads[0].numel()))
    for hi in range(count, 0, -chunk):
        lo = max(0, hi - chunk)
        state = tuple(_before(job, trace, restart, k, lo, hi) for k in range(len(grads)))
        seen = state[0] if job.drop is None else state[0] * job.drop
        if all_seen is not None:
            all_seen[lo:hi] = seen
        algebra.factors(lo, hi, state, seen)
        for t in range(hi - 1, lo - 1, -1):
            if arriving is not None:
                grads[0].add_(arriving[t])
            stays = None if taken is None else _split(grads, taken, t)
            if job.drop is not None:
                into.zero_()
            algebra.back(t, grads, into)
            if job.drop is not None:
                grads[0].addcmul_(into, job.drop)
            if stays is not None:
                for g, s in zip(grads, stays, strict=True):
                    g.add_(s)
            if restart is not None and fresh is not None:
                for g, f in zip(grads, fresh, strict=True):
                    f.add_(g.masked_fill(~restart[t], 0))
                    g.masked_fill_(restart[t], 0)
        algebra.collect(lo, hi, state)
    parts = [all_seen] if all_seen is not None else [job.state[0].unsqueeze(0), trace.states[0][:-1]]
    found = algebra.weight_grads([p for p in parts if len(p)]) if weights else None
    return Gradients(d[:, :, d.shape[2] - gx.shape[2] :], grads, fresh, found)


def _before(job: Job, trace: Trace, restart: tuple[Tensor, ...] | None, k: int, lo: int, hi: int) -> Tensor:
    """The k-th tensor of the state before steps lo to hi, restarts done."""
    states = trace.states[k]
    if lo:
        before = states[lo - 1 : hi - 1]
    else:
        before = torch.cat([job.state[k].unsqueeze(0), states[: hi - 1]])
    if restart is not None:
        before = torch.where(torch.stack(restart[lo:hi]), job.fresh[k], before)
    return before


def _restart(job: Job) -> tuple[Tensor, ...] | None:
    if job.reset is None:
        return None
    return job.reset.view(*job.gx.shape[:2], *(1,) * (job.gx.ndim - 2)).unbind(0)


def _taken(job: Job) -> Callable[[int, int], Tensor] | None:
    """For step t and the state's tensor k the share of the new value; None if it is always all of it."""
    gone, count = dead(job), len(job.gx)
    if gone is None and job.zone is None:
        return None
    alive = None if gone is None else (~gone).to(job.state[0].dtype).unbind(0)
    zone = None if job.zone is None else [steps(z, count) for z in job.zone]

    def taken(t: int, k: int) -> Tensor:
        if zone is None:
            assert alive is not None
            return alive[t]
        share = 1 - zone[k][t]
        return share if alive is None else share * alive[t]

    return taken


def _split(grads: tuple[Tensor, ...], taken: Callable[[int, int], Tensor], t: int) -> list[Tensor]:
    """Leave in `grads` what belongs to the new state; return what belongs to the old one directly."""
    stays = []
    for k, g in enumerate(grads):
        share = taken(t, k)
        stays.append(g * (1 - share))
        g.mul_(share)
    return stays
