"""Parallel scan of a linear recurrence over all time steps.

A cell h' = (1 - z) h + z c whose z and c do not depend on the state is a linear recurrence h_t = a_t h_{t-1}
+ b_t. It is associative over t: two steps in a row are one step with a = a_2 a_1 and b = a_2 b_1 + b_2. Feng
et al. 2024 (arXiv:2410.01201v1, section 3.1 and appendix B) scan in log space, because their prefix sums
would otherwise divide by products of a that vanish. The tree divides by nothing, needs no logarithm, is as
exact as the loop and takes negative states. Its work grows linearly with T, its depth with log T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from canton.kernels.double_backward import differentiable_grads, mask_past_end, past_end
from canton.kernels.spec import LinearRecurrence, Loop, Result, Run
from canton.kernels.support import eager_reason

__all__ = ["execute", "recurrence", "unsupported_reason"]

_WIDE = 2048
"""Elements per step from which a CPU is faster step by step: the scan reads memory three times."""


def unsupported_reason(run: Run) -> str | None:
    """Return why this kernel cannot run `run`; None if it can."""
    if run.spec is None or run.spec.linear_recurrence is None:
        return "the cell's gates read the state, so it is not a linear recurrence"
    return eager_reason(run, (run.gx, *run.state, *run.reset_state))


def execute(run: Run, loop: Loop) -> Result:
    """Run `run`; `loop` is the reference loop, for gradients of gradients."""
    tensors = (run.gx, run.state[0], run.reset_state[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, final = _Scan.apply(run, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, (final,)
    hs = _states(mask_past_end(run))
    return _outputs(run, hs), (hs[-1].clone(),)


def recurrence(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Return h_t = a_t h_{t-1} + b_t for all t, (T, ...) each; `start` is h before the first step."""
    hs = torch.empty_like(b, memory_format=torch.contiguous_format)
    _scan(a, b, start, hs)
    return hs


def _scan(a: Tensor, b: Tensor, start: Tensor, hs: Tensor) -> None:
    half = len(a) // 2
    if half < 4 or (start.numel() >= _WIDE and start.device.type == "cpu"):
        for a_t, b_t, h in zip(a.unbind(0), b.unbind(0), hs.unbind(0), strict=True):
            torch.addcmul(b_t, a_t, start, out=h)
            start = h
        return
    first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    of_pairs = torch.empty_like(hs[:half])
    _scan(a[first] * a[second], torch.addcmul(b[second], a[second], b[first]), start, of_pairs)
    hs[second] = of_pairs
    torch.addcmul(b[0], a[0], start, out=hs[0])
    torch.addcmul(b[2::2], a[2::2], of_pairs[: len(b[2::2])], out=hs[2::2])


def _cell(run: Run) -> LinearRecurrence:
    assert run.spec is not None
    assert run.spec.linear_recurrence is not None
    return run.spec.linear_recurrence


def _new_share(run: Run) -> Tensor | float:
    """Return the weight of the new state: 1, less under zoneout, 0 after a row's length."""
    share: Tensor | float = 1.0 if run.zoneout_keep is None else 1 - run.zoneout_keep[0]
    ended = past_end(run)
    return share if ended is None else share * (~ended).to(run.gx.dtype)


def _restart(run: Run) -> Tensor | None:
    """Return (T, B, 1, ...), true where a row restarts before the step."""
    if run.reset is None:
        return None
    return run.reset.view(*run.gx.shape[:2], *(1,) * (run.gx.ndim - 2))


def _states(run: Run) -> Tensor:
    """Return the states after every step (T, B, C, *space) of a run that is masked past its end."""
    z, c = _cell(run).forward(run.gx)
    z, restart = z * _new_share(run), _restart(run)
    keep, new = 1 - z, z * c
    if restart is not None:
        new = torch.where(restart, torch.addcmul(new, keep, run.reset_state[0].expand_as(keep)), new)
        keep = keep.masked_fill(restart, 0)
    return recurrence(keep, new, run.state[0])


def _outputs(run: Run, hs: Tensor) -> Tensor:
    ended = past_end(run)
    return hs if ended is None else hs.masked_fill(ended, 0)


class _Scan(torch.autograd.Function):
    """forward(run, loop, gx, state, reset_state) -> (ys, final); saves gx and the states."""

    @staticmethod
    def forward(
        ctx: Any, run: Run, loop: Loop, gx: Tensor, state: Tensor, reset_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        hs = _states(mask_past_end(run))
        ctx.spec, ctx.loop = run.spec, loop
        ctx.save_for_backward(gx, state, reset_state, hs, run.reset, run.lengths, *(run.zoneout_keep or ()))
        ctx.set_materialize_grads(False)
        return _outputs(run, hs), hs[-1].clone()

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        gx, state, reset_state, hs, reset, lengths, *zoneout = ctx.saved_tensors
        run = Run(ctx.spec, gx, (state,), (reset_state,), reset, lengths, None, tuple(zoneout) or None)
        if torch.is_grad_enabled():
            needs = ctx.needs_input_grad[2:]
            found = differentiable_grads(run, ctx.loop, _outputs(run, hs), (d_ys, d_final), needs)
            return None, None, *found
        return None, None, *_backward(mask_past_end(run), hs, d_ys, d_final)


def _backward(
    run: Run, hs: Tensor, d_ys: Tensor | None, d_final: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of gx, state and reset_state: the same recurrence, run from the end."""
    z, c = _cell(run).forward(run.gx)
    share, restart, ended = _new_share(run), _restart(run), past_end(run)
    taken = z * share
    keep, before = 1 - taken, torch.cat([run.state[0].unsqueeze(0), hs[:-1]])
    passes = keep
    if restart is not None:
        before = torch.where(restart, run.reset_state[0], before)
        passes = keep.masked_fill(restart, 0)
    incoming = torch.zeros_like(hs) if d_ys is None else d_ys
    if ended is not None:
        incoming = incoming.masked_fill(ended, 0)
    if d_final is not None:
        incoming = torch.cat([incoming[:-1], (incoming[-1] + d_final).unsqueeze(0)])
    # g_t = incoming_t + passes_{t+1} g_{t+1}; there is no term after the last step
    later = torch.cat([passes[1:], torch.zeros_like(passes[:1])])
    g = recurrence(later.flip(0), incoming.flip(0), torch.zeros_like(hs[0])).flip(0)
    d_gx = _cell(run).backward(run.gx, z, c, g * (c - before) * share, g * taken)
    d_reset = None if restart is None else (g * keep).masked_fill(~restart, 0).sum(0)
    return d_gx, g[0] * passes[0], d_reset
