"""Conversion between torch's order of axes, (T, B, C, *space), and the C++ kernels', channels last."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from canton.kernels.cpu import conv2d, gemm
from canton.kernels.cpu.abi import MAX_KERNEL_PIXELS, RecurrentRun, library
from canton.kernels.spec import CellSpec, Conv, Dense, Product, Run


def channel_axis(spec: CellSpec) -> bool:
    """Return whether the cell's C++ code takes channels last; a cell without products takes torch's order."""
    return bool(spec.products)


def channels_last(x: Tensor, move: bool, axis: int) -> Tensor:
    """Return `x`, contiguous, with the channels at `axis` moved to the end if `move`; a view where
    possible.
    """
    return (x.movedim(axis, -1) if move else x).contiguous().resolve_neg()


def channels_first(x: Tensor, move: bool, axis: int) -> Tensor:
    """Return the view of a channels-last `x` with the channels at `axis`; `x` itself unless `move`."""
    return x.movedim(-1, axis) if move else x


def sizes(spec: CellSpec, gx: Tensor, state: tuple[Tensor, ...]) -> RecurrentRun:
    """Return the sizes of a run over gx (T, B, G, *space) from `state`."""
    steps, batch, space = gx.shape[0], gx.shape[1], gx.shape[3:]
    q = RecurrentRun(steps=steps, hidden=state[0].shape[1], threads=torch.get_num_threads())
    products = spec.products
    kernel = products[0].weight.shape[2:] if products else ()
    if math.prod(kernel) == 1:  # every pixel is one row
        q.images = q.depth = q.height = 1
        q.kernel[:] = q.dilation[:] = (1, 1, 1)
        if products:
            q.width = batch * math.prod(space)
        else:  # every element is one row
            q.width, q.hidden = batch, state[0].numel() // batch
        return q
    q.images = batch
    q.depth, q.height, q.width = (*[1] * (3 - len(kernel)), *space)
    _set_kernel(q, products[0])
    return q


def _set_kernel(q: RecurrentRun, product: Product) -> None:
    assert isinstance(product, Conv)
    kernel = product.weight.shape[2:]
    lead = [1] * (3 - len(kernel))
    q.kernel[:] = (*lead, *kernel)
    q.dilation[:] = (*lead, *product.dilation)
    q.circular = int(product.circular)


def _runs_as_winograd(product: Product) -> bool:
    q = RecurrentRun(depth=1, hidden=product.in_channels)
    _set_kernel(q, product)
    return bool(library().canton_winograd(ctypes.byref(q)))


def masks(q: RecurrentRun, run: Run) -> dict[str, Tensor]:
    """Return the fields of `q` that hold a run's lengths and restarts."""
    found, units = {}, q.width if math.prod(q.kernel) == 1 else q.images
    each = units // run.gx.shape[1]  # pixels that are rows get the values of their image
    if run.lengths is not None:
        found["lengths"] = run.lengths.long().repeat_interleave(each).contiguous()
        found["order"] = found["lengths"].argsort(descending=True, stable=True)
    if run.reset is not None:
        found["reset"] = run.reset.repeat_interleave(each, dim=1).contiguous()
    return found


def before(run: Run, hs: Tensor) -> Tensor:
    """Return the hidden states before each step, after restarts, contiguous; `hs` is (T + 1, ...)."""
    if run.reset is None:
        return hs[:-1]
    # torch.where gives its result the order of axes of `reset`, which may be a transposed view
    restart = run.reset.contiguous().view(*run.reset.shape, *(1,) * (hs.ndim - 2))
    return torch.where(restart, channels_last(run.reset_state[0], True, 1), hs[:-1]).contiguous()


def final(run: Run, states: Tensor, move: bool) -> Tensor:
    """Return the state (B, C, *space) after each row's last step, in a new tensor."""
    if run.lengths is None:
        return channels_first(states[-1].clone(), move, 1)
    return channels_first(states[run.lengths.long(), torch.arange(states.shape[1])], move, 1)


def unsupported_reason(product: Product) -> str | None:
    """Return why the C++ kernels cannot run `product`; None if they can."""
    if isinstance(product, Conv) and product.groups != 1:
        return "it runs convolutions with groups=1 only"
    if math.prod(product.weight.shape[2:]) > MAX_KERNEL_PIXELS:
        return f"it runs convolutions of at most {MAX_KERNEL_PIXELS} kernel pixels"
    return None


def weight_gradient(product: Product, inputs: Tensor, d: Tensor) -> Tensor:
    """Return the gradient of the product's weight, over all steps at once.

    Args:
        product: the product; only the shape of its weight counts.
        inputs: its inputs (T, B, *space, in), contiguous.
        d: the gradients of its outputs (T, B, *space, out); the last axis contiguous.
    """
    weight = product.weight
    if isinstance(product, Dense) or math.prod(weight.shape[2:]) == 1:
        return gemm.matmul(d.flatten(0, -2).t(), inputs.flatten(0, -2)).view_as(weight)
    axes = weight.ndim - 2
    if axes == 2 and _runs_as_winograd(product):
        x, d_first = inputs.flatten(0, 1).movedim(-1, 1), d.flatten(0, 1).movedim(-1, 1)
        k = weight.shape[2]
        return conv2d.weight_gradient(x, d_first, k, k // 2, product.circular)
    images, d_images = inputs.flatten(0, 1).movedim(-1, 1), d.flatten(0, 1).movedim(-1, 1)
    totals = [step * (size - 1) for step, size in zip(product.dilation, weight.shape[2:], strict=True)]
    padding_sides = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    if product.circular:
        images = torch.nn.functional.pad(images, padding_sides, mode="circular")
    elif any(total % 2 for total in totals):
        images = torch.nn.functional.pad(images, padding_sides)
    padded = product.circular or any(total % 2 for total in totals)
    padding = [0 if padded else total // 2 for total in totals]
    found: Tensor = torch.ops.aten.convolution_backward(
        d_images,
        images,
        weight,
        None,
        [1] * axes,
        padding,
        list(product.dilation),
        False,
        [0] * axes,
        1,
        [False, True, False],
    )[1]
    return found
