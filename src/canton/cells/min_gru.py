"""Minimal GRU without hidden-to-hidden maps: cell and layer."""

from __future__ import annotations

import torch
from torch import Tensor

from canton import gates, kernels
from canton.core.cell import Cell, State
from canton.core.recurrent import Recurrent
from canton.core.stack import Device, stack
from canton.maps import Map, dense


class MinGRUCell(Cell):
    """A GRU whose gate and candidate do not see the state, so that all time steps can be computed at once.

    Equations::

        z = sigmoid(X_z(x))
        c = positive(X_c(x))
        h = (1 - z) * h + z * c

    where positive(a) is a + 1/2 for a >= 0, else sigmoid(a). Source: Feng et al. 2024, "Were RNNs All We
    Needed?", arXiv:2410.01201v1, section 3.1 and appendix B.3. There is no hidden half, so recurrent dropout
    has nothing to drop.

    Args:
        input_size, hidden_size, bias, map, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=2,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        a, b = gx.chunk(2, dim=1)
        return (gates.take(state[0], gates.gate(a), gates.positive(b)),)

    def plan(self) -> kernels.Plan | None:
        return kernels.MinGRU()


def MinGRU(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
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
    """Layers whose gates do not see the state, computed for all time steps at once. See `MinGRUCell`."""

    def make(c_in: int) -> Cell:
        return MinGRUCell(c_in, hidden_size, bias, map=map, layer_norm=layer_norm)

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
