"""Affine maps (B, C_in, *space) -> (B, C_out, *space) that cells apply to their input and state.

A *map* is any callable ``map(c_in, c_out, bias) -> nn.Module``. The module must be linear in its input
except for the bias, and keep the batch and the space. `dense` and the results of `conv1d`, `conv2d`, `conv3d`
and `separable*d` are maps; so is a class or function of your own (examples/graph_map.py).

A cell makes one module for several gates, with ``gates * hidden`` output channels. A module that ties output
channels to input channels in groups needs an attribute ``groups`` (see `regroup`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Map = Callable[[int, int, bool], nn.Module]

Axes = int | tuple[int, ...]
"""One number for all axes, or one for each axis."""

PaddingMode = Literal["zeros", "circular"]

_CONVOLUTIONS: tuple[type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
)


def check_map(map: object) -> None:
    """Raise a TypeError unless `map` is a map; point out a convolution without its kernel size."""
    own = (conv1d, conv2d, conv3d, separable1d, separable2d, separable3d)
    if map in (*_CONVOLUTIONS, *own):
        name = getattr(map, "__name__", "").lower()
        raise TypeError(f"map must have a kernel size, as in map={name}(3), got map={name}")
    if not callable(map):
        raise TypeError(f"map must be callable as map(c_in, c_out, bias), such as conv2d(3), got {map!r}")


def dense(c_in: int, c_out: int, bias: bool) -> nn.Module:
    """Return a full matrix: (B, c_in) -> (B, c_out)."""
    return nn.Linear(c_in, c_out, bias)


class Separable(nn.Sequential):
    """A depthwise and a pointwise convolution."""

    def reset_parameters(self) -> None:
        """Initialise the parameters, in the order in which `Convolution` creates the modules."""
        for part in reversed(self):
            reset_parameters(part)


@dataclass(frozen=True)
class Convolution:
    """A convolution map; `conv2d`, `separable2d` and similar functions return one."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: PaddingMode
    separable: bool = False

    def __call__(self, c_in: int, c_out: int, bias: bool) -> nn.Module:
        if not self.separable:
            return self._conv(c_in, c_out, self.groups, bias)
        pointwise = _CONVOLUTIONS[len(self.kernel_size) - 1](c_in, c_out, 1, bias=bias, padding="same")
        return Separable(self._conv(c_in, c_in, c_in, False), pointwise)

    def _conv(self, c_in: int, c_out: int, groups: int, bias: bool) -> nn.Module:
        conv = _CONVOLUTIONS[len(self.kernel_size) - 1]
        return conv(
            c_in,
            c_out,
            self.kernel_size,  # type: ignore[arg-type]  # one number per axis
            padding="same",
            dilation=self.dilation,  # type: ignore[arg-type]
            groups=groups,
            bias=bias,
            padding_mode=self.padding_mode,
        )


