"""Compare outputs, states and gradients of a kernel with those of the reference loop."""

from __future__ import annotations

import torch
from torch import Tensor

from canton.core.recurrent import Recurrent
from cases import given, parts
from tolerances import assert_close


def results(
    layer: Recurrent, xs: Tensor, state: tuple[Tensor, ...] | None = None, **options: Tensor
) -> dict[str, Tensor]:
    """Return outputs, final state and the gradients of a loss with a different weight for every number."""
    torch.manual_seed(7)  # the same dropout masks
    layer.zero_grad()
    xs = xs.detach().requires_grad_(xs.is_floating_point())
    start = None if state is None else tuple(s.detach().requires_grad_() for s in state)
    ys, new_state = layer(xs, None if start is None else given(start), **options)
    loss = sum(
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum()
        for y in (ys, *parts(new_state))
    )
    loss.backward()
    actual = {"ys": ys.detach(), **{f"state {k}": s.detach() for k, s in enumerate(parts(new_state))}}
    gradients = {"xs": xs, **{f"first state {k}": s for k, s in enumerate(start or ())}}
    gradients |= dict(layer.named_parameters())
    return actual | {
        f"{name} gradient": t.grad.clone() for name, t in gradients.items() if t.grad is not None
    }


def assert_equals_loop(
    layer: Recurrent, xs: Tensor, kernel: str, state: tuple[Tensor, ...] | None = None, **options: Tensor
) -> dict[str, Tensor]:
    """Assert that `kernel` agrees with the reference loop, and return its results."""
    layer.kernel = "loop"
    expected = results(layer, xs, state, **options)
    layer.kernel = kernel
    actual = results(layer, xs, state, **options)
    assert actual.keys() == expected.keys(), "the kernel and the loop have gradients of different tensors"
    for name, value in expected.items():
        assert_close(actual[name], value, what=f"{kernel}: {name}")
    return actual
