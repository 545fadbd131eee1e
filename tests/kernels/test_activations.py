"""Relative errors of every activation of every kernel on the CPU, from 1e-8 to 1e2, and of its gradient."""

from __future__ import annotations

import pytest
import torch

from activations import assert_as_exact_as_torch, magnitudes, make_run
from canton import kernels, maps
from canton.kernels import cpu
from canton.kernels.cpu.tanh import MIN_SIZE, tanh_
from cases import C_IN, CELLS

KERNELS = ("manual", "cpp", "associative_scan")
ROWS = 600
"""With 4 hidden units more numbers than `MIN_SIZE`, so that the manual kernel's tanh runs in C++."""

CASES = [
    (name, kernel)
    for name in CELLS
    if (spec := CELLS[name](C_IN, maps.dense).spec()) and name != "lstm-proj"  # of which the LSTM has all
    for kernel in KERNELS
    if (kernel == "manual" and spec.has_step)
    or (kernel == "cpp" and not isinstance(spec.cpp, str) and cpu.available())
    or (kernel == "associative_scan" and spec.linear_recurrence)
]


@pytest.mark.parametrize(
    ("name", "kernel", "state"),
    # an sLSTM's forget gate overflows after an input gate of -100 and a state of zeros, in the loop as well
    [(*case, state) for case in CASES for state in (0.0, 0.4) if state or "slstm" not in case[0]],
)
def test_every_gate(instructions: str, name: str, kernel: str, state: float) -> None:
    torch.manual_seed(1)
    cell = CELLS[name](C_IN, maps.dense)
    for gate in range(cell.gates):
        run = make_run(cell, gate, state, ROWS)
        assert_as_exact_as_torch(run, cell, lambda run, loop: kernels.execute(run, loop, kernel))


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
@pytest.mark.parametrize(("rows", "space"), [(4, ()), (3, (9, 16))], ids=["a single step", "few channels"])
def test_kernels_without_gradients(instructions: str, rows: int, space: tuple[int, ...]) -> None:
    cell = CELLS["gru"](C_IN, maps.conv2d(3) if space else maps.dense)
    for gate in range(cell.gates):
        run = make_run(cell, gate, 0.4, rows, space)
        assert_as_exact_as_torch(
            run, cell, lambda run, loop: kernels.execute(run, loop, "cpp"), gradients=False
        )


@pytest.mark.parametrize("shape", [(1, MIN_SIZE + 1), (40, 33), (3, 5, 7, 11), (2, 40_000)])
def test_tanh_in_place(instructions: str, shape: tuple[int, ...]) -> None:
    """In a block of a buffer, with every size of a rest, on one thread and on two."""
    buffer = torch.full((shape[0], 3 * shape[1], *shape[2:]), 0.5)
    a = buffer[:, shape[1] : 2 * shape[1]]
    a.copy_(magnitudes(a.numel() + 1)[: a.numel()].view(a.shape))
    a.view(len(a), -1)[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    exact = torch.tanh(a.double())
    torch.set_num_threads(2)
    assert tanh_(a) is a
    torch.set_num_threads(1)
    torch.testing.assert_close(a.double(), exact, rtol=5e-7, atol=0.0, equal_nan=True)
    assert a.view(len(a), -1)[0, 1:].abs().max() <= 1
    outside = torch.cat([buffer[:, : shape[1]], buffer[:, 2 * shape[1] :]], 1)
    assert torch.equal(outside, torch.full_like(outside, 0.5)), "it wrote outside its block"
