"""The long short-term memory: gates x any map, with two tensors of state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton import gates, kernels, maps
from canton.core.cell import Cell, State
from canton.core.norms import GateNorm
from canton.core.recurrent import Recurrent
from canton.core.stack import Device, stack
from canton.maps import Map, dense


class LSTMCell(Cell):
    """A long short-term memory over any map; its state is (h, c).

    Equations::

        i = sigmoid(X_i(x) + H_i(h))
        f = sigmoid(X_f(x) + H_f(h))
        g = tanh(X_g(x) + H_g(h))
        o = sigmoid(X_o(x) + H_o(h))
        c = f * c + i * g
        h = o * tanh(c)

    Equations, ``peephole=True``, p a learned number per channel::

        i = sigmoid(X_i(x) + H_i(h) + p_i * c)
        f = sigmoid(X_f(x) + H_f(h) + p_f * c)
        g = tanh(X_g(x) + H_g(h))
        c = f * c + i * g
        o = sigmoid(X_o(x) + H_o(h) + p_o * c)
        h = o * tanh(c)

    With ``proj_size`` > 0 the output is P(h), a map of h without bias to proj_size channels (Sak et al. 2014,
    arXiv:1402.1128). `layer_norm` normalises the two halves of every gate apart (see `canton.GRUCell`), and c
    before its tanh, after Ba et al. 2016. Source: Hochreiter & Schmidhuber 1997; peepholes Gers et al. 2002;
    the plain form is torch.nn.LSTM's. With a convolution: Shi et al. 2015, arXiv:1506.04214 (whose peepholes
    differ from place to place; these are per channel, so that the image may have any size).

    Args:
        proj_size: channels of the projected output, 0 for none.
        peephole: let i, f and o see the memory.
        forget_bias: where the forget gate's bias starts (Jozefowicz et al. 2015 advise 1); a map of your own
            keeps its own start.
        input_size, hidden_size, bias, map, layer_norm: see `canton.GRUCell`.

    Shapes:
        x (B, input_size, *space); h (B, proj_size or hidden_size, *space); c (B, hidden_size, *space).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int = 0,
        peephole: bool = False,
        forget_bias: float = 1.0,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"proj_size is {proj_size}: it lies from 0 (none) to hidden_size - 1 = {hidden_size - 1}"
            )
        output = proj_size or hidden_size
        super().__init__(
            input_size,
            hidden_size,
            gates=4,
            state_sizes=(output, hidden_size),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.hidden_map = self._hidden(map, output, 4)
        self.projection = map(hidden_size, proj_size, False) if proj_size else None
        if self.projection is not None:
            maps.init_input_(self.projection, 1)
        self.peephole = nn.Parameter(torch.zeros(3, hidden_size)) if peephole else None
        self.hidden_norm = GateNorm(4, hidden_size, bias=False) if layer_norm else None
        self.memory_norm = GateNorm(1, hidden_size) if layer_norm else None
        self._start_forgetting_(forget_bias)

    @torch.no_grad()
    def _start_forgetting_(self, forget_bias: float) -> None:
        owner: nn.Module = self.input_map if self.input_norm is None else self.input_norm
        if isinstance(owner, nn.Sequential):  # of a separable convolution the last part gives the gates
            owner = owner[-1]
        bias = getattr(owner, "bias", None)
        # a grouped map has its bias group by group; every group holds its share of each gate in order
        if isinstance(bias, Tensor) and bias.numel() == 4 * self.hidden_size:
            groups = maps.groups_of(owner)
            bias.view(groups, 4, -1)[:, 1].fill_(forget_bias)

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        h, c = state
        a = maps.regroup(self.hidden_map(h if drop is None else h * drop), 4, maps.groups_of(self.hidden_map))
        i, f, g, o = (gx + (a if self.hidden_norm is None else self.hidden_norm(a))).chunk(4, dim=1)
        if self.peephole is not None:
            p_i, p_f, p_o = self.peephole.view(3, -1, *(1,) * (gx.ndim - 2))
            c = gates.lstm_memory(i + p_i * c, f + p_f * c, g, c)
            o = o + p_o * c
        else:
            c = gates.lstm_memory(i, f, g, c)
        h = gates.lstm_output(o, c if self.memory_norm is None else self.memory_norm(c))
        return (h if self.projection is None else self.projection(h), c)

    def plan(self) -> kernels.Plan | None:
        hidden = kernels.product(self.hidden_map)
        projection = None if self.projection is None else kernels.product(self.projection)
        if hidden is None or self.hidden_norm or (self.projection is not None and projection is None):
            return None
        return kernels.LSTM(hidden, self.peephole, projection)


def LSTM(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    proj_size: int = 0,
    *,
    peephole: bool = False,
    forget_bias: float = 1.0,
    map: Map = dense,
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Long short-term memory layers; their state is the pair (h_n, c_n). See `LSTMCell`.

    With ``proj_size`` > 0 the outputs and h_n have proj_size channels, as in torch.nn.LSTM.
    """

    def make(c_in: int) -> Cell:
        return LSTMCell(
            c_in,
            hidden_size,
            bias,
            proj_size=proj_size,
            peephole=peephole,
            forget_bias=forget_bias,
            map=map,
            layer_norm=layer_norm,
        )

    return stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )
