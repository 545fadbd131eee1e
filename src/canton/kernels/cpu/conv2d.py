"""A convolution of many images as one node of the autograd graph, channels last in and out."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from canton.kernels.cpu.abi import MIN_WINOGRAD_CHANNELS, ConvolutionRun, empty, library, why_not
from canton.kernels.cpu.address import address, strided_address
from canton.kernels.support import module_unsupported_reason, traced_reason


def unsupported_reason(module: nn.Module, x: Tensor) -> str | None:
    """Return why `convolution` cannot or need not compute ``module(x)``; None if it should."""
    if reason := traced_reason():
        return reason
    if type(module) is not nn.Conv2d:
        return "the module is not an nn.Conv2d"
    if reason := why_not():
        return reason
    if set(module.stride) != {1} or set(module.dilation) != {1} or module.groups != 1:
        return "stride, dilation and groups must be 1"
    k = module.kernel_size[0]
    if module.kernel_size not in ((3, 3), (5, 5)) or module.padding not in ("same", (0, 0), (k // 2,) * 2):
        return "the kernel must be 3 x 3 or 5 x 5, with padding that keeps the size or none"
    circular = module.padding_mode == "circular"
    if module.padding_mode != "zeros" and not (circular and module.padding != (0, 0)):
        return f"padding must be zeros or circular, got {module.padding_mode}"
    if module.in_channels < MIN_WINOGRAD_CHANNELS:
        return f"it is not quicker with fewer than {MIN_WINOGRAD_CHANNELS} channels"
    if reason := module_unsupported_reason(module, (x, *module.parameters(recurse=False))):
        return reason
    if x.ndim != 4 or x.numel() == 0 or min(x.shape[2:]) < k:
        return "the images are smaller than the kernel"
    return None


def convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``module(x)``, which `unsupported_reason` must allow; its channels lie last in memory."""
    pad, circular = _padding(module)
    tensors = (x, module.weight, module.bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y: Tensor = _Convolution.apply(pad, circular, *tensors)  # type: ignore[no-untyped-call]
        return y
    return _run(*tensors, pad, circular)


def _padding(module: nn.Conv2d) -> tuple[int, bool]:
    """Return the padding in pixels and whether it is circular."""
    pad = module.kernel_size[0] // 2 if module.padding == "same" else int(module.padding[0])
    return pad, module.padding_mode == "circular"


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pad: int,
    circular: bool,
    transposed: bool = False,
) -> Tensor:
    images, _, height, width = x.shape
    k = weight.shape[2]
    out = weight.shape[1 if transposed else 0]
    growth = 2 * pad - (k - 1)
    run = ConvolutionRun(images=images, in_channels=x.shape[1], out_channels=out, height=height, width=width)
    run.out_height, run.out_width = height + growth, width + growth
    run.kernel[:], run.pad[:] = (k, k), (pad, pad)
    run.circular, run.transposed, run.threads = circular, transposed, torch.get_num_threads()
    run.by_image, run.by_channel, run.by_line, run.by_pixel = x.stride()
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    y = empty(x, images, run.out_height, run.out_width, out)
    run.x = strided_address("x", x, (images, run.in_channels, height, width))
    run.weight = address("weight", weight, out * run.in_channels * k * k)
    run.bias = None if bias is None else address("bias", bias, out)
    run.y = address("y", y, images * run.out_height * run.out_width * out)
    library().canton_convolve(ctypes.byref(run))
    return y.permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pad: int, circular: bool, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.pad, ctx.circular = pad, circular
        return _run(x, weight, bias, pad, circular)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_differentiable_grads(ctx, (x, weight, bias), d)
        d = d.resolve_neg()
        d_x = _run(d, weight, None, weight.shape[2] - 1 - ctx.pad, ctx.circular, True) if needs[0] else None
        d_weight = weight_gradient(x, d, weight.shape[2], ctx.pad, ctx.circular) if needs[1] else None
        return None, None, d_x, d_weight, d.sum((0, 2, 3)) if needs[2] else None


def weight_gradient(x: Tensor, d: Tensor, k: int, pad: int, circular: bool) -> Tensor:
    """Return the gradient (out, in, k, k) of a convolution's weight; channels-last memory is read in place.

    Args:
        x: the input (N, in, H, W) with at least 8 channels.
        d: the gradient of the output.
        k: the kernel's side, 3 or 5.
        pad: the padding in pixels.
        circular: whether the padding is circular.
    """
    (images, c_in, height, width), (_, out, high, wide) = x.shape, d.shape
    step = d.stride(3)
    if d.stride() != (high * wide * step, 1, wide * step, step):
        d = d.contiguous(memory_format=torch.channels_last)
        step = out
    run = ConvolutionRun(
        images=images, in_channels=c_in, out_channels=out, height=height, width=width, circular=circular
    )
    run.out_height, run.out_width, run.threads = high, wide, torch.get_num_threads()
    run.kernel[:], run.pad[:] = (k, k), (pad, pad)
    run.by_image, run.by_channel, run.by_line, run.by_pixel = x.stride()
    d_weight = x.new_empty(out, c_in, k, k)
    run.x = strided_address("x", x, (images, c_in, height, width))
    run.dy, run.dy_pixel = strided_address("d", d, (images, out, high, wide)), step
    run.dweight = address("d_weight", d_weight, d_weight.numel())
    library().canton_convolve_weights(ctypes.byref(run))
    return d_weight


def _differentiable_grads(ctx: Any, tensors: tuple[Tensor | None, ...], d: Tensor) -> list[Tensor | None]:
    """Return the gradients through torch's convolution, which can be differentiated again."""
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    padded = nn.functional.pad(x, [ctx.pad] * 4, mode="circular" if ctx.circular else "constant")
    y = nn.functional.conv2d(padded, weight, bias)
    needs = ctx.needs_input_grad[2:]
    wanted = [t for t, needed in zip(tensors, needs, strict=True) if needed and t is not None]
    found = iter(torch.autograd.grad(y, wanted, d, create_graph=True))
    return [next(found) if needed else None for needed in needs]
