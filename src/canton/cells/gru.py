"""Gated recurrent unit: cell and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor
from typing_extensions import Unpack

from canton import gates, kernels, maps
from canton.core.cell import Cell, State, apply_mask, apply_norm, bias_of
from canton.core.layer import Layer, LayerOptions
from canton.core.norms import GateNorm
from canton.kernels import CppCell, Dense, Product, Step, TritonKernel
from canton.kernels.steps.gru import GRUAfterStep, GRUBeforeStep
from canton.kernels.triton import gru as triton_gru
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class GRUBeforeSpec(kernels.CellSpec):
    """Reset before the map; `gates` gives z and r, gx holds z, r, c."""

    gates: Product
    candidate: Product

    gate_blocks = 3
    cpp = CppCell("gru_before", saved=3, stored_inputs=(1,))

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        return (self.gates, 2 * hidden, hidden), (self.candidate, hidden, hidden)

    def step(self, rows: int) -> Step:
        return GRUBeforeStep(self.gates, self.candidate, rows)

    @property
    def triton(self) -> TritonKernel | None:
        return triton_gru.execute if isinstance(self.gates, Dense) else None


@dataclass(frozen=True, eq=False)
class GRUAfterSpec(kernels.CellSpec):
    """Reset after the map, as in torch.nn.GRU; `bias` (hidden,) is the candidate's."""

    gates: Product
    candidate: Product
    bias: Tensor | None

    gate_blocks = 3

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        return (self.gates, 2 * hidden, hidden), (self.candidate, hidden, hidden)

    def step(self, rows: int) -> Step:
        return GRUAfterStep(self.gates, self.candidate, self.bias, rows)


class GRUCell(Cell):
    """A gated recurrent unit over any map.

    Equations with ``reset="before"`` (Cho et al. 2014; ``reset_after=False`` in Keras 3)::

        z = sigmoid(X_z(x) + H_z(h))
        r = sigmoid(X_r(x) + H_r(h))
        c = tanh(X_c(x) + H_c(r * h))
        h = (1 - z) * h + z * c

    Equations with ``reset="after"`` (torch.nn.GRU and cuDNN; their z is 1 - z here), b_c is a second bias::

        z = sigmoid(X_z(x) + H_z(h))
        r = sigmoid(X_r(x) + H_r(h))
        c = tanh(X_c(x) + r * (H_c(h) + b_c))
        h = (1 - z) * h + z * c

    Source: Cho et al. 2014, arXiv:1406.1078v3 (reset before; v1 has it after), z as in Chung et al. 2014,
    arXiv:1412.3555. With a convolution: Ballas et al. 2016, arXiv:1511.06432. `layer_norm` normalises the two
    halves separately, LN(X(x)) + LN(H(h)), after Ba et al. 2016, arXiv:1607.06450. They normalise all gates
    of a half together; here each gate is normalised by itself, over its channels.

    Args:
        input_size: channels of the input.
        hidden_size: channels of the state.
        bias: whether the map is affine (True) or linear.
        reset: apply the reset gate "before" or "after" the map.
        map: makes the affine maps, such as `maps.dense` or ``maps.conv2d(3)``.
        layer_norm: normalise the pre-activations of each gate.

    Shapes:
        input (B, input_size, *space), or integers (B,) with a dense map; state and result
        (B, hidden_size, *space).

    Raises:
        ValueError: a size is below 1, or `reset` is unknown.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset: Literal["before", "after"] = "before",
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if reset not in ("before", "after"):
            raise ValueError(f"reset must be 'before' or 'after' (torch.nn's), got {reset!r}")
        super().__init__(
            input_size,
            hidden_size,
            gates=3,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.reset = reset
        self.hidden_map = self._hidden(map, hidden_size, 2)
        self.candidate_map = self._hidden(map, hidden_size, 1, bias=bias and reset == "after")
        self.hidden_norm = GateNorm(2, hidden_size, bias=False) if layer_norm else None
        self.candidate_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        h, hidden_in = state[0], apply_mask(state[0], dropout_mask)
        gx_zr, gx_c = gx.split((2 * self.hidden_size, self.hidden_size), dim=1)
        a = maps.regroup(self.hidden_map(hidden_in), 2, maps.groups_of(self.hidden_map))
        z, r = gates.gru_gates(gx_zr + apply_norm(self.hidden_norm, a))
        if self.reset == "before":
            a = apply_norm(self.candidate_norm, self.candidate_map(r * hidden_in))
        else:
            a = r * apply_norm(self.candidate_norm, self.candidate_map(hidden_in))
        return (gates.lerp_gate(h, z, gates.candidate(gx_c + a)),)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        gates = kernels.product(self.hidden_map)
        candidate = kernels.product(self.candidate_map, biased=self.reset == "after")
        if gates is None or candidate is None or self.hidden_norm:
            return None
        if self.reset == "before":
            return GRUBeforeSpec(gates, candidate)
        return GRUAfterSpec(gates, candidate, bias_of(self.candidate_map))


class GRU(Layer[Tensor]):
    """Gated recurrent layers with torch.nn.GRU's arguments; see `GRUCell` for the equations.

    Args:
        reset: apply the reset gate "before" the map (Cho et al. 2014) or "after" it (torch.nn.GRU).

    Example:
        >>> ys, h_n = GRU(8, 16)(torch.randn(5, 2, 8))
        >>> ys.shape, h_n.shape
        (torch.Size([5, 2, 16]), torch.Size([1, 2, 16]))
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
        reset: Literal["before", "after"] = "before",
        map: Map = dense,
        **options: Unpack[LayerOptions],
    ) -> None:
        make_cell = partial(GRUCell, hidden_size=hidden_size, bias=bias, reset=reset, map=map)
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
