"""The processor's own kernels: C++ over plain arrays, built at installation where there is a compiler.

Weights are packed once for a sequence, gates are computed in the product's tail, a convolution is the same
product over channels-last rows that overlap, and threads divide the batch, so that nothing waits inside the
loop over time. Each instruction set has its copy: AVX-512, AVX2 with FMA, and plain C++.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from canton.kernels.cpu import gru, layout, lstm, min_gru
from canton.kernels.cpu.abi import (
    INSTRUCTION_SETS,
    LANES,
    available,
    instruction_set,
    use_instruction_set,
    why_not,
)
from canton.kernels.spec import LSTM, Dense, GRUBefore, Job, MinGRU, Product, Result, tensors

__all__ = [
    "INSTRUCTION_SETS",
    "LANES",
    "available",
    "instruction_set",
    "quick",
    "refuses",
    "run",
    "use_instruction_set",
    "why_not",
]

DENSE_STEP_ROWS = 4
"""Rows that a step reading unpacked weights is for; dense_step.h has the same number."""


def refuses(job: Job) -> str | None:
    """Why these kernels cannot run `job`; None if they can."""
    if reason := why_not():
        return reason
    plan = job.plan
    if not isinstance(plan, (GRUBefore, MinGRU, LSTM)):
        return "it runs the reset-before GRU, the LSTM and the minGRU only"
    if isinstance(plan, LSTM) and (plan.peephole is not None or plan.projection is not None):
        return "it knows no peepholes or projection"
    if job.drop is not None or job.zone is not None:
        return "it knows no recurrent dropout or zoneout"
    if isinstance(plan, MinGRU) and not (job.reset is None and job.lengths is None):
        return "it knows no reset or lengths in a minGRU"
    products: tuple[Product, ...] = ()
    if isinstance(plan, GRUBefore):
        products = (plan.gates, plan.candidate)
    elif isinstance(plan, LSTM):
        products = (plan.hidden,)
    numbers = (job.gx, *job.state, *job.fresh, *tensors(plan))
    if any(t.device.type != "cpu" for t in numbers):
        return "it runs on the processor only"
    if any(t.dtype != torch.float32 for t in numbers):
        return "input, states and weights must be float32"
    if torch.is_autocast_enabled("cpu"):
        return "it does not know autocast"
    if any(size == 0 for size in job.gx.shape):
        return "an axis of the input is empty"
    return next((reason for reason in map(layout.refuses, products) if reason), None)


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`; gradients of gradients go through `loop`."""
    if isinstance(job.plan, MinGRU):
        return min_gru.run(job, loop)
    return lstm.run(job, loop) if isinstance(job.plan, LSTM) else gru.run(job, loop)


def quick(job: Job) -> bool:
    """Whether `job`, of one step, is done at once: it needs no packed weights, few, or they are kept from the
    step before (dense_step.h, thin.h, kept.h).
    """
    plan = job.plan
    if isinstance(plan, LSTM):
        return layout.is_tiled(plan.hidden)
    if not isinstance(plan, GRUBefore):
        return isinstance(plan, MinGRU)
    if layout.is_tiled(plan.candidate):
        return True
    tensors = (job.gx, *job.state, plan.gates.weight, plan.candidate.weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    if isinstance(plan.candidate, Dense):
        return job.gx.shape[1] <= DENSE_STEP_ROWS
    return job.lengths is None and layout.is_thin(plan.candidate, tuple(job.gx.shape[3:]))
