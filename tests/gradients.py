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
    before = None if state is None else tuple(s.detach().requires_grad_() for s in state)
    ys, after = layer(xs, None if before is None else given(before), **options)
    loss = sum(
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum() for y in (ys, *parts(after))
    )
    loss.backward()
    found = {"ys": ys.detach(), **{f"state {k}": s.detach() for k, s in enumerate(parts(after))}}
    gradients = {"xs": xs, **{f"first state {k}": s for k, s in enumerate(before or ())}}
    gradients |= dict(layer.named_parameters())
    return found | {f"{name} gradient": t.grad.clone() for name, t in gradients.items() if t.grad is not None}


def held_to_the_loop(
    layer: Recurrent, xs: Tensor, kernel: str, state: tuple[Tensor, ...] | None = None, **options: Tensor
) -> dict[str, Tensor]:
    """Assert that `kernel` agrees with the reference loop, and return its results."""
    layer.kernel = "loop"
    truth = results(layer, xs, state, **options)
    layer.kernel = kernel
    found = results(layer, xs, state, **options)
    assert found.keys() == truth.keys(), "the kernel and the loop have gradients of different tensors"
    for name, value in truth.items():
        assert_close(found[name], value, what=f"{kernel}: {name}")
    return found