def _per_axis(name: str, value: Axes, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or any(not isinstance(v, int) or v < 1 for v in values):
        raise ValueError(f"{name} must be an integer >= 1, or {axes} of them, got {value!r}")
    return values


def convolution(
    axes: int, kernel_size: Axes, dilation: Axes, groups: int, padding_mode: PaddingMode
) -> Convolution:
    """Return a convolution over 1, 2 or 3 axes; see `conv2d` for the arguments."""
    if padding_mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode must be 'zeros' or 'circular', got {padding_mode!r}")
    if groups < 1:
        raise ValueError(f"groups must be >= 1, got {groups}")
    kernel = _per_axis("kernel_size", kernel_size, axes)
    return Convolution(kernel, _per_axis("dilation", dilation, axes), groups, padding_mode)


def conv1d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> Convolution:
    """Return a convolution over (B, C, L) that keeps the size; see `conv2d`."""
    return convolution(1, kernel_size, dilation, groups, padding_mode)


def conv2d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> Convolution:
    """Return a convolution over (B, C, H, W) that keeps the size.

    An even kernel reads one pixel more after than before, as ``padding="same"`` does in torch.

    Args:
        kernel_size: pixels per axis, such as 3 or (1, 5).
        dilation: distance between kernel taps, per axis.
        groups: number of groups of channels; must divide the input and hidden channels.
        padding_mode: "zeros", or "circular" to wrap around.

    Raises:
        ValueError: a number is below 1, their count is wrong, or `padding_mode` is unknown.
    """
    return convolution(2, kernel_size, dilation, groups, padding_mode)


def conv3d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> Convolution:
    """Return a convolution over (B, C, D, H, W) that keeps the size; see `conv2d`."""
    return convolution(3, kernel_size, dilation, groups, padding_mode)


def _separable(plain: Convolution) -> Convolution:
    return Convolution(plain.kernel_size, plain.dilation, 1, plain.padding_mode, separable=True)


def separable1d(kernel_size: Axes, *, dilation: Axes = 1, padding_mode: PaddingMode = "zeros") -> Convolution:
    """Return a depthwise-separable convolution over (B, C, L); see `separable2d`."""
    return _separable(conv1d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def separable2d(kernel_size: Axes, *, dilation: Axes = 1, padding_mode: PaddingMode = "zeros") -> Convolution:
    """Return a depthwise-separable convolution: a k x k filter per channel, then a 1 x 1 convolution.

    Source: Chollet 2017, "Xception", arXiv:1610.02357.
    """
    return _separable(conv2d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def separable3d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    padding_mode: PaddingMode = "zeros",
) -> Convolution:
    """Return a depthwise-separable convolution over (B, C, D, H, W); see `separable2d`."""
    return _separable(conv3d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def groups_of(module: nn.Module) -> int:
    """Return the number of groups of a map's output channels; 1 if it has no attribute ``groups``."""
    groups = getattr(module, "groups", 1)
    return groups if isinstance(groups, int) else 1


def regroup(y: Tensor, gates: int, groups: int) -> Tensor:
    """Reorder channels from group-by-group to gate-by-gate.

    A grouped convolution puts all outputs of the first group first. Split into gates in that order, a gate
    would depend on some of the groups only; reordered, every gate depends on all of them.

    Args:
        y: (B, groups * gates * n, *space).

    Returns:
        (B, gates * groups * n, *space).
    """
    if groups == 1 or gates == 1:
        return y
    grouped: Tensor = y.unflatten(1, (groups, gates, -1))
    return grouped.transpose(1, 2).flatten(1, 3)


def reset_parameters(module: nn.Module) -> None:
    """Call ``reset_parameters`` of `module`, or of its children if it has none."""
    own = getattr(module, "reset_parameters", None)
    if callable(own):
        own()
    else:
        for child in module.children():
            reset_parameters(child)


@torch.no_grad()
def init_input_(module: nn.Module, gates: int) -> None:
    """Initialise an input half: weights Glorot-uniform with bound sqrt(6 / (fan_in + fan_out)), bias 0.

    The fans are those of one gate in one group: fan_in = c_in / groups x kernel taps, fan_out = hidden /
    groups x kernel taps. A map other than a linear layer or convolution keeps its own initialisation.
    Source: Glorot & Bengio 2010, eq. 16.
    """
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        taps = module.weight[0, 0].numel()
        fan_out = module.weight.shape[0] // (gates * groups_of(module)) * taps
        bound = (6 / (module.weight.shape[1] * taps + fan_out)) ** 0.5
        module.weight.uniform_(-bound, bound)
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def init_hidden_(module: nn.Module, gates: int) -> None:
    """Initialise a hidden half: the matrix of each gate orthogonal, bias 0.

    A gate's matrix has a row for each output channel and a column for each input channel and kernel tap;
    with groups, every group has its own. Its rows are orthonormal, or its columns if there are more rows. A
    map other than a linear layer or convolution keeps its own initialisation.
    Source: Saxe et al. 2014, arXiv:1312.6120.
    """
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for block in module.weight.chunk(groups_of(module) * gates):  # group by group, see regroup
            if block.dtype in (torch.float16, torch.bfloat16):  # torch has no QR in half precision
                block.copy_(nn.init.orthogonal_(block.float()))
            else:
                nn.init.orthogonal_(block)
        if module.bias is not None:
            module.bias.zero_()
