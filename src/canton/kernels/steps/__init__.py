"""The loop over time in plain torch operations with a manual backward pass: any device, no compiler.

Compared with the reference loop it saves the autograd graph of every step. Buffers are allocated once, and
products and gates write into them. The backward pass carries the gradient of the state alone, and each
weight's gradient is one product (or one convolution) over all steps. Per step and row the backward pass needs
gx, the gates and the state: for a GRU 7 numbers per hidden unit (3 + 3 + 1; with the reset after the map 8),
for an LSTM 11, for an MGU 5.

Where a gradient must itself be differentiable (``create_graph=True``) the reference loop runs and is
differentiated.
"""

from __future__ import annotations

import torch

from canton.kernels.spec import Loop, Result, Run
from canton.kernels.steps.autograd import Direct, ManualSequence, Runner
from canton.kernels.support import eager_reason

__all__ = ["execute", "unsupported_reason"]


def unsupported_reason(run: Run) -> str | None:
    """Return why this kernel cannot run `run`; None if it can."""
    if run.spec is None or not run.spec.has_step:
        return "no manual step is written for this cell"
    return eager_reason(run, run.tensors())


def execute(run: Run, loop: Loop, runner: Runner | None = None) -> Result:
    """Run `run`.

    Args:
        run: the run.
        loop: the cell's reference loop, for gradients of gradients.
        runner: how the loop over time is run; None runs one torch operation after the other.
    """
    runner = runner or Direct()
    tensors = run.tensors()
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, *final = ManualSequence.apply(run, loop, runner, *tensors)  # type: ignore[no-untyped-call]
        return ys, tuple(final)
    done = runner.forward(run, save=False)
    return done.ys, done.final
