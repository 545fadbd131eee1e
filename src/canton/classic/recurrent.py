"""The one-pass cells, [hidden, input] -> hidden, and the layers that run them over time.

As in the 2017 article the reset is before the map, z weights the new value, and [hidden, input] has hidden
first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from canton import gates
from canton.classic import fast_path
from canton.classic.can import Can
from canton.classic.convolutions import Conv2D
from canton.classic.dense import Dense, LayerNormDense
from canton.classic.pointwise import Act
from canton.classic.scanning import OnePass, rnn_gen
from canton.core.cell import Cell


class GatedOnepass(OnePass):
    """One step of the article's GRU over maps of [hidden, input]: wz for z, wr for r, w for the candidate.

    A subclass may call ``Can.__init__`` and set `wz`, `wr` and `w` itself.

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        maps: wz, wr and w, each from num_in + num_h to num_h channels.
    """

    def __init__(self, num_in: int, num_h: int, maps: tuple[Can, Can, Can]) -> None:
        super().__init__()
        self.num_in, self.num_h = num_in, num_h
        self.wz, self.wr, self.w = maps
        self.incan(maps)

    def forward(self, i: list[Tensor]) -> Tensor:
        hidden, inp = i
        joined = torch.cat([hidden, inp], dim=-1)
        z, r = gates.gate(self.wz(joined)), gates.gate(self.wr(joined))
        if z.shape != hidden.shape:
            raise ValueError(f"wz must keep the state's shape {tuple(hidden.shape)}, got {tuple(z.shape)}")
        c = gates.candidate(self.w(torch.cat([hidden * r, inp], dim=-1)))
        return gates.lerp_gate(hidden, z, c)

    def cell(self) -> Cell | None:
        unmodified = fast_path.is_unmodified(self, GatedOnepass.forward)
        return fast_path.gru(self.wz, self.wr, self.w, self.num_h) if unmodified else None


class GRU_onepass(GatedOnepass):
    """One step of the GRU: [hidden (batch, num_h), input (batch, num_in)] -> hidden (batch, num_h).

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        bias: False for the cell of 0.1.21 and before, which also has larger initial weights.
    """

    def __init__(self, num_in: int, num_h: int, bias: bool = True) -> None:
        c, stddev = num_in + num_h, 1.0 if bias else 2.0
        wz = Dense(c, num_h, bias, mean=-1.0, stddev=stddev)
        super().__init__(
            num_in,
            num_h,
            (wz, Dense(c, num_h, bias, stddev=stddev), Dense(c, num_h, bias, stddev=stddev)),
        )


class GRU_LN_onepass(GatedOnepass):
    """`GRU_onepass` with layer normalisation of every gate (`LayerNormDense`)."""

    def __init__(self, num_in: int, num_h: int) -> None:
        c = num_in + num_h
        super().__init__(
            num_in, num_h, (LayerNormDense(c, num_h), LayerNormDense(c, num_h), LayerNormDense(c, num_h))
        )


class GRUConv2D_onepass(GatedOnepass):
    """One step of the convolutional GRU, without biases, on images (batch, height, width, channels).

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        k, rate, stddev: as for `Conv2D`.
        std, padding: as for `Conv2D`; only stride 1 and "SAME" keep the state's size.
    """

    def __init__(
        self,
        num_in: int,
        num_h: int,
        k: int,
        std: int = 1,
        *,
        rate: int = 1,
        padding: str = "SAME",
        stddev: float | None = None,
    ) -> None:
        def conv() -> Conv2D:
            return Conv2D(num_in + num_h, num_h, k, std, False, rate, padding, stddev)

        super().__init__(num_in, num_h, (conv(), conv(), conv()))


class GRU2_onepass(OnePass):
    """One step of a GRU without reset gate, with an update gate of the hidden state only.

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        double: each map is two Dense layers with lrelu between, num_h // 2 channels wide.
    """

    def __init__(self, num_in: int, num_h: int, double: bool = False) -> None:
        super().__init__()
        self.num_in, self.num_h = num_in, num_h
        self.w: Can = (
            _two_layers(num_in + num_h, num_h) if double else Dense(num_in + num_h, num_h, stddev=1.5)
        )
        self.wz: Can = _two_layers(num_h, num_h) if double else Dense(num_h, num_h, stddev=1.0)
        self.incan([self.wz, self.w])  # the order of the 2017 files

    def forward(self, i: list[Tensor]) -> Tensor:
        hidden, inp = i
        c = gates.candidate(self.w(torch.cat([hidden, inp], dim=-1)))
        return gates.lerp_gate(hidden, gates.gate(self.wz(hidden)), c)

    def cell(self) -> Cell | None:
        unmodified = fast_path.is_unmodified(self, GRU2_onepass.forward)
        return fast_path.gru2(self.wz, self.w, self.num_h) if unmodified else None


def _two_layers(c_in: int, c_out: int) -> Can:
    can = Can()
    can.incan([Dense(c_in, c_out // 2, stddev=1.5), Act("lrelu"), Dense(c_out // 2, c_out, stddev=1.5)])
    can.chain()
    return can


class RNN_onepass(OnePass):
    """One step of a plain RNN: nonlinearity(w([hidden, input])).

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        nonlinearity: a Can; Act("tanh") if None.
        stddev: as for `Dense`.
    """

    def __init__(
        self,
        num_in: int,
        num_h: int,
        nonlinearity: nn.Module | Callable[[Tensor], Tensor] | None = None,
        stddev: float = 1,
    ) -> None:
        super().__init__()
        self.num_in, self.num_h = num_in, num_h
        self.w = Dense(num_in + num_h, num_h, stddev=stddev)
        self.rect = Act("tanh") if nonlinearity is None else nonlinearity
        self.incan([self.w, *([self.rect] if isinstance(self.rect, nn.Module) else [])])

    def forward(self, i: list[Tensor]) -> Tensor:
        new: Tensor = self.rect(self.w(torch.cat(i, dim=-1)))
        return new

    def cell(self) -> Cell | None:
        return (
            fast_path.rnn(self.w, self.rect, self.num_h)
            if fast_path.is_unmodified(self, RNN_onepass.forward)
            else None
        )


RNN = rnn_gen("RNN", RNN_onepass)
GRU = rnn_gen("GRU", GRU_onepass)
GRU2 = rnn_gen("GRU2", GRU2_onepass)
GRULN = rnn_gen("GRULN", GRU_LN_onepass)
GRUConv2D = rnn_gen("GRUConv2D", GRUConv2D_onepass)
