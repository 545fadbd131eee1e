"""The loop over time, forward and backward, for any `Step`: dropout masks, restarts, lengths and zoneout."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from canton.kernels.double_backward import past_end
from canton.kernels.spec import Run, Step
from canton.kernels.steps.base import views

_AT_ONCE_CPU, _AT_ONCE_GPU = 1 << 16, 1 << 21
"""Elements of one block for which derivatives are precomputed at once.

A few such buffers fit in a CPU's cache. On a GPU the number of operations counts."""


class Trace(NamedTuple):
    """The result of a forward pass: the states after every step, (T, B, C, *space) each, and what the steps
    saved.
    """

    states: tuple[Tensor, ...]
    saved: Tensor


class Gradients(NamedTuple):
    """The result of a backward pass; `reset_state` is None without restarts, `weights` if not requested."""

    gx: Tensor
    state: tuple[Tensor, ...]
    reset_state: tuple[Tensor, ...] | None
    weights: list[Tensor] | None


def outputs(run: Run, trace: Trace) -> Tensor:
    """Return the outputs (T, B, C, *space): the first tensor of the state, zero after a row's length."""
    ended = past_end(run)
    return trace.states[0] if ended is None else trace.states[0].masked_fill(ended, 0)


def forward(run: Run, step: Step, save: bool) -> Trace:
    """Execute a run masked past its end; without `save` only the outputs and the last state are kept."""
    count, (rows, _, *space) = len(run.gx), run.gx.shape[1:]
    saved = run.gx.new_empty(count if save else 1, rows, step.saved_blocks * step.hidden, *space)
    step.begin_forward(run.gx, saved)
    # a state that is not an output needs two places only: the one read and the one written
    kept = save or run.all_states
    places = [count if kept or k == 0 else min(count, 2) for k in range(len(run.state))]
    buffers = [s.new_empty(n, *s.shape) for n, s in zip(places, run.state, strict=True)]
    outs = list(zip(*((b.unbind(0) * count)[:count] for b in buffers), strict=True))
    new_share, restart = _new_share(run), _restart(run)
    state, masked = run.state, None if run.dropout_mask is None else torch.empty_like(outs[0][0])
    for t, out in enumerate(outs):
        if restart is not None:
            state = tuple(torch.where(restart[t], r, s) for r, s in zip(run.reset_state, state, strict=True))
        hidden_in = (
            state[0] if run.dropout_mask is None else torch.mul(state[0], run.dropout_mask, out=masked)
        )
        step.step(t, state, hidden_in, out)
        if new_share is not None:
            for k, (old, new) in enumerate(zip(state, out, strict=True)):
                torch.lerp(old, new, new_share(t, k), out=new)
        state = out
    ends = (b if len(b) == count else b[(count - 1) % 2].unsqueeze(0) for b in buffers)
    return Trace(tuple(ends), saved)


def backward(
    run: Run,
    step: Step,
    trace: Trace,
    d_results: tuple[Tensor | None, ...],
    weights: bool,
) -> Gradients:
    """Return the gradients of all inputs; `d_results` are those of outputs, last state and all states."""
    d_ys, states = d_results[0], len(run.state)
    d_final, d_over_time = d_results[1 : 1 + states], d_results[1 + states :]
    gx, size = run.gx, step.hidden
    count, (rows, _, *space) = len(gx), gx.shape[1:]
    d = gx.new_empty(count, rows, step.grad_blocks * size, *space)
    step.begin_backward(trace.saved, d)
    new_share, restart, ended = _new_share(run), _restart(run), past_end(run)
    incoming = None if d_ys is None else d_ys if ended is None else d_ys.masked_fill(ended, 0)
    grads = tuple(
        torch.zeros_like(s, memory_format=torch.contiguous_format) if g is None else g.clone()
        for s, g in zip(run.state, d_final, strict=True)
    )
    d_reset = None if restart is None else tuple(torch.zeros_like(g) for g in grads)
    into = grads[0] if run.dropout_mask is None else torch.empty_like(grads[0])
    altered = restart is not None or run.dropout_mask is not None
    all_inputs = torch.empty_like(trace.states[0]) if altered and weights else None
    at_once = _AT_ONCE_CPU if gx.device.type == "cpu" else _AT_ONCE_GPU
    chunk = max(1, at_once // max(1, grads[0].numel()))
    for hi in range(count, 0, -chunk):
        lo = max(0, hi - chunk)
        state = tuple(_before(run, trace, restart, k, lo, hi) for k in range(len(grads)))
        hidden_in = state[0] if run.dropout_mask is None else state[0] * run.dropout_mask
        if all_inputs is not None:
            all_inputs[lo:hi] = hidden_in
        step.precompute(lo, hi, state, hidden_in)
        for t in range(hi - 1, lo - 1, -1):
            if incoming is not None:
                grads[0].add_(incoming[t])
            for k, d_state in enumerate(d_over_time, 1):
                if d_state is not None:
                    grads[k].add_(d_state[t])
            to_old = None if new_share is None else _split(grads, new_share, t)
            if run.dropout_mask is not None:
                into.zero_()
            step.backward(t, grads, into)
            if run.dropout_mask is not None:
                grads[0].addcmul_(into, run.dropout_mask)
            if to_old is not None:
                for g, s in zip(grads, to_old, strict=True):
                    g.add_(s)
            if restart is not None and d_reset is not None:
                for g, r in zip(grads, d_reset, strict=True):
                    r.add_(g.masked_fill(~restart[t], 0))
                    g.masked_fill_(restart[t], 0)
        step.accumulate(lo, hi, state)
    pieces = [all_inputs] if all_inputs is not None else [run.state[0].unsqueeze(0), trace.states[0][:-1]]
    d_weights = step.weight_grads([p for p in pieces if len(p)]) if weights else None
    return Gradients(d[:, :, d.shape[2] - gx.shape[2] :], grads, d_reset, d_weights)


def _before(run: Run, trace: Trace, restart: tuple[Tensor, ...] | None, k: int, lo: int, hi: int) -> Tensor:
    """Return the k-th tensor of the state before steps lo to hi, after restarts."""
    states = trace.states[k]
    if lo:
        before = states[lo - 1 : hi - 1]
    else:
        before = torch.cat([run.state[k].unsqueeze(0), states[: hi - 1]])
    if restart is not None:
        before = torch.where(torch.stack(restart[lo:hi]), run.reset_state[k], before)
    return before


def _restart(run: Run) -> tuple[Tensor, ...] | None:
    if run.reset is None:
        return None
    return run.reset.view(*run.gx.shape[:2], *(1,) * (run.gx.ndim - 2)).unbind(0)


def _new_share(run: Run) -> Callable[[int, int], Tensor] | None:
    """Return a function of step t and state tensor k: the weight of the new value; None if it is always 1."""
    ended, count = past_end(run), len(run.gx)
    if ended is None and run.zoneout_keep is None:
        return None
    alive = None if ended is None else (~ended).to(run.state[0].dtype).unbind(0)
    keep = None if run.zoneout_keep is None else [views(z, count) for z in run.zoneout_keep]

    def new_share(t: int, k: int) -> Tensor:
        if keep is None:
            assert alive is not None
            return alive[t]
        share = 1 - keep[k][t]
        return share if alive is None else share * alive[t]

    return new_share


def _split(grads: tuple[Tensor, ...], new_share: Callable[[int, int], Tensor], t: int) -> list[Tensor]:
    """Keep the new state's part in `grads`, and return the part of the old state."""
    to_old = []
    for k, g in enumerate(grads):
        share = new_share(t, k)
        to_old.append(g * (1 - share))
        g.mul_(share)
    return to_old
