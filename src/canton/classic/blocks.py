"""Blocks of several convolutions: ResConv, ShuffleNet, PermutedConv2D."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from canton.classic.can import Can
from canton.classic.convolutions import Conv2D, DepthwiseConv2D, GroupConv2D
from canton.classic.images import AvgPool2D, ChannelShuffle
from canton.classic.norms import BatchNorm
from canton.classic.pointwise import Act


class ResConv(Can):
    """A residual block with a bottleneck: 1x1, 3x3, 1x1, each after BatchNorm and relu.

    Args:
        nip, nop: channels in and out; the bottleneck has max(nip, nop) / 4, rounded down.
        std: stride.
        bn: not used; there always is BatchNorm.
    """

    def __init__(self, nip: int, nop: int, std: int = 1, bn: bool = True) -> None:
        super().__init__()
        narrow = max(nip, nop) // 4
        self.direct_sum = nip == nop and std == 1
        self.convs = [
            Conv2D(nip, narrow, 1, std=std, usebias=False),
            Conv2D(narrow, narrow, 3, usebias=False),
            Conv2D(narrow, nop, 1, usebias=False),
        ]
        if not self.direct_sum:
            self.convs.append(Conv2D(nip, nop, 1, std=std, usebias=False))
        self.bns = [BatchNorm(nip), BatchNorm(narrow), BatchNorm(narrow)]
        self.incan([*self.convs, *self.bns])

    def forward(self, i: Tensor) -> Tensor:
        y = torch.relu(self.bns[0](i))
        beside: Tensor = i if self.direct_sum else self.convs[3](y)
        y = self.convs[0](y)
        y = self.convs[1](torch.relu(self.bns[1](y)))
        y = self.convs[2](torch.relu(self.bns[2](y)))
        out: Tensor = beside + y
        return out


class ShuffleNet(Can):
    """Two grouped 3x3 convolutions around a depthwise one, beside the input; fewer channels between.

    Args:
        nip, nop: channels in and out: nop = nip keeps the image's size, nop = 2 nip halves it.
        num_groups: must divide nip / 4.

    Raises:
        ValueError: nop is neither nip nor twice it.
        AssertionError: num_groups does not divide the channels.
    """

    def __init__(self, nip: int, nop: int, num_groups: int) -> None:
        super().__init__()
        if nop not in (nip, 2 * nip):
            raise ValueError(
                f"shufflenet unit accept only nip==nop or nip*2==nop. Here nip is {nip} and nop is {nop}"
            )
        self.std = 1 if nop == nip else 2
        self.num_groups, self.nipg = num_groups, nip // num_groups
        narrow = nip // 4
        self.gc1 = GroupConv2D(nip, narrow, 3, num_groups, stddev=2)
        self.cs = ChannelShuffle(narrow, num_groups)
        self.dc = DepthwiseConv2D(narrow, 1, k=3, std=self.std)
        self.gc2 = GroupConv2D(narrow, nip, 3, num_groups, stddev=1)
        self.incan([self.gc1, self.cs, self.dc, self.gc2])
        self._pool = AvgPool2D(3, 2)

    def forward(self, i: Tensor) -> Tensor:
        y = self.gc2(self.dc(self.cs(torch.relu(self.gc1(i)))))
        return torch.relu(i + y if self.std == 1 else torch.cat([self._pool(i), y], dim=-1))


class PermutedConv2D(Can):
    """A convolution of a few neighbouring channels, dealt out by chance and added to 0.707 input.

    Args:
        nip, nop: channels in and out, nop >= nip.
        bottleneck_width: channels that are convolved, at most nip.
        seed: of NumPy's old generator, which says which channels.
        k, std, usebias, rate, padding: as for `Conv2D`.

    Raises:
        AssertionError: not bottleneck_width <= nip <= nop.
    """

    io_permtable: Tensor

    def __init__(
        self,
        nip: int,
        nop: int,
        bottleneck_width: int,
        seed: int,
        k: int = 3,
        std: int = 1,
        *,
        usebias: bool = True,
        rate: int = 1,
        padding: str = "SAME",
    ) -> None:
        super().__init__()
        if not bottleneck_width <= nip <= nop:
            raise AssertionError(
                f"bottleneck_width is {bottleneck_width}, nip {nip}, nop {nop}: each is at most the next"
            )
        self.nip, self.nop, self.bnw, self.seed = nip, nop, bottleneck_width, seed
        self.num_output_padding = nop - nip
        self.conv = self.add(
            Conv2D(self.bnw, self.bnw, k, std, usebias=usebias, rate=rate, padding=padding, stddev=0.5)
        )
        # The old generator, drawn from in the old order: it is what the trained weights stand on.
        chance = np.random.RandomState(seed)
        io_table = chance.randint(nip, size=nop - nip) if nop > nip else np.zeros(0, np.int64)
        self.offset = int(chance.randint(nip - self.bnw + 1))
        bo_table = chance.randint(self.bnw, size=nop)
        self.register_buffer("io_permtable", torch.as_tensor(io_table, dtype=torch.int64), persistent=False)
        self.register_buffer("bo_permtable", torch.as_tensor(bo_table, dtype=torch.int64), persistent=False)
        self._pool = AvgPool2D(k, std)
        self._act = Act("lrelu")

    def forward(self, i: Tensor) -> Tensor:
        beside = self._pool(i) if self.conv.std > 1 else i
        beside = torch.cat([beside, beside[..., self.io_permtable]], dim=-1)
        piece = self._act(self.conv(i[..., self.offset : self.offset + self.bnw]))
        result: Tensor = piece[..., self.bo_permtable] + 0.707 * beside
        return result
