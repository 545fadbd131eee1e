"""Minimal GRU without hidden-to-hidden maps: cell and layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from typing_extensions import Unpack

from canton import gates, kernels
from canton.core.cell import Cell, State
from canton.core.layer import Layer, LayerOptions
from canton.kernels import CppCell
from canton.kernels.steps.min_gru import MinGRURecurrence
from canton.maps import Map, dense


@dataclass(frozen=True, eq=False)
class MinGRUSpec(kernels.CellSpec):
    """No hidden half: gx holds z and c, and h' = (1 - z) h + z c."""

    gate_blocks = 2
    cpp = CppCell("min_gru", saved=0, reads_gx=True, masks=False)
    linear_recurrence = MinGRURecurrence()


class MinGRUCell(Cell):
    """A GRU whose gate and candidate do not read the state, so that all steps can be computed at once.

    Equations::

        z = sigmoid(X_z(x))
        c = positive(X_c(x))
        h = (1 - z) * h + z * c

    where positive(a) is a + 1/2 for a >= 0, else sigmoid(a). Source: Feng et al. 2024, "Were RNNs All We
    Needed?", arXiv:2410.01201v1, section 3.1 and appendix B.3. There is no hidden half, so recurrent
    dropout has no effect.

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

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        a, b = gx.chunk(2, dim=1)
        return (gates.lerp_gate(state[0], gates.gate(a), gates.positive(b)),)

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell."""
        return MinGRUSpec()


class MinGRU(Layer[Tensor]):
    """Layers whose gates do not read the state, computed for all steps at once; see `MinGRUCell`.

    Args:
        map: makes the affine maps, such as `maps.dense` or ``maps.conv2d(3)``.
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
        make_cell = partial(MinGRUCell, hidden_size=hidden_size, bias=bias, map=map)
        super().__init__(make_cell, input_size, num_layers, batch_first, dropout, bidirectional, **options)
