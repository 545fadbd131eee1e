"""Kernels against the readable loop: outputs, final states and every gradient, by name."""

from __future__ import annotations

import pytest
import torch

import canton
from canton import maps
from canton.cell import Cell
from canton.recurrent import Recurrent
from tolerances import assert_close

CELLS = {
    "rnn-relu": lambda m: canton.RNNCell(4, 6, nonlinearity="relu", map=m),
    "gru-before": lambda m: canton.GRUCell(4, 6, map=m),
    "gru-after": lambda m: canton.GRUCell(4, 6, reset="after", map=m),
    "mgu": lambda m: canton.MGUCell(4, 6, map=m),
    "gru2": lambda m: canton.MGUCell(4, 6, gate_input=False, reset=False, map=m),
    "lstm": lambda m: canton.LSTMCell(4, 6, map=m),
    "lstm-peephole": lambda m: canton.LSTMCell(4, 6, peephole=True, map=m),
}
MAPS = {
    "dense": (maps.dense, ()),
    "conv2d-circular": (maps.conv2d((3, 2), padding_mode="circular"), (5, 4)),
    "conv1d-groups": (maps.conv1d(3, dilation=2, groups=2), (7,)),
}


def results(layer: Recurrent, xs: torch.Tensor, **options: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)  # the same masks
    layer.zero_grad()
    given = xs.clone().requires_grad_()
    ys, state = layer(given, **options)
    states = (state,) if isinstance(state, torch.Tensor) else state
    weights = torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys)
    ((ys * weights).sum() + sum((s * s).sum() for s in states)).backward()
    found = {"ys": ys, "x gradient": given.grad, **{f"state {k}": s for k, s in enumerate(states)}}
    return found | {f"{name} gradient": p.grad for name, p in layer.named_parameters()}


def held_to_the_loop(
    cell: Cell, xs: torch.Tensor, kernel: str, *, noisy: bool, **options: torch.Tensor
) -> None:
    noise = {"recurrent_dropout": 0.3, "zoneout": 0.2} if noisy else {}
    layer = Recurrent(cell, **noise).to(xs.dtype)
    layer.kernel = "loop"
    truth = results(layer, xs, **options)
    layer.kernel = kernel
    found = results(layer, xs, **options)
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        assert_close(found[name], value, what=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", ["plain", "lengths", "reset", "noisy"])
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("cell", CELLS)
def test_fused(cell: str, kind: str, options: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    made, space = MAPS[kind]
    xs = torch.randn(5, 3, 4, *space, dtype=dtype)
    given = {}
    if options == "lengths":
        given["lengths"] = torch.tensor([5, 0, 2])
    if options == "reset":
        given["reset"] = torch.rand(5, 3) < 0.4
    held_to_the_loop(CELLS[cell](made), xs, "fused", noisy=options == "noisy", **given)


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("cell", ["gru-before", "lstm-peephole"])
def test_fused_gradients_of_gradients(cell: str, steps: int) -> None:
    layer = Recurrent(CELLS[cell](maps.dense), kernel="fused").double()
    xs = torch.randn(steps, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], xs)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], xs)


def test_the_same_bits_twice() -> None:
    layer = canton.GRU(4, 6, kernel="fused")
    xs = torch.randn(9, 3, 4)
    first, second = results(layer, xs), results(layer, xs)
    assert all(torch.equal(first[name], second[name]) for name in first)
