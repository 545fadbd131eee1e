"""Minimal gated unit: cell and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from typing_extensions import Unpack

from canton import gates, kernels
from canton.core.cell import Cell, State, apply_mask, apply_norm, bias_of
from canton.core.layer import Layer, LayerOptions
from canton.core.norms import GateNorm
from canton.kernels import Product, Step
from canton.kernels.steps.mgu import MGUStep
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class MGUSpec(kernels.CellSpec):
    """gx holds f and c; without `gate_input` c alone, and `bias` (hidden,) is the gate's.

    With `reset` the candidate reads f * h, else h.
    """

    gate: Product
    candidate: Product
    bias: Tensor | None
    gate_input: bool
    reset: bool

    @property
    def gate_blocks(self) -> int:
        return 1 + self.gate_input

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        return (self.gate, hidden, hidden), (self.candidate, hidden, hidden)

    def step(self, rows: int) -> Step:
        return MGUStep(
            self.gate, self.candidate, self.bias, gate_input=self.gate_input, reset=self.reset, rows=rows
        )


class MGUCell(Cell):
    """A minimal gated unit: a single gate f replaces z and r.

    Equations::

        f = sigmoid(X_f(x) + H_f(h))
        c = tanh(X_c(x) + H_c(f * h))
        h = (1 - f) * h + f * c

    Equations with ``gate_input=False, reset=False`` (GRU2 of the 2017 Canton), b_f is the gate's bias::

        f = sigmoid(H_f(h) + b_f)
        c = tanh(X_c(x) + H_c(h))
        h = (1 - f) * h + f * c

    Source: Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks", arXiv:1603.09420.

    Args:
        gate_input: whether the gate reads the input as well as the state.
        reset: whether the candidate reads f * h, or h.
        input_size, hidden_size, bias, map, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        gate_input: bool = True,
        reset: bool = True,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=2 if gate_input else 1,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.gate_input, self.reset = gate_input, reset
        self.hidden_map = self._hidden(map, hidden_size, 1, bias=bias and not gate_input)
        self.candidate_map = self._hidden(map, hidden_size, 1)
        self.hidden_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None
        self.candidate_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        h, hidden_in = state[0], apply_mask(state[0], dropout_mask)
        a, gx_c = apply_norm(self.hidden_norm, self.hidden_map(hidden_in)), gx
        if self.gate_input:
            gx_f, gx_c = gx.chunk(2, dim=1)
            a = a + gx_f
        f = gates.gate(a)
        a = self.candidate_map(f * hidden_in if self.reset else hidden_in)
        c = gates.candidate(gx_c + apply_norm(self.candidate_norm, a))
        return (gates.lerp_gate(h, f, c),)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        gate = kernels.product(self.hidden_map, biased=not self.gate_input)
        candidate = kernels.product(self.candidate_map)
        if gate is None or candidate is None or self.hidden_norm:
            return None
        return MGUSpec(gate, candidate, bias_of(self.hidden_map), self.gate_input, self.reset)


class MGU(Layer[Tensor]):
    """Minimal gated layers; see `MGUCell` for the equations.

    Args:
        gate_input: whether the gate reads the input as well as the state.
        reset: whether the candidate reads f * h, or h.
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
        gate_input: bool = True,
        reset: bool = True,
        map: Map = dense,
        **options: Unpack[LayerOptions],
    ) -> None:
        make_cell = partial(
            MGUCell, hidden_size=hidden_size, bias=bias, gate_input=gate_input, reset=reset, map=map
        )
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
