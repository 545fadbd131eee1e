"""The one-pass cells, [hidden, input] -> hidden, and the layers that run them over time.

As in the article: the reset comes before the map, z takes the new, hidden channels come first in [hidden,
input].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from canton import gates
from canton.classic import faster
from canton.classic.can import Can
from canton.classic.convolutions import Conv2D
from canton.classic.dense import Dense, LayerNormDense
from canton.classic.pointwise import Act
from canton.classic.scanning import OnePass, rnn_gen
from canton.core.cell import Cell


class GatedOnepass(OnePass):
    """One step of the article's GRU over three maps of [hidden, input]: z = wz, r = wr, candidate = w.

    Give ``maps`` in the order wz, wr, w; each takes num_in + num_h channels to num_h. A subclass may
    instead call ``Can.__init__`` and set `wz`, `wr` and `w` itself, as 2017's did.
    """

    def __init__(self, num_in: int, num_h: int, maps: tuple[Can, Can, Can]) -> None:
        super().__init__()
        self.num_in, self.num_h = num_in, num_h
        self.wz, self.wr, self.w = maps
        self.incan(maps)

    def forward(self, i: list[Tensor]) -> Tensor:
        hidden, inp = i
        both = torch.cat([hidden, inp], dim=-1)
        z, r = gates.gate(self.wz(both)), gates.gate(self.wr(both))
        if z.shape != hidden.shape:
            raise ValueError(
                f"wz makes {tuple(z.shape)} of a state of shape {tuple(hidden.shape)}: it must keep the shape"
            )
        c = gates.candidate(self.w(torch.cat([hidden * r, inp], dim=-1)))
        return gates.lerp_gate(hidden, z, c)

    def cell(self) -> Cell | None:
        plain = faster.is_plain(self, GatedOnepass.forward)
        return faster.gru(self.wz, self.wr, self.w, self.num_h) if plain else None


class GRU_onepass(GatedOnepass):
    """One step of the GRU: [hidden (batch, num_h), input (batch, num_in)] -> hidden (batch, num_h).

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        bias: False for the cell of 0.1.21 and before, whose weights also start larger.
    """

    def __init__(self, num_in: int, num_h: int, bias: bool = True) -> None:
        c, spread = num_in + num_h, 1.0 if bias else 2.0
        forget_less = Dense(c, num_h, bias, mean=-1.0, stddev=spread)
        super().__init__(
            num_in,
            num_h,
            (forget_less, Dense(c, num_h, bias, stddev=spread), Dense(c, num_h, bias, stddev=spread)),
        )


class GRU_LN_onepass(GatedOnepass):
    """`GRU_onepass` with the product of every gate normalised (`LayerNormDense`)."""

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
        std, padding: as for `Conv2D`, but a step keeps the state's size only with stride 1 and "SAME".
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
    """A GRU without reset gate whose update gate sees the hidden state alone.

    Args:
        num_in, num_h: channels of the input and of the hidden state.
        double: each map is two, with num_h / 2 channels (rounded down) and lrelu between.
    """

    def __init__(self, num_in: int, num_h: int, double: bool = False) -> None:
        super().__init__()
        self.num_in, self.num_h = num_in, num_h
        self.w: Can = _two(num_in + num_h, num_h) if double else Dense(num_in + num_h, num_h, stddev=1.5)
        self.wz: Can = _two(num_h, num_h) if double else Dense(num_h, num_h, stddev=1.0)
        self.incan([self.wz, self.w])  # as in the original: wz's weights come first in the files

    def forward(self, i: list[Tensor]) -> Tensor:
        hidden, inp = i
        c = gates.candidate(self.w(torch.cat([hidden, inp], dim=-1)))
        return gates.lerp_gate(hidden, gates.gate(self.wz(hidden)), c)

    def cell(self) -> Cell | None:
        plain = faster.is_plain(self, GRU2_onepass.forward)
        return faster.gru2(self.wz, self.w, self.num_h) if plain else None


def _two(c_in: int, c_out: int) -> Can:
    can = Can()
    can.incan([Dense(c_in, c_out // 2, stddev=1.5), Act("lrelu"), Dense(c_out // 2, c_out, stddev=1.5)])
    can.chain()
    return can


class RNN_onepass(OnePass):
    """One step of the plain network: nonlinearity(w([hidden, input])).

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
            faster.rnn(self.w, self.rect, self.num_h) if faster.is_plain(self, RNN_onepass.forward) else None
        )


RNN = rnn_gen("RNN", RNN_onepass)
GRU = rnn_gen("GRU", GRU_onepass)
GRU2 = rnn_gen("GRU2", GRU2_onepass)
GRULN = rnn_gen("GRULN", GRU_LN_onepass)
GRUConv2D = rnn_gen("GRUConv2D", GRUConv2D_onepass)
