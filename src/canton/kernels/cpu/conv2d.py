"""A convolution of many images as one node of the autograd graph, channels last in and out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from canton.kernels.cpu.abi import ConvolutionRun, convolve, convolve_weights, empty, why_not
from canton.kernels.spec import is_transformed, is_watched


def refuses(module: nn.Module, x: Tensor, *, whole_stage: bool = False) -> str | None:
    """Why `convolution` (or `stage`, for a `whole_stage`) is not the way to ``module(x)``; None if it is.

    It is where the kernel is 3 x 3 or 5 x 5, quicker here than in torch, on the processor in float32.
    """
    if torch.compiler.is_compiling():  # first: the compiler cannot look at what the rest looks at
        return "the compiler wants to see torch's own convolution"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace records operations, and sees none in a native one"
    if type(module) is not nn.Conv2d:
        return "it is no nn.Conv2d"
    if reason := why_not():
        return reason
    if set(module.stride) != {1} or set(module.dilation) != {1} or module.groups != 1:
        return "it knows no stride, dilation or groups"
    if module.kernel_size not in ((3, 3), (5, 5)) or module.padding not in (
        "same",
        (0, 0),
        (module.kernel_size[0] // 2,) * 2,
    ):
        return "it knows kernels of 3 x 3 and 5 x 5, padded to keep the size or not at all"
    circular = module.padding_mode == "circular"
    if module.padding_mode != "zeros" and not (circular and module.padding != (0, 0)):
        return f"it knows no {module.padding_mode} padding"
    if module.in_channels < 8 and not whole_stage:
        return "it gains nothing with fewer than 8 channels"
    tensors = [x, *module.parameters(recurse=False)]
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors):
        return "it runs on the processor, in float32"
    if x.ndim != 4 or x.numel() == 0 or min(x.shape[2:]) < module.kernel_size[0]:
        return "the images are smaller than the kernel"
    if is_watched(module) or torch.is_autocast_enabled("cpu"):
        return "hooks or autocast want to see torch's own convolution"
    if is_transformed(tensors):
        return "a torch.func transform or forward-mode differentiation is at work"
    return None


def convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    """``module(x)`` for what `refuses` lets pass; the result's channels lie last in memory."""
    pad, circular = _around(module)
    tensors = (x, module.weight, module.bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y: Tensor = _Convolution.apply(pad, circular, *tensors)  # type: ignore[no-untyped-call]
        return y
    return _run(*tensors, pad, circular)


def stage(module: nn.Conv2d, x: Tensor, *, halve: bool, slope: float) -> Tensor:
    """``leaky_relu(max_pool2d(module(x), 2), slope)``, without the maximum unless `halve`; no gradients."""
    return _run(x, module.weight, module.bias, *_around(module), halve=halve, slope=slope)


def _around(module: nn.Conv2d) -> tuple[int, bool]:
    """How many pixels lie around the image, and whether they are those of the other side."""
    pad = module.kernel_size[0] // 2 if module.padding == "same" else int(module.padding[0])
    return pad, module.padding_mode == "circular"


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pad: int,
    circular: bool,
    transposed: bool = False,
    *,
    halve: bool = False,
    slope: float = 1.0,
) -> Tensor:
    images, _, height, width = x.shape
    k = weight.shape[2]
    out = weight.shape[1 if transposed else 0]
    grown = 2 * pad - (k - 1)
    run = ConvolutionRun(
        images=images, in_=x.shape[1], out=out, height=height, width=width, slope=slope, halve=halve
    )
    run.out_height, run.out_width = height + grown, width + grown
    run.kernel[:], run.pad[:] = (k, k), (pad, pad)
    run.circular, run.transposed, run.threads = circular, transposed, torch.get_num_threads()
    run.by_image, run.by_channel, run.by_line, run.by_pixel = x.stride()
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    side = 2 if halve else 1
    y = empty(x, images, run.out_height // side, run.out_width // side, out)
    run.x, run.weight, run.y = x.data_ptr(), weight.data_ptr(), y.data_ptr()
    run.bias = None if bias is None else bias.data_ptr()
    convolve(run)
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
            return None, None, *_again(ctx, (x, weight, bias), d)
        d_x = _run(d, weight, None, weight.shape[2] - 1 - ctx.pad, ctx.circular, True) if needs[0] else None
        d_weight = weight_gradient(x, d, weight.shape[2], ctx.pad, ctx.circular) if needs[1] else None
        return None, None, d_x, d_weight, d.sum((0, 2, 3)) if needs[2] else None


def weight_gradient(x: Tensor, d: Tensor, k: int, pad: int, circular: bool) -> Tensor:
    """The (out, in, k, k) gradient of a convolution's weight, given x (N, in, H, W) and that of its output.

    `k` is 3 or 5, `in` 8 at least. Channels last in memory are read in place.
    """
    (images, c_in, height, width), (_, out, high, wide) = x.shape, d.shape
    step = d.stride(3)
    if d.stride() != (high * wide * step, 1, wide * step, step):
        d = d.contiguous(memory_format=torch.channels_last)
        step = out
    run = ConvolutionRun(images=images, in_=c_in, out=out, height=height, width=width, circular=circular)
    run.out_height, run.out_width, run.threads = high, wide, torch.get_num_threads()
    run.kernel[:], run.pad[:] = (k, k), (pad, pad)
    run.by_image, run.by_channel, run.by_line, run.by_pixel = x.stride()
    found = x.new_empty(out, c_in, k, k)
    run.x, run.dy, run.dy_pixel, run.dweight = x.data_ptr(), d.data_ptr(), step, found.data_ptr()
    convolve_weights(run)
    return found


def _again(ctx: Any, tensors: tuple[Tensor | None, ...], d: Tensor) -> list[Tensor | None]:
    """The gradients through torch's own convolution, which can be differentiated once more."""
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    padded = nn.functional.pad(x, [ctx.pad] * 4, mode="circular" if ctx.circular else "constant")
    y = nn.functional.conv2d(padded, weight, bias)
    needs = ctx.needs_input_grad[2:]
    wanted = [t for t, needed in zip(tensors, needs, strict=True) if needed and t is not None]
    found = iter(torch.autograd.grad(y, wanted, d, create_graph=True))
    return [next(found) if needed else None for needed in needs]
