"""Kernels in C++ for the CPU, built at installation where there is a compiler.

Weights are packed once for a sequence, and gates are computed in the product's epilogue. A convolution is the
same product over overlapping channels-last rows. Threads divide the batch, so that none waits inside the loop
over time. Each instruction set has its copy: AVX-512, AVX2 with FMA, and portable C++.
"""

from __future__ import annotations

import torch

from canton.kernels.cpu import abi, layout
from canton.kernels.cpu.abi import (
    INSTRUCTION_SETS,
    LANES,
    available,
    instruction_set,
    use_instruction_set,
    why_not,
)
from canton.kernels.cpu.recurrent import execute
from canton.kernels.spec import CppCell, Run

__all__ = [
    "INSTRUCTION_SETS",
    "LANES",
    "available",
    "execute",
    "instruction_set",
    "is_quick",
    "unsupported_reason",
    "use_instruction_set",
    "why_not",
]


def unsupported_reason(run: Run) -> str | None:
    """Return why these kernels cannot run `run`; None if they can."""
    if reason := why_not():
        return reason
    cell = "the cell has no kernel spec" if run.spec is None else run.spec.cpp
    if run.spec is None or isinstance(cell, str):
        return str(cell)
    if run.dropout_mask is not None or run.zoneout_keep is not None:
        return "it has no recurrent dropout or zoneout"
    if not cell.masks and (run.reset is not None or run.lengths is not None):
        return "it has no reset or lengths for this cell"
    numbers = run.tensors()
    if run.all_states and len(run.state) > 1:
        if run.reset is not None:
            return "with reset it does not keep all states of this cell"
        if torch.is_grad_enabled() and any(t.requires_grad for t in numbers):
            return "it has no gradient of all states of this cell"
    if any(t.device.type != "cpu" for t in numbers):
        return "it runs on the CPU only"
    if any(t.dtype != torch.float32 for t in numbers):
        return "input, states and weights must be float32"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if any(size == 0 for size in run.gx.shape):
        return "an axis of the input is empty"
    return next((reason for reason in map(layout.unsupported_reason, run.spec.products) if reason), None)


def is_quick(run: Run) -> bool:
    """Return whether one step of `run` packs no or few weights, or finds them packed by the last step."""
    assert run.spec is not None
    assert isinstance(run.spec.cpp, CppCell)
    sizes = layout.sizes(run.spec, run.gx, run.state)
    # C++ only asks which arrays are null
    sizes.saved = torch.is_grad_enabled() and any(t.requires_grad for t in run.tensors())
    sizes.order = sizes.lengths = run.lengths is not None
    sizes.reset = run.reset is not None
    return abi.is_quick(run.spec.cpp.name, sizes)
