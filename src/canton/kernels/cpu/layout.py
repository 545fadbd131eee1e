"""Between torch's order of axes, (T, B, C, *space), and the kernels', which has the channels last."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from canton.kernels.cpu import conv2d, gemm
from canton.kernels.cpu.abi import LANES, Sequence, instruction_set
from canton.kernels.spec import Conv, Dense, Job, Product


def last(x: Tensor, channels: int) -> Tensor:
    """`x` with the axis `channels` moved to the end, contiguous; no copy if it lies so already."""
    return x.movedim(channels, -1).contiguous()


def first(x: Tensor, channels: int) -> Tensor:
    """The view of a channels-last `x` with the channels at axis `channels`."""
    return x.movedim(-1, channels)


def sequence(product: Product, gx: Tensor, hidden: int) -> Sequence:
    """The sizes of a run over gx (T, B, G, *space) with products like `product`."""
    steps, batch, space = gx.shape[0], gx.shape[1], gx.shape[3:]
    q = Sequence(steps=steps, hidden=hidden, threads=torch.get_num_threads())
    kernel = product.weight.shape[2:]
    if isinstance(product, Dense) or math.prod(kernel) == 1:  # every pixel is a row of its own
        q.images = q.depth = q.height = 1
        q.width = batch * math.prod(space)
        q.kernel[:] = q.dilation[:] = (1, 1, 1)
        return q
    lead = 3 - len(kernel)
    q.images = batch
    q.depth, q.height, q.width = (*[1] * lead, *space)
    q.kernel[:] = (*[1] * lead, *kernel)
    q.dilation[:] = (*[1] * lead, *product.dilation)
    q.circular = int(product.circular)
    return q


def masks(q: Sequence, job: Job) -> dict[str, Tensor]:
    """What the kernels are told of a job's lengths and restarts, by the names of the fields."""
    found, units = {}, q.width if math.prod(q.kernel) == 1 else q.images
    each = units // job.gx.shape[1]  # pixels that are rows of their own have what their image has
    if job.lengths is not None:
        found["lengths"] = job.lengths.long().repeat_interleave(each).contiguous()
        found["order"] = found["lengths"].argsort(descending=True, stable=True)
    if job.reset is not None:
        found["reset"] = job.reset.repeat_interleave(each, dim=1).contiguous()
    return found


def before(job: Job, hs: Tensor, fresh: Tensor) -> Tensor:
    """The states that the steps of a run began with: all but the last of `hs`, restarts done."""
    if job.reset is None:
        return hs[:-1]
    return torch.where(job.reset.view(*job.reset.shape, *(1,) * (hs.ndim - 2)), last(fresh, 1), hs[:-1])


def final(job: Job, hs: Tensor) -> Tensor:
    """The state (B, C, *space) after each row's last step, a tensor of its own."""
    if job.lengths is None:
        return first(hs[-1].clone(), 1)
    return first(hs[job.lengths.long(), torch.arange(hs.shape[1])], 1)


def refuses(product: Product) -> str | None:
    """Why the kernels cannot run `product`; None if they can."""
    if isinstance(product, Conv) and product.groups != 1:
        return "it knows no groups in convolutions"
    if math.prod(product.weight.shape[2:]) > 343:
        return "it knows no kernels of more than 343 pixels"
    return None


def is_tiled(product: Product) -> bool:
    """Whether `product` goes by Winograd's tiles: field.h has the same rule."""
    if isinstance(product, Dense):
        return False
    kernel = tuple(product.weight.shape[2:])
    return kernel in ((3, 3), (5, 5)) and set(product.dilation) == {1} and product.weight.shape[1] >= 8


def is_thin(product: Product, space: tuple[int, ...]) -> bool:
    """Whether a run over `space` without gradients or lengths goes along lines: thin.h has the same rule."""
    if isinstance(product, Dense) or product.circular or space[-1] < 8:
        return False
    hidden, _, *kernel = product.weight.shape
    plane = len(space) < 3 or kernel[0] * space[0] == 1
    if hidden >= 8 and kernel[-2:] in ([3, 3], [5, 5]) and set(product.dilation[-2:]) == {1}:
        return False  # Winograd's tiles (tile_side in field.h) were as quick at 3 x 3, quicker at 5 x 5
    return plane and math.prod(kernel) > 1 and 2 * hidden <= LANES[instruction_set()]


def weight_gradient(product: Product, seen: Tensor, d: Tensor) -> Tensor:
    """The gradient of the product's weight, all steps at once.

    Args:
        product: whose weight; its shape counts.
        seen: what it was applied to, (T, B, *space, in), contiguous.
        d: the gradients of what it gave, (T, B, *space, out); the last axis contiguous.
    """
    weight = product.weight
    if isinstance(product, Dense) or math.prod(weight.shape[2:]) == 1:
        return gemm.product(d.flatten(0, -2).t(), seen.flatten(0, -2), summed=True).view_as(weight)
    axes = weight.ndim - 2
    if is_tiled(product):
        seen_first, d_first = first(seen.flatten(0, 1), 1), first(d.flatten(0, 1), 1)
        k = weight.shape[2]
        return conv2d.weight_gradient(seen_first, d_first, k, k // 2, product.circular)
    images, given = first(seen.flatten(0, 1), 1), first(d.flatten(0, 1), 1)
    totals = [step * (size - 1) for step, size in zip(product.dilation, weight.shape[2:], strict=True)]
    around = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    if product.circular:
        images = torch.nn.functional.pad(images, around, mode="circular")
    elif any(total % 2 for total in totals):
        images = torch.nn.functional.pad(images, around)
    inside = product.circular or any(total % 2 for total in totals)
    padding = [0 if inside else total // 2 for total in totals]
    found: Tensor = torch.ops.aten.convolution_backward(
        given,
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
