"""Plain recurrent cell and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from canton import kernels
from canton.core.cell import Cell, State, apply_mask, apply_norm
from canton.core.layer import Layer, LayerOptions
from canton.core.norms import GateNorm
from canton.kernels import Product, Step
from canton.kernels.steps.rnn import RNNStep
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class RNNSpec(kernels.CellSpec):
    """h' = act(gx + hidden_map(h)); act is relu or tanh."""

    hidden_map: Product
    relu: bool

    gate_blocks = 1

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        return ((self.hidden_map, hidden, hidden),)

    def step(self, rows: int) -> Step:
        return RNNStep(self.hidden_map, self.relu, rows)


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
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
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

    @property
    def mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        a = self.hidden_map(apply_mask(state[0], dropout_mask))
        a = gx + apply_norm(self.hidden_norm, a)
        return (torch.relu(a) if self.nonlinearity == "relu" else torch.tanh(a),)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        hidden = kernels.product(self.hidden_map)
        return None if hidden is None or self.hidden_norm else RNNSpec(hidden, self.nonlinearity == "relu")


class RNN(Layer[Tensor]):
    """Plain recurrent layers with torch.nn.RNN's arguments; see `RNNCell` for the equations.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        map: Map = dense,
        **options: Unpack[LayerOptions],
    ) -> None:
        make_cell = partial(RNNCell, hidden_size=hidden_size, bias=bias, nonlinearity=nonlinearity, map=map)
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
