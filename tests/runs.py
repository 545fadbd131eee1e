"""Runs with every option, and a kernel's outputs, states and gradients by name.

A run has random float64 numbers on the CPU, where the reference loop gives the expected results. A kernel
gets the same numbers on another device or in another dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from canton import Cell
from canton.core.packing import mask_padding
from canton.core.recurrent import loop
from canton.kernels import Result, Run
from cases import C_IN, CELLS, MAPS, Place, random_state, shake_

STEPS, BATCH = 6, 3

OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "state": ("state",),
    "lengths": ("lengths",),
    "reset": ("reset",),
    "noise": ("dropout", "zoneout"),
    "all": ("state", "lengths", "reset", "dropout", "zoneout"),
}

MANUAL = [name for name in CELLS if (spec := CELLS[name](C_IN, MAPS["dense"].map).spec()) and spec.has_step]
"""The cells of `cases.CELLS` that have a manual step."""

DENSE_RUNS = [(cell, "dense", options) for cell in MANUAL for options in OPTIONS]
CONV = ("conv1d-even-dilated", "conv2d", "conv2d-groups", "conv2d-circular-even-groups")
RUNS = DENSE_RUNS + [
    (cell, place, options) for cell in MANUAL for place in CONV for options in ("plain", "all")
]

Execute = Callable[[Run, Callable[[Run], Result]], Result]


def make_cell(name: str, place: str) -> Cell:
    """Return the named cell in float64 on the CPU, with no parameter zero."""
    cell = CELLS[name](C_IN, MAPS[place].map).double()
    shake_(cell)
    return cell


def random_run(cell: Cell, place: Place, options: tuple[str, ...]) -> Run:
    """Return a run for `cell` with random numbers; differentiated tensors require a gradient."""
    xs = torch.randn(STEPS, BATCH, C_IN, *place.space, dtype=torch.float64)
    with torch.no_grad():
        gx = cell.project(xs.flatten(0, 1)).unflatten(0, (STEPS, BATCH))
    reset_state = cell.zero_state(gx[0], gx.dtype)
    state = reset_state
    if "state" in options:
        shapes = [tuple(s.shape) for s in reset_state]
        state, reset_state = (tuple(s.requires_grad_() for s in random_state(cell, shapes)) for _ in range(2))
    lengths = torch.tensor([STEPS, 0, 2]) if "lengths" in options else None
    reset = torch.rand(STEPS, BATCH) < 0.4 if "reset" in options else None
    if reset is not None and lengths is not None:
        reset = mask_padding(reset, lengths)
    dropout_mask = torch.bernoulli(torch.full_like(state[0], 0.7)) / 0.7 if "dropout" in options else None
    zoneout_keep = None
    if "zoneout" in options:
        zoneout_keep = tuple(
            torch.bernoulli(torch.full((STEPS, *s.shape), 0.3, dtype=s.dtype)) for s in state
        )
    return Run(
        cell.spec(), gx.requires_grad_(), state, reset_state, reset, lengths, dropout_mask, zoneout_keep
    )


def copy_run(run: Run, cell: Cell, device: str, dtype: torch.dtype) -> Run:
    """Return a copy of the run on another device, with the weights of `cell`, which is on it."""
    done: dict[int, Tensor] = {}

    def move(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in done:  # a shared tensor stays shared
            copied = tensor.detach().to(device, dtype if tensor.is_floating_point() else None)
            done[id(tensor)] = copied.requires_grad_(tensor.requires_grad)
        return done[id(tensor)]

    def all_of(tensors: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
        return None if tensors is None else tuple(move(t) for t in tensors)

    return Run(
        cell.spec(),
        move(run.gx),
        all_of(run.state),
        all_of(run.reset_state),
        move(run.reset),
        move(run.lengths),
        move(run.dropout_mask),
        all_of(run.zoneout_keep),
    )


def outcome(run: Run, cell: Cell, execute: Execute) -> dict[str, Tensor]:
    """Return the results of ``execute(run, loop)``, and the gradients of a loss with a weight per number."""
    ys, state = execute(run, partial(loop, cell=cell))
    found = {"ys": ys} | {f"state {k}": s for k, s in enumerate(state)}
    loss = sum(
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).view_as(y)).sum()
        for y in found.values()
    )
    leaves = {"gx": run.gx} | {f"first state {k}": s for k, s in enumerate(run.state)}
    if run.reset is not None:
        leaves |= {f"reset state {k}": s for k, s in enumerate(run.reset_state)}
    leaves |= {name: p for name, p in cell.named_parameters() if not name.startswith("input_map")}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found |= {f"{name} gradient": g for name, g in zip(leaves, grads, strict=True) if g is not None}
    return {name: value.detach() for name, value in found.items()}


@contextmanager
def setting(owner: object, name: str, value: object) -> Iterator[None]:
    """Change one of torch's settings within the block. monkeypatch cannot restore them."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
