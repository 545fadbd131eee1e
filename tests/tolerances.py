"""The one table of tolerances. An error is measured against the largest value of the array it sits in.

Why so: a gradient summed over time has entries near zero beside entries of hundreds, all with rounding errors
of one size; an entry-wise relative tolerance would fail on the former or say nothing about the latter.
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
    """`actual` has the shape and the values of `expected`, within the tolerance of the coarser dtype.

    `slack` multiplies the tolerance, for the rare test that can say why it must.
    """
    got, wanted = tuple(actual.shape), tuple(expected.shape)
    assert got == wanted, f"{what}: shape {got}, expected {wanted}"
    if not (actual.is_floating_point() and expected.is_floating_point()):
        assert torch.equal(actual, expected), f"{what}: integer or boolean values differ"
        return
    allowed = slack * max(TOLERANCE[actual.dtype], TOLERANCE[expected.dtype])
    a, e = actual.detach().double().cpu(), expected.detach().double().cpu()
    assert torch.isfinite(e).all(), f"{what}: the reference itself is not finite"
    if e.numel() == 0:
        return
    scale = max(e.abs().max().item(), 1e-3)  # an all-zero reference still gets a meaningful absolute bound
    error = (a - e).abs().max().item() / scale
    assert error <= allowed, f"{what}: error {error:.2g} x its largest {scale:.2g}, allowed {allowed:.2g}"
