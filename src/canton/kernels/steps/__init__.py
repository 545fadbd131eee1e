"""The loop in plain torch operations, forward and backward: any device, no compiler.

Against the readable loop it saves the autograd graph of every step: buffers are allocated once, products and
gates write into them, the way back carries the gradient of the state alone, and each weight's gradient is one
product (or one convolution's) over all steps. Per step and row the way back needs gx, gates and the state:
for a GRU 7 numbers per hidden unit (3 + 3 + 1; with the reset after the map 8), for an LSTM 11, for an MGU 5.

Where a gradient must itself be differentiable (``create_graph=True``) the readable loop is run and
differentiated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from canton.kernels.double_backward import weights_of
from canton.kernels.spec import Job, MinGRU, Result
from canton.kernels.steps.autograd import Direct, Runner, Sequence

__all__ = ["refuses", "run"]

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def refuses(job: Job) -> str | None:
    """Why this kernel cannot run `job`, None if it can."""
    if isinstance(job.plan, MinGRU):
        return "a minGRU has no hidden half; 'scan' runs all its steps at once"
    tensors = (job.gx, *job.state, *job.fresh, *weights_of(job.plan))
    if any(torch.is_autocast_enabled(t.device.type) for t in tensors):
        return "autocast chooses a dtype for every operation, which is the readable loop's to follow"
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) > 1 or not dtypes <= set(_FLOATS):
        return f"its tensors are {', '.join(sorted(map(str, dtypes)))}: it takes one floating dtype"
    if len({t.device for t in tensors}) > 1:
        return "its tensors are on more than one device"
    if any(m is not None and m.requires_grad for m in (job.drop, *(job.zone or ()))):
        return "a mask asks for a gradient"
    return None


def run(job: Job, loop: Callable[[Job], Result], runner: Runner | None = None) -> Result:
    """Run `job`; `loop` is the readable loop, for gradients of gradients, `runner` another way to run it."""
    runner = runner or Direct()
    tensors = (job.gx, *job.state, *job.fresh, *weights_of(job.plan))
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, *final = Sequence.apply(job, loop, runner, *tensors)  # type: ignore[no-untyped-call]
        return ys, tuple(final)
    done = runner.forward(job, keep=False)
    return done.ys, done.final
