"""Triton kernels for NVIDIA GPUs; a cell's spec names its function, see `canton.kernels.CellSpec.triton`."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

from canton.kernels.spec import Loop, Result, Run

__all__ = ["execute", "unsupported_reason"]

SHARED_BYTES = 131_072
"""Shared memory of a multiprocessor that a program takes at most; consumer GPUs have 101,376."""


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def unsupported_reason(run: Run) -> str | None:
    """Return why these kernels cannot run `run`; None if they can."""
    device = run.gx.device
    if device.type != "cuda" and not (_interpreted() and device.type == "cpu"):
        return "it needs a GPU"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if device.type == "cuda" and (reason := _device_reason(device)):
        return reason
    if run.spec is None or run.spec.triton is None:
        return "no Triton kernel is written for this cell and map"
    if any(part is not None for part in (run.reset, run.lengths, run.dropout_mask, run.zoneout_keep)):
        return "it has no reset, lengths, recurrent dropout or zoneout"
    if torch.is_autocast_enabled(device.type):
        return "autocast is on"
    dtypes = {t.dtype for t in (run.gx, *run.state, *run.spec.weights)}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.bfloat16}:
        return "input, state and weights must be all float32 or all bfloat16"
    return None


def execute(run: Run, loop: Loop) -> Result:
    """Run `run`; `loop` is the reference loop, for gradients of gradients."""
    assert run.spec is not None
    assert run.spec.triton is not None
    return run.spec.triton(run, loop)


def _device_reason(device: torch.device) -> str | None:
    if torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    shared = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    if shared < SHARED_BYTES:
        return f"it needs {SHARED_BYTES:,} bytes of shared memory, and this GPU has {shared:,}"
    return None
