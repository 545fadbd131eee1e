"""A dense map over all time steps as one node of the autograd graph; its three products run in C++."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from canton.kernels.cpu.gemm import is_quicker, matmul, multiply
from canton.kernels.support import module_unsupported_reason, traced_reason


def unsupported_reason(module: nn.Module, x: Tensor) -> str | None:
    """Return why `linear` cannot or need not compute ``module(x)``; None if it should."""
    if reason := traced_reason():
        return reason
    if type(module) is not nn.Linear:
        return "the module is not an nn.Linear"
    if reason := module_unsupported_reason(module, (x, *module.parameters(recurse=False))):
        return reason
    if x.ndim != 2 or not is_quicker(len(x), module.out_features, module.in_features):
        return "the product is too small to be quicker"
    return None


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    """Return ``module(x)``, which `unsupported_reason` must allow."""
    tensors = (x, module.weight, module.bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y: Tensor = _Linear.apply(*tensors)  # type: ignore[no-untyped-call]
        return y
    return multiply(x, module.weight.t(), module.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight.t(), bias)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        d_bias = d.sum(0) if needs[2] else None
        if torch.is_grad_enabled():  # torch computes the gradient of a gradient
            return d @ weight if needs[0] else None, d.t() @ x if needs[1] else None, d_bias
        d_x = matmul(d, weight) if needs[0] else None
        return d_x, matmul(d.t(), x) if needs[1] else None, d_bias
