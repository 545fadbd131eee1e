"""Blocks of convolutions: ResConv, ShuffleNet, PermutedConv2D."""

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
    """A residual bottleneck block: 1x1, 3x3 and 1x1 convolutions, each after BatchNorm and relu.

    Args:
        nip, nop: channels in and out; the bottleneck has max(nip, nop) // 4.
        std: stride.
        bn: ignored; BatchNorm is always used.
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
        shortcut: Tensor = i if self.direct_sum else self.convs[3](y)
        y = self.convs[0](y)
        y = self.convs[1](torch.relu(self.bns[1](y)))
        y = self.convs[2](torch.relu(self.bns[2](y)))
        out: Tensor = shortcut + y
        return out


class ShuffleNet(Can):
    """A residual block of two grouped 3x3 convolutions around a depthwise one, with nip // 4 channels.

    Args:
        nip, nop: channels in and out. nop = nip keeps the image's size, nop = 2 * nip halves it.
        num_groups: must divide nip // 4.

    Raises:
        ValueError: nop is neither nip nor 2 * nip.
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
    """A convolution of some neighbouring channels, distributed at random and added to 0.707 * input.

    Args:
        nip, nop: channels in and out, nop >= nip.
        bottleneck_width: number of convolved channels, at most nip.
        seed: of NumPy's RandomState, which chooses the channels.
        k, std, usebias, rate, padding: as for `Conv2D`.

    Raises:
        AssertionError: bottleneck_width <= nip <= nop does not hold.
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
                f"bottleneck_width <= nip <= nop must hold, got {bottleneck_width}, {nip} and {nop}"
            )
        self.nip, self.nop, self.bnw, self.seed = nip, nop, bottleneck_width, seed
        self.num_output_padding = nop - nip
        self.conv = self.add(
            Conv2D(self.bnw, self.bnw, k, std, usebias=usebias, rate=rate, padding=padding, stddev=0.5)
        )
        # Trained weights depend on these numbers: the same generator, called in the same order.
        random = np.random.RandomState(seed)
        io_table = random.randint(nip, size=nop - nip) if nop > nip else np.zeros(0, np.int64)
        self.offset = int(random.randint(nip - self.bnw + 1))
        bo_table = random.randint(self.bnw, size=nop)
        self.register_buffer("io_permtable", torch.as_tensor(io_table, dtype=torch.int64), persistent=False)
        self.register_buffer("bo_permtable", torch.as_tensor(bo_table, dtype=torch.int64), persistent=False)
        self._pool = AvgPool2D(k, std)
        self._act = Act("lrelu")

    def forward(self, i: Tensor) -> Tensor:
        shortcut = self._pool(i) if self.conv.std > 1 else i
        shortcut = torch.cat([shortcut, shortcut[..., self.io_permtable]], dim=-1)
        piece = self._act(self.conv(i[..., self.offset : self.offset + self.bnw]))
        result: Tensor = piece[..., self.bo_permtable] + 0.707 * shortcut
        return result
