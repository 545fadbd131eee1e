"""The sLSTM with exponential gates: cell and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from canton import kernels, maps
from canton.core.cell import Cell, State, apply_mask, apply_norm
from canton.core.layer import Layer, LayerOptions
from canton.core.norms import GateNorm
from canton.kernels import CppCell, Product, Step
from canton.kernels.steps.slstm import SLSTMStep
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class SLSTMSpec(kernels.CellSpec):
    """gx and `hidden_map` give i, f, z, o; the state is h, c, n, m."""

    hidden_map: Product

    gate_blocks = 4
    state_count = 4
    cpp = CppCell("slstm", saved=5)

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        return ((self.hidden_map, 4 * hidden, hidden),)

    def step(self, rows: int) -> Step:
        return SLSTMStep(self.hidden_map, rows)


class SLSTMCell(Cell):
    """An LSTM with exponential gates, a normaliser n and a stabiliser m; its state is (h, c, n, m).

    Equations::

        a = X_i(x) + H_i(h)
        b = log(sigmoid(X_f(x) + H_f(h))) + m
        m = a if n == 0 else max(a, b)
        i = exp(a - m)
        f = exp(b - m)
        c = f * c + i * tanh(X_z(x) + H_z(h))
        n = f * n + i
        h = sigmoid(X_o(x) + H_o(h)) * c / n

    h does not depend on m, which only keeps the exponentials finite. In a state that you pass, n must be
    positive, except in the zero state.

    Source: Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", arXiv:2405.04517, section 2.2,
    with the sigmoid forget gate. The authors' package `xlstm` computes the same in its vanilla sLSTM with one
    head. `layer_norm` normalises the two halves of every gate separately (see `canton.GRUCell`).

    Args:
        input_size, hidden_size, bias, map, layer_norm: see `canton.GRUCell`.

    Shapes:
        input (B, input_size, *space); h, c, n and m (B, hidden_size, *space).
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
            gates=4,
            state_sizes=(hidden_size,) * 4,
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.hidden_map = self._hidden(map, hidden_size, 4)
        self.hidden_norm = GateNorm(4, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        h, c, n, m = state
        a = self.hidden_map(apply_mask(h, dropout_mask))
        a = maps.regroup(a, 4, maps.groups_of(self.hidden_map))
        i, f, z, o = (gx + apply_norm(self.hidden_norm, a)).chunk(4, dim=1)
        log_f = nn.functional.logsigmoid(f) + m
        m = torch.where(n == 0, i, torch.maximum(i, log_f))
        i, f = torch.exp(i - m), torch.exp(log_f - m)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return (torch.sigmoid(o) * c / n, c, n, m)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        hidden = kernels.product(self.hidden_map)
        return None if hidden is None or self.hidden_norm else SLSTMSpec(hidden)


class SLSTM(Layer[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """sLSTM layers with torch.nn.LSTM's arguments; see `SLSTMCell` for the equations.

    The state is (h_n, c_n, n_n, m_n).

    Example:
        >>> ys, state = SLSTM(8, 16)(torch.randn(5, 2, 8))
        >>> ys.shape, len(state)
        (torch.Size([5, 2, 16]), 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        map: Map = dense,
        **options: Unpack[LayerOptions],
    ) -> None:
        make_cell = partial(SLSTMCell, hidden_size=hidden_size, bias=bias, map=map)
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
