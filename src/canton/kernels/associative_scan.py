"""The minGRU, all time steps at once: its gates do not see the state, so the state is a linear recurrence.

h_t = a_t h_{t-1} + b_t with a in (0, 1) is associative over t: two steps in a row are one step with
a = a_2 a_1 and b = a_2 b_1 + b_2. Feng et al. 2024 (arXiv:2410.01201v1, section 3.1 and appendix B) scan in
log space, because their prefix sums would otherwise divide by products of a that vanish. The tree below
divides by nothing, so it needs no logarithms, is as exact as the loop, and takes negative states too. Its
work grows linearly with T, its depth with log T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from canton.kernels.double_backward import clean, dead, differentiable
from canton.kernels.spec import Job, MinGRU, Result

__all__ = ["recurrence", "refuses", "run"]

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WIDE = 2048
"""Numbers in a step from which on a processor is quicker step by step: the tree reads memory three times."""


def refuses(job: Job) -> str | None:
    """Why this kernel cannot run `job`, None if it can."""
    if not isinstance(job.plan, MinGRU):
        return "its gates see the state; only a minGRU can be scanned"
    tensors = (job.gx, *job.state, *job.fresh)
    if any(torch.is_autocast_enabled(t.device.type) for t in tensors):
        return "autocast chooses a dtype for every operation, which is the readable loop's to follow"
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) > 1 or not dtypes <= set(_FLOATS):
        return f"its tensors are {', '.join(sorted(map(str, dtypes)))}: it takes one floating dtype"
    if any(zone.requires_grad for zone in job.zone or ()):
        return "a mask asks for a gradient"
    return None


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`; `loop` is the readable loop, for gradients of gradients."""
    tensors = (job.gx, job.state[0], job.fresh[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, final = _Scan.apply(job, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, (final,)
    hs = _states(clean(job))
    return _outputs(job, hs), (hs[-1].clone(),)


def recurrence(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t for all t, (T, ...) each; `start` is h before the first step."""
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


def _gates(job: Job) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """z, the pre-activation of c, c, and the share of a step that counts: 0 behind a row's length."""
    z_in, c_in = job.gx.chunk(2, dim=2)
    share: Tensor | float = 1.0 if job.zone is None else 1 - job.zone[0]
    gone = dead(job)
    if gone is not None:
        share = share * (~gone).to(job.gx.dtype)
    return torch.sigmoid(z_in), c_in, torch.where(c_in >= 0, c_in + 0.5, torch.sigmoid(c_in)), share


def _restart(job: Job) -> Tensor | None:
    """(T, B, 1, ...) true where a row starts afresh before the step."""
    if job.reset is None:
        return None
    return job.reset.view(*job.gx.shape[:2], *(1,) * (job.gx.ndim - 2))


def _states(job: Job) -> Tensor:
    """The states after every step (T, B, C, *space) of a `clean` job."""
    z, _, c, share = _gates(job)
    take = z * share
    keep, new, restart = 1 - take, take * c, _restart(job)
    if restart is not None:
        new = torch.where(restart, torch.addcmul(new, keep, job.fresh[0].expand_as(keep)), new)
        keep = keep.masked_fill(restart, 0)
    return recurrence(keep, new, job.state[0])


def _outputs(job: Job, hs: Tensor) -> Tensor:
    gone = dead(job)
    return hs if gone is None else hs.masked_fill(gone, 0)


class _Scan(torch.autograd.Function):
    """forward(job, loop, gx, state, fresh) -> (ys, final); keeps gx and the states, 3 numbers per unit."""

    @staticmethod
    def forward(
        ctx: Any, job: Job, loop: Callable[[Job], Result], gx: Tensor, state: Tensor, fresh: Tensor
    ) -> tuple[Tensor, Tensor]:
        hs = _states(clean(job))
        ctx.loop = loop
        ctx.save_for_backward(gx, state, fresh, hs, job.reset, job.lengths, *(job.zone or ()))
        ctx.set_materialize_grads(False)
        return _outputs(job, hs), hs[-1].clone()

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        gx, state, fresh, hs, reset, lengths, *zone = ctx.saved_tensors
        job = Job(MinGRU(), gx, (state,), (fresh,), reset, lengths, None, tuple(zone) or None)
        if torch.is_grad_enabled():
            needs = ctx.needs_input_grad[2:]
            found = differentiable(job, ctx.loop, _outputs(job, hs), (d_ys, d_final), needs)
            return None, None, *found
        return None, None, *_backward(clean(job), hs, d_ys, d_final)


def _backward(
    job: Job, hs: Tensor, d_ys: Tensor | None, d_final: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of gx, state and fresh: the same recurrence, run from the end."""
    z, c_in, c, share = _gates(job)
    take, restart, gone = z * share, _restart(job), dead(job)
    keep, before = 1 - take, torch.cat([job.state[0].unsqueeze(0), hs[:-1]])
    passes = keep
    if restart is not None:
        before = torch.where(restart, job.fresh[0], before)
        passes = keep.masked_fill(restart, 0)
    arriving = torch.zeros_like(hs) if d_ys is None else d_ys if gone is None else d_ys.masked_fill(gone, 0)
    if d_final is not None:
        arriving = torch.cat([arriving[:-1], (arriving[-1] + d_final).unsqueeze(0)])
    # g_t = arriving_t + passes_{t+1} g_{t+1}; nothing lies behind the last step
    later = torch.cat([passes[1:], torch.zeros_like(passes[:1])])
    g = recurrence(later.flip(0), arriving.flip(0), torch.zeros_like(hs[0])).flip(0)
    slope = torch.where(c_in >= 0, torch.ones_like(c), (1 - c) * c)
    d_gx = torch.cat([g * (c - before) * (share * z * (1 - z)), g * take * slope], dim=2)
    d_fresh = None if restart is None else (g * keep).masked_fill(~restart, 0).sum(0)
    return d_gx, g[0] * passes[0], d_fresh
