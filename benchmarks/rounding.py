"""Rounding of the C++ convolutions and recurrent layers: largest error relative to the largest number.

    python benchmarks/rounding.py

The truth is the reference loop in float64. The error of a product is that of one convolution; the error of a
layer is that of its outputs after so many steps. Each is the largest of ten draws.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from canton import ConvGRU2d, ConvLSTM2d, Recurrent, kernels

DRAWS, STEPS = 10, (1, 5, 20)


def relative(found: Tensor, truth: Tensor) -> float:
    """Return the largest difference divided by the largest number."""
    return float((found.double() - truth).abs().max() / truth.abs().max())


def product_errors(size: int) -> tuple[float, float]:
    """Return the error of one convolution of 64 channels, in C++ and in torch."""
    errors = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        conv, x = nn.Conv2d(64, 64, size, padding=size // 2), torch.randn(2, 64, 24, 24)
        with torch.no_grad():
            truth = copy.deepcopy(conv).double()(x.double())
            errors.append([relative(y, truth) for y in (kernels.apply(conv, x), conv(x))])
    return max(e[0] for e in errors), max(e[1] for e in errors)


def layer_errors(make: Callable[..., Recurrent], size: int, steps: int) -> tuple[float, float]:
    """Return the error of a layer's outputs of `steps` steps, in C++ and in the float32 loop."""
    errors = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        layer, xs = make(16, 32, size), torch.randn(steps, 2, 16, 16, 16)
        exact = copy.deepcopy(layer).double()
        exact.kernel = "loop"
        with torch.no_grad():
            truth, found = exact(xs.double())[0], []
            for layer.kernel in ("cpp", "loop"):
                found.append(relative(layer(xs)[0], truth))
        errors.append(found)
    return max(e[0] for e in errors), max(e[1] for e in errors)


def main() -> None:
    """Print a table."""
    print("| computation | C++ | torch |\n|---|---|---|")
    for size in (3, 5):
        print(f"| one {size} x {size} convolution | %.1e | %.1e |" % product_errors(size))
    for make in (ConvGRU2d, ConvLSTM2d):
        for size in (3, 5):
            for steps in STEPS:
                row = layer_errors(make, size, steps)
                print(f"| {make.__name__}, {size} x {size}, {steps} steps | %.1e | %.1e |" % row)


if __name__ == "__main__":
    main()
