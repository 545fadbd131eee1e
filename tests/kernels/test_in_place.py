"""A caller may change the output of a layer in place, with every kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from canton import GRU, LSTM, RNN, MinGRU, Recurrent, maps
from canton.kernels import cpu
from cases import parts
from tolerances import assert_close

NO_CPP = pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))

RUNS = [
    (GRU, "loop"),
    (GRU, "manual"),
    (LSTM, "manual"),
    (RNN, "manual"),
    (MinGRU, "associative_scan"),
    *(pytest.param(layer, "cpp", marks=NO_CPP) for layer in (GRU, LSTM, MinGRU)),
]

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": lambda y: y.relu_(),
    "+=": lambda y: y.add_(1).mul_(3),
    "zero_": lambda y: y.zero_(),
    "a part": lambda y: y[-1].mul_(2),
}

LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "stack": {"num_layers": 2},
    "convolution": {"map": maps.conv1d(3)},
    "recompute": {"recompute": True},
    "bidirectional": {"bidirectional": True},
}


def results(
    layer: Recurrent, xs: Tensor, change: Callable[[Tensor], Tensor], *, step: bool, copied: bool
) -> dict[str, Tensor]:
    """Return the changed output, the state and the gradients; `copied` changes a copy of the output."""
    ys, state = layer.step(xs[0]) if step else layer(xs)
    ys = ys.clone() if copied else ys
    loss = ys.sum()  # a use before the change
    change(ys)
    found = {"ys": ys} | {f"state {k}": s for k, s in enumerate(parts(state))}
    for value in found.values():
        loss = loss + (value * torch.linspace(-1, 2, value.numel()).view(value.shape)).sum()
    leaves = {"xs": xs, **dict(layer.named_parameters())}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=step)
    found |= {f"{name} gradient": g for name, g in zip(leaves, grads, strict=True) if g is not None}
    return found


@pytest.mark.parametrize("step", [False, True], ids=["sequence", "step"])
@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("make", "kernel"), RUNS)
def test_gradients(make: type[GRU], kernel: str, change: str, options: str, step: bool) -> None:
    if step and options == "bidirectional":
        return
    xs = torch.randn(4, 3, 5, *([6] if options == "convolution" else []), requires_grad=True)
    layer = make(5, 8, kernel=kernel, **LAYERS[options])
    found = results(layer, xs, CHANGES[change], step=step, copied=False)
    layer.kernel = "loop"
    expected = results(layer, xs, CHANGES[change], step=step, copied=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, name)
