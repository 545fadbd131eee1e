"""Launches of the Triton programs of the dense GRU. Needs Triton; see `canton.kernels.triton.gru`."""

# mypy: ignore-errors
# A program is called through an index and with constants that only Triton's compiler knows.

from contextlib import nullcontext

import torch
import triton

from canton.kernels.triton import programs as programs

SLABS = {
    (16, 8): {"float32": ("tf32x3", 8, 32), "tf32": ("tf32", 8, 32), "bfloat16": ("ieee", 8, 128)},
    (16, 16): {"float32": ("ieee", 8, 64), "tf32": ("tf32", 8, 32), "bfloat16": ("ieee", 8, 128)},
    (16, 32): {"float32": ("ieee", 4, 32), "tf32": ("tf32", 8, 32), "bfloat16": ("ieee", 8, 64)},
    (32, 32): {"float32": ("ieee", 4, 64), "tf32": ("tf32", 1, 64), "bfloat16": ("ieee", 1, 128)},
    (64, 32): {"float32": ("ieee", 1, 64), "tf32": ("tf32", 1, 64), "bfloat16": ("ieee", 1, 128)},
}
"""For each (rows, columns) of a program's block: the precision of products, the number of slabs side by side,
and their depth at most. Small blocks come first.

Compiled for a Hopper GPU they fit 8 warps' registers, but for up to some 230 words in the largest. "tf32x3"
is float32 by three products on the tensor cores, as exact as one: on an H200 it took 0.85 to 1 times as long
for the smallest block, and 1.6 times for the largest.
"""


def plan(batch: int, hidden: int, processors: int) -> tuple[int, int, int, int]:
    """Return rows and columns of a program's block, groups of programs, and members of a group.

    The block is the smallest that gives every program one block and its own multiprocessor. If the largest
    block is too small for that, groups loop over rows, and members over columns.
    """
    for rows, cols in SLABS:
        row_blocks, col_blocks = triton.cdiv(batch, rows), triton.cdiv(hidden, cols)
        if row_blocks * col_blocks <= processors:
            break
    members = min(col_blocks, processors)
    return rows, cols, min(row_blocks, processors // members), members


def processors_of(device: torch.device) -> int:
    """Return the multiprocessors of the GPU; in the interpreter those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def _packed(gates, candidate, cols: int, *, transposed: bool):
    """Return the weights (k, n) of z, r and c as (3, blocks, k, `cols`), padded with zeros."""
    hidden = candidate.shape[0]
    weights = torch.cat((gates.detach(), candidate.detach())).view(3, hidden, hidden)
    if transposed:
        weights = weights.transpose(1, 2)
    weights = torch.nn.functional.pad(weights, (0, -hidden % cols))
    return weights.unflatten(2, (-1, cols)).transpose(1, 2).contiguous()


def _launch(program, before, gates, candidate, after, steps: int, batch: int, hidden: int) -> None:
    data = before[0]
    rows, cols, groups, members = plan(batch, hidden, processors_of(data.device))
    if data.device.type != "cuda":
        members = 1  # the interpreter runs one program after the other: none can wait for another
    kind = "bfloat16" if data.dtype == torch.bfloat16 else "float32"
    if kind == "float32" and torch.backends.cuda.matmul.fp32_precision == "tf32":
        kind = "tf32"
    precision, split, deepest = SLABS[rows, cols][kind]
    depth = min(deepest, max(16, triton.next_power_of_2(hidden) // split))
    weights = _packed(gates, candidate, cols, transposed=program is programs.forward)
    counters = torch.zeros(groups, dtype=torch.int32, device=data.device)
    # Cooperative: the driver starts all programs together or refuses, so that none waits for one to come.
    with torch.cuda.device(data.device) if data.device.type == "cuda" else nullcontext():
        program[(groups, members)](
            *before, weights, *after, counters, steps, batch, hidden,
            PRECISION=precision, ROWS=rows, COLS=cols, DEPTH=depth, SPLIT=split,
            num_warps=8, num_stages=1, launch_cooperative_grid=True,
        )  # fmt: skip


def forward(gx, h0, gates, candidate):
    """Return the states (T + 1, B, H), from the initial one on, and what the backward pass needs.

    That is z and r (T, B, 2H), c and r * h (T, B, H): with the states 5H numbers a row and step.
    """
    steps, batch, hidden = gx.shape[0], gx.shape[1], h0.shape[1]
    gx = gx.detach().contiguous()
    states = gx.new_empty(steps + 1, batch, hidden)
    states[0] = h0.detach()
    zr, c, rh = (gx.new_empty(steps, batch, many * hidden) for many in (2, 1, 1))
    _launch(programs.forward, (gx,), gates, candidate, (states, zr, c, rh), steps, batch, hidden)
    return states, zr, c, rh


def backward(d_ys, gates, candidate, states, zr, c):
    """Return the gradients of gx (T, B, 3H) and of the initial state (B, H)."""
    steps, batch, hidden = c.shape
    d_gx = c.new_empty(steps, batch, 3 * hidden)
    d_h = torch.zeros(batch, hidden, dtype=torch.float32, device=c.device)
    d_ys = d_ys.contiguous()
    _launch(programs.backward, (d_ys, d_h), gates, candidate, (states, zr, c, d_gx), steps, batch, hidden)
    return d_gx, d_h.to(c.dtype)
