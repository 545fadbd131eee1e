"""A dense map of all time steps at once as one node of the autograd graph: its three products are native."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from canton.kernels.cpu.gemm import multiply, product, serves
from canton.kernels.spec import is_transformed, is_watched


def refuses(module: nn.Module, x: Tensor) -> str | None:
    """Why `linear` is not the way to ``module(x)``; None if it is."""
    if torch.compiler.is_compiling():  # first: the compiler cannot look at what the rest looks at
        return "the compiler wants to see torch's own product"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace records operations, and sees none in a native one"
    if type(module) is not nn.Linear:
        return "it is no nn.Linear"
    tensors = [x, *module.parameters(recurse=False)]
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors):
        return "it runs on the processor, in float32"
    if x.ndim != 2 or not serves(len(x), module.out_features, module.in_features):
        return "the product is too small to gain anything"
    if is_watched(module) or torch.is_autocast_enabled("cpu"):
        return "hooks or autocast want to see torch's own product"
    if is_transformed(tensors):
        return "a torch.func transform or forward-mode differentiation is at work"
    return None


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    """``module(x)`` for what `refuses` lets pass."""
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
        if torch.is_grad_enabled():  # a gradient of a gradient is torch's
            return d @ weight if needs[0] else None, d.t() @ x if needs[1] else None, d_bias
        d_x = product(d, weight) if needs[0] else None
        return d_x, product(d.t(), x, summed=True) if needs[1] else None, d_bias
