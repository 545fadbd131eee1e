"""Affine maps (B, C_in, *space) -> (B, C_out, *space): what a cell multiplies its state and its input with.

A *map* is any callable ``map(c_in, c_out, bias) -> nn.Module``. The module must be linear in its input but
for the bias, and keep the batch and the space. `dense` and the ones made by `conv1d`, `conv2d`, `conv3d` and
`separable*d` are such callables; so is a class or function of yours (examples/graph_map.py).

A cell asks for the maps of several gates at once, as one module with ``gates * hidden`` output channels. If
your module ties output channels to input channels in groups, give it an attribute ``groups`` (see `regroup`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Map = Callable[[int, int, bool], nn.Module]

Axes = int | tuple[int, ...]
"""One number for every axis, or one for each."""

_CONVOLUTIONS: tuple[type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
)


def check_map(map: object) -> None:
    """Raises: ValueError for what is no map, and for torch's convolutions, which lack a kernel size."""
    if not callable(map):
        raise ValueError(f"map is {map!r}: it is a callable (c_in, c_out, bias) -> module, such as conv2d(3)")
    if map in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        raise ValueError(f"map is torch's {getattr(map, '__name__', map)}, of no kernel size: take conv2d(3)")


def dense(c_in: int, c_out: int, bias: bool) -> nn.Module:
    """The full matrix: (B, c_in) -> (B, c_out)."""
    return nn.Linear(c_in, c_out, bias)


@dataclass(frozen=True)
class Convolution:
    """A convolution map; `conv1d`, `conv2d`, `conv3d` and `separable1d`, `2d`, `3d` make one."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str
    separable: bool = False

    def __call__(self, c_in: int, c_out: int, bias: bool) -> nn.Module:
        if not self.separable:
            return self._conv(c_in, c_out, self.groups, bias)
        pointwise = _CONVOLUTIONS[len(self.kernel_size) - 1](c_in, c_out, 1, bias=bias, padding="same")
        return nn.Sequential(self._conv(c_in, c_in, c_in, False), pointwise)

    def _conv(self, c_in: int, c_out: int, groups: int, bias: bool) -> nn.Module:
        conv = _CONVOLUTIONS[len(self.kernel_size) - 1]
        return conv(
            c_in,
            c_out,
            self.kernel_size,  # type: ignore[arg-type]  # as long as the class has axes
            padding="same",
            dilation=self.dilation,  # type: ignore[arg-type]
            groups=groups,
            bias=bias,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]  # checked where it is given
        )


def _per_axis(name: str, value: Axes, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or any(not isinstance(v, int) or v < 1 for v in values):
        raise ValueError(f"{name} is {value!r}: give one whole number >= 1, or {axes} of them")
    return values


def _convolution(
    axes: int,
    kernel_size: int | tuple[int, ...],
    dilation: int | tuple[int, ...],
    groups: int,
    padding_mode: str,
) -> Convolution:
    if padding_mode not in ("zeros", "circular"):
        raise ValueError(f"padding_mode is {padding_mode!r}: it is 'zeros' or 'circular'")
    if groups < 1:
        raise ValueError(f"groups is {groups}: it is a whole number >= 1 that divides the channels")
    kernel = _per_axis("kernel_size", kernel_size, axes)
    return Convolution(kernel, _per_axis("dilation", dilation, axes), groups, padding_mode)


def conv1d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Convolution:
    """Convolution over one axis, (B, C, L), output as long as the input; see `conv2d`."""
    return _convolution(1, kernel_size, dilation, groups, padding_mode)


def conv2d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Convolution:
    """Convolution over two axes, (B, C, H, W), output as large as the input.

    An even kernel sees one pixel more after than before, as ``padding="same"`` in torch.

    Args:
        kernel_size: pixels per axis, such as 3 or (1, 5).
        dilation: pixels from one tap to the next, per axis.
        groups: how many groups the channels fall into; must divide input and hidden channels.
        padding_mode: what lies outside: "zeros", or "circular" (the other side).

    Raises:
        ValueError: a number below 1, a wrong count of numbers, or an unknown padding mode.
    """
    return _convolution(2, kernel_size, dilation, groups, padding_mode)


def conv3d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Convolution:
    """Convolution over three axes, (B, C, D, H, W), output as large as the input; see `conv2d`."""
    return _convolution(3, kernel_size, dilation, groups, padding_mode)


def _separable(plain: Convolution) -> Convolution:
    return Convolution(plain.kernel_size, plain.dilation, 1, plain.padding_mode, separable=True)


def separable1d(kernel_size: Axes, *, dilation: Axes = 1, padding_mode: str = "zeros") -> Convolution:
    """Depthwise-separable convolution over one axis; see `separable2d`."""
    return _separable(conv1d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def separable2d(kernel_size: Axes, *, dilation: Axes = 1, padding_mode: str = "zeros") -> Convolution:
    """Depthwise-separable convolution: one k x k filter per channel, then a 1 x 1 mix of channels.

    Source: Chollet 2017, "Xception", arXiv:1610.02357.
    """
    return _separable(conv2d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def separable3d(
    kernel_size: Axes,
    *,
    dilation: Axes = 1,
    padding_mode: str = "zeros",
) -> Convolution:
    """Depthwise-separable convolution over three axes; see `separable2d`."""
    return _separable(conv3d(kernel_size, dilation=dilation, padding_mode=padding_mode))


def groups_of(module: nn.Module) -> int:
    """In how many groups a map's output channels come; 1 for a map that says nothing."""
    groups = getattr(module, "groups", 1)
    return groups if isinstance(groups, int) else 1


def regroup(y: Tensor, gates: int, groups: int) -> Tensor:
    """From group-by-group to gate-by-gate: (B, groups * gates * n, ...) -> (B, gates * groups * n, ...).

    A grouped convolution gives all of the first group's outputs first. Cut into gates as it stands, one gate
    would see only the first channels; regrouped, every gate sees every group.
    """
    if groups == 1 or gates == 1:
        return y
    grouped: Tensor = y.unflatten(1, (groups, gates, -1))
    return grouped.transpose(1, 2).flatten(1, 3)


@torch.no_grad()
def init_input_(module: nn.Module, gates: int) -> None:
    """Glorot-uniform for the input half: bound sqrt(6 / (fan_in + fan_out)); bias 0.

    The fans are those of one gate in one group: fan_in is c_in / groups x kernel taps, fan_out is hidden /
    groups x kernel taps. A map of another kind keeps its own start. Source: Glorot & Bengio 2010, eq. 16.
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
    """Orthogonal for the hidden half, one gate at a time; bias 0.

    A gate's matrix has a row for each output channel and a column for each input channel and tap; with
    groups, every group has its own. Its rows are orthonormal, or its columns if there are more rows. So every
    gate of a dense map starts as a rotation of the state. A map of another kind keeps its own start. Source:
    Saxe et al. 2014, arXiv:1312.6120.
    """
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for block in module.weight.chunk(groups_of(module) * gates):  # group by group, see regroup
            nn.init.orthogonal_(block)
        if module.bias is not None:
            module.bias.zero_()
