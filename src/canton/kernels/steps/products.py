"""Products of the hidden half, with derivatives, that write into existing memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from canton.kernels.cpu import gemm
from canton.kernels.spec import Conv, Dense, Product

Pairs = Sequence[tuple[Tensor, Tensor]]
"""A product's inputs and the gradients of its outputs, both (steps, B, C, *space), in pieces."""


class DenseProduct:
    """The product of (B, in) with a matrix (out, in)."""

    def __init__(self, dense: Dense, rows: int) -> None:
        self.weight = dense.weight
        # with one row, reading the matrix takes the time, and it is read fastest along its outputs
        self.weight_t = self.weight.t().contiguous() if rows == 1 else self.weight.t()
        self.weight_rows = self.weight_t.t()

    def forward(self, base: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write base + the product of x to `out`."""
        return torch.addmm(base, x, self.weight_t, out=out)

    def add_input_grad(self, d: Tensor, into: Tensor) -> None:
        """Add the gradient of x to `into`; `d` is that of the product."""
        into.addmm_(d, self.weight_rows)

    def input_grad(self, d: Tensor, scratch: Tensor) -> Tensor:
        """Return the gradient of x, in `scratch` if that helps; `d` is that of the product."""
        return torch.mm(d, self.weight_rows, out=scratch)

    def weight_grad(self, pairs: Pairs) -> Tensor:
        """Return the gradient of the weight, over all steps at once."""
        (x, d), *rest = pairs
        grad = gemm.matmul(d.flatten(0, 1).t(), x.flatten(0, 1))
        for x, d in rest:
            grad.add_(gemm.matmul(d.flatten(0, 1).t(), x.flatten(0, 1)))
        return grad


class ConvProduct:
    """A convolution of (B, in, *space), stride 1, output as large as the input; `gates` blocks of outputs."""

    def __init__(self, conv: Conv, gates: int) -> None:
        self.weight, self.dilation, self.groups = conv.weight, conv.dilation, conv.groups
        self.gates = gates if conv.groups > 1 else 1
        self.mode = "circular" if conv.circular else "constant"
        totals = [d * (k - 1) for d, k in zip(conv.dilation, self.weight.shape[2:], strict=True)]
        self.before, self.after = [s // 2 for s in totals], [s - s // 2 for s in totals]
        self.axes = len(totals)
        self.even = self.before == self.after and not conv.circular  # torch.convolution can pad by itself
        # its adjoint: the convolution with the weight flipped, in and out exchanged, the padding as well
        parts = self.weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1)
        self.flipped = parts.flip(*range(2, parts.ndim)).contiguous()

    def forward(self, base: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write base + the convolution of x to `out`."""
        y = self._conv(x, self.weight, self.before, self.after)
        return torch.add(base, _swap(y, self.groups, self.gates), out=out)

    def add_input_grad(self, d: Tensor, into: Tensor) -> None:
        """Add the gradient of x to `into`; `d` is that of the convolution."""
        into.add_(self.input_grad(d, into))

    def input_grad(self, d: Tensor, scratch: Tensor) -> Tensor:
        """Return the gradient of x; `d` is that of the convolution."""
        return self._conv(_swap(d, self.gates, self.groups), self.flipped, self.after, self.before)

    def weight_grad(self, pairs: Pairs) -> Tensor:
        """Return the gradient of the weight, over all steps at once."""
        grads = [self._weight_grad(x.flatten(0, 1), d.flatten(0, 1)) for x, d in pairs]
        return grads[0] if len(grads) == 1 else torch.stack(grads).sum(0)

    def _weight_grad(self, x: Tensor, d: Tensor) -> Tensor:
        padding = self.before if self.even else [0] * self.axes
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            _swap(d, self.gates, self.groups),
            x if self.even else self._pad(x, self.before, self.after),
            self.weight,
            None,
            [1] * self.axes,
            padding,
            self.dilation,
            False,
            [0] * self.axes,
            self.groups,
            [False, True, False],
        )
        return grads[1]

    def _conv(self, x: Tensor, weight: Tensor, before: list[int], after: list[int]) -> Tensor:
        padding = before if self.even else [0] * self.axes
        x = x if self.even else self._pad(x, before, after)
        return torch.convolution(
            x, weight, None, [1] * self.axes, padding, self.dilation, False, [0] * self.axes, self.groups
        )

    def _pad(self, x: Tensor, before: list[int], after: list[int]) -> Tensor:
        sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
        return F.pad(x, sides, mode=self.mode)


PreparedProduct = DenseProduct | ConvProduct


def prepare(product: Product, rows: int, gates: int = 1) -> PreparedProduct:
    """Return `product`, which gives `gates` blocks of channels, prepared for batches of `rows`."""
    return DenseProduct(product, rows) if isinstance(product, Dense) else ConvProduct(product, gates)


def _swap(y: Tensor, outer: int, inner: int) -> Tensor:
    """Reorder channels from (outer, inner, n) to (inner, outer, n): from group by group to gate by gate."""
    if outer == 1 or inner == 1:
        return y
    parts: Tensor = y.unflatten(1, (outer, inner, -1))
    return parts.transpose(1, 2).flatten(1, 3)
