"""Tolerances. An error is relative to the largest value of its array.

A gradient summed over time has entries near 0 and entries of hundreds, with equal rounding errors. An
entry-wise relative tolerance would fail for the small ones or be too loose for the large ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}


def assert_close(actual: Tensor, expected: Tensor, what: str = "value", *, slack: float = 1.0) -> None:
    """Assert that `actual` has the shape and values of `expected`, within the coarser dtype's tolerance.

    `slack` multiplies the tolerance; a test that sets it states the reason.
    """
    got, wanted = tuple(actual.shape), tuple(expected.shape)
    assert got == wanted, f"{what}: shape {got}, expected {wanted}"
    if not (actual.is_floating_point() and expected.is_floating_point()):
        assert torch.equal(actual, expected), f"{what}: integer or boolean values differ"
        return
    allowed = slack * max(TOLERANCE[actual.dtype], TOLERANCE[expected.dtype])
    a, e = actual.detach().double().cpu(), expected.detach().double().cpu()
    assert torch.isfinite(e).all(), f"{what}: the reference is not finite"
    if e.numel() == 0:
        return
    scale = max(e.abs().max().item(), 1e-3)  # an absolute bound for a reference of zeros
    error = (a - e).abs().max().item() / scale
    assert error <= allowed, f"{what}: error {error:.2g} x its largest {scale:.2g}, allowed {allowed:.2g}"
