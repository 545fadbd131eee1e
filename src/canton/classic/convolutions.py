"""Convolutions over images (batch, height, width, channels); weights are (k, k, in, out)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from canton.classic.can import Can
from canton.classic.padding import check_padding, pad, pad_sizes, to_nchw, to_nhwc


class Conv2D(Can):
    """A convolution with a square window.

    Args:
        nip, nop: channels in and out ("planes").
        k: pixels of the window, per axis.
        std: stride, in pixels.
        usebias: whether there is a b.
        rate: dilation, in pixels; above 1 only with stride 1.
        padding: "SAME" (the output has the input's size divided by `std`, rounded up) or "VALID".
        stddev: W is initialised with the standard deviation sqrt(stddev / (nip * k * k)); 2 if None.

    Raises:
        TypeError: rate and std are both above 1.
        ValueError: padding is unknown.
    """

    def __init__(
        self,
        nip: int,
        nop: int,
        k: int,
        std: int = 1,
        usebias: bool = True,
        rate: int = 1,
        padding: str = "SAME",
        stddev: float | None = None,
    ) -> None:
        super().__init__()
        if rate > 1 and std > 1:
            raise TypeError(f"rate or std must be 1, got rate={rate} and std={std}")
        self.nip, self.nop, self.k, self.std, self.rate = nip, nop, k, std, rate
        self.usebias, self.padding = usebias, check_padding(padding)
        self.W = self.make_weight(
            [k, k, nip, nop], stddev=math.sqrt((2.0 if stddev is None else stddev) / (nip * k * k))
        )
        if usebias:
            self.b = self.make_bias([nop])

    def forward(self, i: Tensor) -> Tensor:
        return self._convolve(i, self.W.permute(3, 2, 0, 1), groups=1, usebias=self.usebias)

    def _convolve(self, i: Tensor, weight: Tensor, groups: int, usebias: bool) -> Tensor:
        x = pad(to_nchw(i), (self.k - 1) * self.rate + 1, self.std, self.padding)
        bias = self.b if usebias else None
        # contiguous: torch has no gradient for a permuted weight of some sizes
        return to_nhwc(F.conv2d(x, weight.contiguous(), bias, self.std, 0, self.rate, groups))


class DepthwiseConv2D(Conv2D):
    """A depthwise convolution with `nop` filters per channel; output n * nop + m is filter m of channel n.

    As in the original, b has `nop` numbers instead of nip * nop. So nip or nop must be 1 with a bias.

    Args:
        stddev: as for `Conv2D`, but the standard deviation is sqrt(stddev) / k.

    Raises:
        ValueError: on a call, if b has the wrong size.
    """

    def __init__(
        self,
        nip: int,
        nop: int,
        stddev: float | None = None,
        *,
        k: int,
        std: int = 1,
        usebias: bool = True,
        rate: int = 1,
        padding: str = "SAME",
    ) -> None:
        super().__init__(nip, nop, k, std, usebias, rate, padding, (2.0 if stddev is None else stddev) * nip)

    def forward(self, i: Tensor) -> Tensor:
        if self.usebias and self.nop > 1 and self.nip > 1:
            raise ValueError(
                f"usebias must be False for nip and nop above 1, got nip={self.nip} and nop={self.nop}"
            )
        weight = self.W.permute(2, 3, 0, 1).reshape(self.nip * self.nop, 1, self.k, self.k)
        y = self._convolve(i, weight, groups=self.nip, usebias=False)
        return y + self.b if self.usebias else y


class GroupConv2D(Can):
    """A grouped convolution: one `Conv2D` for each group of channels.

    Raises:
        AssertionError: num_groups does not divide nip and nop.
    """

    def __init__(
        self,
        nip: int,
        nop: int,
        k: int,
        num_groups: int,
        std: int = 1,
        usebias: bool = True,
        rate: int = 1,
        padding: str = "SAME",
        stddev: float | None = None,
    ) -> None:
        super().__init__()
        if nip % num_groups or nop % num_groups:
            raise AssertionError(f"num_groups must divide nip={nip} and nop={nop}, got {num_groups}")
        self.num_groups, self.nipg, self.nopg = num_groups, nip // num_groups, nop // num_groups
        self.groups = [
            Conv2D(self.nipg, self.nopg, k, std, usebias, rate, padding, stddev) for _ in range(num_groups)
        ]
        self.incan(self.groups)

    def forward(self, i: Tensor) -> Tensor:
        pieces = i.split(self.nipg, dim=-1)
        return torch.cat([conv(piece) for conv, piece in zip(self.groups, pieces, strict=True)], dim=-1)


class Deconv2D(Conv2D):
    """The transpose of `Conv2D`: (batch, height, width, nop) -> (batch, height * std, width * std, nip).

    As in the original, nip and nop are those of the transposed convolution: the input has `nop` channels and
    the output `nip`. b is subtracted from the input. `padding` and `rate` are ignored: they are "SAME" and 1.
    """

    def forward(self, i: Tensor) -> Tensor:
        x = to_nchw(i - self.b if self.usebias else i)
        full = F.conv_transpose2d(x, self.W.permute(3, 2, 0, 1).contiguous(), stride=self.std)
        for axis in (2, 3):
            size = x.shape[axis] * self.std
            before, _ = pad_sizes(size, self.k, self.std)
            missing = before + size - full.shape[axis]  # with a window smaller than the stride
            if missing > 0:
                full = F.pad(full, (0, missing) if axis == 3 else (0, 0, 0, missing))
            full = full.narrow(axis, before, size)
        return to_nhwc(full)
