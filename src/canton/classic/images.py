"""Pooling, upsampling and ChannelShuffle, for images (batch, height, width, channels)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from canton.classic.can import Can
from canton.classic.padding import check_padding, pad, to_nchw, to_nhwc


class AvgPool2D(Can):
    """Average pooling over k x k pixels with stride `std`. Padding does not count.

    Raises:
        ValueError: padding is neither "SAME" nor "VALID".
    """

    def __init__(self, k: int, std: int, padding: str = "SAME") -> None:
        super().__init__()
        self.k, self.std, self.padding = k, std, check_padding(padding)

    def forward(self, i: Tensor) -> Tensor:
        x = to_nchw(i)
        inside = pad(torch.ones_like(x[:1, :1]), self.k, self.std, self.padding)
        total = F.avg_pool2d(pad(x, self.k, self.std, self.padding), self.k, self.std)
        return to_nhwc(total / F.avg_pool2d(inside, self.k, self.std))


class MaxPool2D(AvgPool2D):
    """Maximum pooling over k x k pixels with stride `std`. Padding does not count."""

    def forward(self, i: Tensor) -> Tensor:
        x = pad(to_nchw(i), self.k, self.std, self.padding, value=float("-inf"))
        return to_nhwc(F.max_pool2d(x, self.k, self.std))


class Up2D(Can):
    """Nearest-neighbour upsampling by `scale`."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, i: Tensor) -> Tensor:
        return i.repeat_interleave(self.scale, dim=1).repeat_interleave(self.scale, dim=2)


class ChannelShuffle(Can):
    """The identity. The original was meant to shuffle channels across groups, but does not.

    Raises:
        AssertionError: num_groups does not divide nip.
    """

    def __init__(self, nip: int, num_groups: int) -> None:
        super().__init__()
        if nip % num_groups:
            raise AssertionError(f"num_groups must divide nip={nip}, got {num_groups}")
        self.nip, self.num_groups, self.nipg = nip, num_groups, nip // num_groups

    def forward(self, i: Tensor) -> Tensor:
        return i  # the original discards its transposed tensor
