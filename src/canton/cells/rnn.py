"""Plain recurrent cell and layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from canton import kernels
from canton.core.cell import Cell, State, dropped, normed
from canton.core.norms import GateNorm
from canton.core.recurrent import Recurrent
from canton.core.stack import Device, stack
from canton.maps import Map, dense


class RNNCell(Cell):
    """A plain recurrent step.

    Equations::

        h = act(X_h(x) + H_h(h))

    where act is tanh or relu. Source: Elman 1990; torch.nn.RNNCell computes the same.

    Args:
        nonlinearity: "tanh" or "relu".
        input_size, hidden_size, map, bias, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}: it is 'tanh' or 'relu'")
        super().__init__(
            input_size,
            hidden_size,
            gates=1,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.nonlinearity = nonlinearity
        self.hidden_map = self._hidden(map, hidden_size, 1)
        self.hidden_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        act: Callable[[Tensor], Tensor] = torch.relu if self.nonlinearity == "relu" else torch.tanh
        return (act(gx + normed(self.hidden_norm, self.hidden_map(dropped(state[0], drop)))),)

    def plan(self) -> kernels.Plan | None:
        hidden = kernels.product(self.hidden_map)
        return (
            None if hidden is None or self.hidden_norm else kernels.RNN(hidden, self.nonlinearity == "relu")
        )


def RNN(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    nonlinearity: str = "tanh",
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    *,
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
    """Plain recurrent layers, tanh or relu, arguments in torch.nn.RNN's order. See `RNNCell`."""

    def make(c_in: int) -> Cell:
        return RNNCell(c_in, hidden_size, bias, nonlinearity, map=map, layer_norm=layer_norm)

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
