"""Long short-term memory: cell and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from canton import gates, kernels, maps
from canton.core.cell import Cell, State, apply_mask, apply_norm, check_size
from canton.core.layer import Layer, LayerOptions
from canton.core.norms import GateNorm
from canton.kernels import CppCell, Product, Step
from canton.kernels.steps.lstm import LSTMStep
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class LSTMSpec(kernels.CellSpec):
    """gx and `hidden_map` give i, f, g, o; `peephole` is (3, hidden) for i, f, o."""

    hidden_map: Product
    peephole: Tensor | None
    projection: Product | None

    gate_blocks = 4
    state_count = 2

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        shapes = [(self.hidden_map, 4 * hidden, output)]
        return shapes if self.projection is None else [*shapes, (self.projection, output, hidden)]

    def step(self, rows: int) -> Step:
        return LSTMStep(self.hidden_map, self.peephole, self.projection, rows)

    @property
    def cpp(self) -> CppCell | str:
        if self.peephole is not None or self.projection is not None:
            return "the C++ LSTM has no peepholes or projection"
        return CppCell("lstm", saved=5)


class LSTMCell(Cell):
    """A long short-term memory over any map; its state is (h, c).

    Equations::

        i = sigmoid(X_i(x) + H_i(h))
        f = sigmoid(X_f(x) + H_f(h))
        g = tanh(X_g(x) + H_g(h))
        o = sigmoid(X_o(x) + H_o(h))
        c = f * c + i * g
        h = o * tanh(c)

    Equations with ``peephole=True``, p is a learned number per channel::

        i = sigmoid(X_i(x) + H_i(h) + p_i * c)
        f = sigmoid(X_f(x) + H_f(h) + p_f * c)
        g = tanh(X_g(x) + H_g(h))
        c = f * c + i * g
        o = sigmoid(X_o(x) + H_o(h) + p_o * c)
        h = o * tanh(c)

    With ``proj_size`` > 0 the output is P(h), a map without bias to proj_size channels (Sak et al. 2014,
    arXiv:1402.1128). `layer_norm` normalises the two halves of every gate separately (see `GRUCell`), and c
    before its tanh, after Ba et al. 2016.

    Source: Hochreiter & Schmidhuber 1997; peepholes Gers et al. 2002; the plain form is torch.nn.LSTM's. With
    a convolution: Shi et al. 2015, arXiv:1506.04214. Their peepholes differ between positions; these are per
    channel, so that the image may have any size.

    Args:
        proj_size: channels of the projected output, 0 for no projection.
        peephole: let i, f and o read the memory.
        forget_bias: initial bias of the forget gate (Jozefowicz et al. 2015 recommend 1). A map that is not
            Canton's keeps its own.
        input_size, hidden_size, bias, map, layer_norm: see `GRUCell`.

    Shapes:
        input (B, input_size, *space); h (B, proj_size or hidden_size, *space); c (B, hidden_size, *space).
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
        check_size("hidden_size", hidden_size)
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size must be in 0..hidden_size - 1 = {hidden_size - 1}, got {proj_size}")
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
        self.proj_size, self.forget_bias = proj_size, forget_bias
        self.hidden_map = self._hidden(map, output, 4)
        self.projection = map(hidden_size, proj_size, False) if proj_size else None
        if self.projection is not None:
            maps.init_input_(self.projection, 1)
        self.peephole = nn.Parameter(torch.zeros(3, hidden_size)) if peephole else None
        self.hidden_norm = GateNorm(4, hidden_size, bias=False) if layer_norm else None
        self.memory_norm = GateNorm(1, hidden_size) if layer_norm else None
        self._set_forget_bias_()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.projection is not None:
            maps.init_input_(self.projection, 1)
        if self.peephole is not None:
            self.peephole.zero_()
        self._set_forget_bias_()

    @torch.no_grad()
    def _set_forget_bias_(self) -> None:
        owner: nn.Module = self.input_map if self.input_norm is None else self.input_norm
        if isinstance(owner, nn.Sequential):  # a separable convolution: its last part computes the gates
            owner = owner[-1]
        bias = getattr(owner, "bias", None)
        # a grouped map orders its bias by group, and by gate within a group
        if isinstance(bias, Tensor) and bias.numel() == 4 * self.hidden_size:
            groups = maps.groups_of(owner)
            bias.view(groups, 4, -1)[:, 1].fill_(self.forget_bias)

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        h, c = state
        a = self.hidden_map(apply_mask(h, dropout_mask))
        a = maps.regroup(a, 4, maps.groups_of(self.hidden_map))
        i, f, g, o = (gx + apply_norm(self.hidden_norm, a)).chunk(4, dim=1)
        if self.peephole is not None:
            p_i, p_f, p_o = self.peephole.view(3, -1, *(1,) * (gx.ndim - 2))
            c = gates.lstm_memory(i + p_i * c, f + p_f * c, g, c)
            o = o + p_o * c
        else:
            c = gates.lstm_memory(i, f, g, c)
        h = gates.lstm_output(o, apply_norm(self.memory_norm, c))
        return (h if self.projection is None else self.projection(h), c)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        hidden = kernels.product(self.hidden_map)
        projection = None if self.projection is None else kernels.product(self.projection)
        if hidden is None or self.hidden_norm or (self.projection is not None and projection is None):
            return None
        return LSTMSpec(hidden, self.peephole, projection)


class LSTM(Layer[tuple[Tensor, Tensor]]):
    """Long short-term memory layers with torch.nn.LSTM's arguments; see `LSTMCell` for the equations.

    The state is the pair (h_n, c_n). With ``proj_size`` > 0 the outputs and h_n have proj_size channels.

    Args:
        proj_size: channels of the projected output, 0 for no projection.
        peephole: let i, f and o read the memory.
        forget_bias: initial bias of the forget gate.
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
        proj_size: int = 0,
        *,
        peephole: bool = False,
        forget_bias: float = 1.0,
        map: Map = dense,
        **options: Unpack[LayerOptions],
    ) -> None:
        make_cell = partial(
            LSTMCell,
            hidden_size=hidden_size,
            bias=bias,
            proj_size=proj_size,
            peephole=peephole,
            forget_bias=forget_bias,
            map=map,
        )
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
