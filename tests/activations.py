"""Activations over many magnitudes: relative errors of a kernel, decade by decade."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from canton import Cell
from canton.core.recurrent import loop
from canton.kernels import Run
from runs import Execute

SMALLEST, LARGEST = -8, 2
"""The decades of the pre-activations."""

UNDERFLOW = 1e-32
"""Below this float32 has no digits left: C++'s sigmoid of -100 is 6e-39."""


def magnitudes(count: int) -> Tensor:
    """Return `count` numbers of both signs, spread evenly over the decades."""
    numbers = torch.logspace(SMALLEST, LARGEST, count // 2)
    return torch.stack([numbers, -numbers], 1).flatten()


def decades(numbers: Tensor) -> Tensor:
    """Return the decade of each of the `magnitudes`, counted from 0."""
    return (numbers.abs().log10().floor() - SMALLEST).long().clamp(0, LARGEST - SMALLEST)


def make_run(cell: Cell, gate: int, state: float, rows: int, space: tuple[int, ...] = ()) -> Run:
    """Return one step whose `gate` has `magnitudes` and whose other gates have 0.3, without hidden half.

    Args:
        cell: a float32 cell; the weights of its hidden half become 0, those of a candidate the identity.
        gate: the block of gx that varies.
        state: value of every tensor of the state.
        rows: batch size.
        space: shape of the space.
    """
    with torch.no_grad():
        for name, module in cell.named_children():
            if name != "input_map":
                module.weight.zero_()
                if name == "candidate_map":
                    middle = tuple(size // 2 for size in module.weight.shape[2:])
                    for k in range(len(module.weight)):
                        module.weight[(k, k, *middle)] = 1.0
    hidden = cell.hidden_size
    gx = torch.full((1, rows, cell.gates, hidden, *space), 0.3)
    gx[0, :, gate] = magnitudes(gx[0, :, gate].numel()).view(gx[0, :, gate].shape)
    start = tuple(torch.full((rows, size, *space), state) for size in cell.state_sizes)
    return Run(cell.spec(), gx.flatten(2, 3), start, start)


def relative_errors(
    run: Run, cell: Cell, execute: Execute, *, gradients: bool = True
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each result the largest relative error in every decade: `execute`'s, and float32 torch's.

    The truth is the reference loop in float64. Torch's error is that of the same loop in float32.
    """
    truth = _results(run, cell, lambda r, loop: loop(r), torch.float64, gradients)
    usual = _results(run, cell, lambda r, loop: loop(r), torch.float32, gradients)
    found = _results(run, cell, execute, torch.float32, gradients)
    # what is added to a part of the state cannot be more exact than that
    least = max(UNDERFLOW, 0.05 * float(run.state[0].max()))
    gx = run.gx.unflatten(2, (cell.gates, -1))[0]
    varied = next(k for k in range(cell.gates) if gx[:, k].abs().max() > 1)
    place = decades(gx[:, varied])
    return {
        name: (_by_decade(found[name], exact, place, least), _by_decade(usual[name], exact, place, least))
        for name, exact in truth.items()
    }


def _results(
    run: Run, cell: Cell, execute: Execute, dtype: torch.dtype, gradients: bool
) -> dict[str, Tensor]:
    """Return the outputs, the state and the gradients by name, (B, hidden, *space) each."""
    cell = cell.to(dtype)
    leaves = [t.detach().to(dtype).requires_grad_(gradients) for t in (run.gx, *run.state)]
    gx, *state = leaves
    run = Run(cell.spec(), gx, tuple(state), tuple(state))
    ys, after = execute(run, partial(loop, cell=cell))
    results = {f"state {k}": s for k, s in enumerate(after)} | {"ys": ys[0]}
    if gradients:
        grads = torch.autograd.grad(sum(r.sum() for r in results.values()), leaves, allow_unused=True)
        blocks = grads[0][0].unflatten(1, (cell.gates, -1)).unbind(1)
        results |= {f"gradient of gate {k}": block for k, block in enumerate(blocks)}
        named = {f"gradient of state {k}": g for k, g in enumerate(grads[1:]) if g is not None}
        results |= named
    cell.to(torch.float32)
    return {name: value.detach() for name, value in results.items()}


def _by_decade(found: Tensor, exact: Tensor, place: Tensor, least: float) -> Tensor:
    error = (found.double() - exact).abs() / exact.abs().clamp(min=least)
    worst = torch.zeros(LARGEST - SMALLEST + 1, dtype=torch.float64)
    return worst.scatter_reduce(0, place.flatten(), error.flatten(), "amax")


def assert_as_exact_as_torch(
    run: Run, cell: Cell, execute: Execute, *, gradients: bool = True, slack: float = 16.0
) -> None:
    """Assert that no relative error is more than `slack` times torch's in its decade, plus rounding."""
    for name, (mine, usual) in relative_errors(run, cell, execute, gradients=gradients).items():
        allowed = slack * usual + 2e-6
        wrong = [
            f"{name} at 1e{k + SMALLEST}: {float(error):.1g}, torch {float(usual[k]):.1g}"
            for k, error in enumerate(mine)
            if not error <= allowed[k]
        ]
        assert not wrong, "\n".join(wrong)
