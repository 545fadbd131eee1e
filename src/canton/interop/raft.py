"""Conversion from the ConvGRUs of RAFT and Robust Video Matting, by the names of their weights.

Both are Canton's GRU with ``reset="before"``. They convolve state and input as one image, so each kernel is
split on its input channels into the input's and the state's part. The conversion is exact. No code of theirs
is
used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRU, GRUCell
from canton.core.cell import Cell, State
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import GateMatrices, as_tensor, gru_cell, layer_from_cells, stack_gates
from canton.maps import conv2d

StateDict = Mapping[str, Any]


class SepConvGRUCell(Cell):
    """RAFT's SepConvGRU: a GRU step along the rows, then one along the columns, with the same input.

    ::

        h = GRU_1x5(x, h);  h = GRU_5x1(x, h)

    Source: Teed & Deng 2020, arXiv:2003.12039, "Update" in appendix A and the published code.

    Args:
        input_size: channels of the input.
        hidden_size: channels of the state.
        bias: whether the maps are affine.
        kernel_size: pixels along the row, then along the column.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, kernel_size: int = 5) -> None:
        def no_map(c_in: int, c_out: int, bias: bool) -> nn.Module:
            return nn.Identity()  # the input halves are in `across` and `down`

        super().__init__(input_size, hidden_size, gates=6, state_sizes=(hidden_size,), map=no_map, bias=bias)
        self.across = GRUCell(input_size, hidden_size, bias, map=conv2d((1, kernel_size)))
        self.down = GRUCell(input_size, hidden_size, bias, map=conv2d((kernel_size, 1)))

    def project(self, x: Tensor, *, fast: bool = False) -> Tensor:
        return torch.cat([self.across.project(x, fast=fast), self.down.project(x, fast=fast)], dim=1)

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        across, down = gx.chunk(2, dim=1)
        return self.down.advance(down, self.across.advance(across, state, dropout_mask), dropout_mask)


def from_raft(state_dict: StateDict, prefix: str = "") -> Recurrent[Tensor]:
    """Return the layer of RAFT's ConvGRU (convz, convr, convq) or SepConvGRU (convz1 ... convq2).

    ::

        z, r = sigmoid(conv([h, x]));  q = tanh(convq([r h, x]));  h' = (1 - z) h + z q

    q is Canton's c. A ConvGRU becomes a `ConvGRU2d`, a SepConvGRU a layer of `SepConvGRUCell`.

    Args:
        state_dict: the module's or the whole model's.
        prefix: prefix of the names, such as "update_block.gru.".

    Raises:
        ValueError: a name is missing, or shapes do not fit.
    """
    if f"{prefix}convz1.weight" not in state_dict:
        layer: GRU = layer_from_cells([_raft_cell(state_dict, prefix, "")])
        return layer
    across, down = (_raft_cell(state_dict, prefix, suffix) for suffix in "12")
    with torch.device("meta"):
        cell = SepConvGRUCell(across.input_size, across.hidden_size)
    cell.across, cell.down = across, down
    return Recurrent(cell)


def from_robust_video_matting(state_dict: StateDict, prefix: str = "") -> GRU:
    """Return the layer of Robust Video Matting's ConvGRU (ih.0, hh.0). Its input is (B, T, C, H, W).

    ::

        r, z = sigmoid(ih([x, h]));  c = tanh(hh([x, r h]));  h' = (1 - z) h + z c

    Args:
        state_dict: the module's or the whole model's.
        prefix: prefix of the names, such as "decoder.decode1.gru.".

    Raises:
        ValueError: a name is missing, or shapes do not fit.
    """
    r, z = _get(state_dict, f"{prefix}ih.0.weight").chunk(2)
    c = _get(state_dict, f"{prefix}hh.0.weight")
    b_r, b_z = _get(state_dict, f"{prefix}ih.0.bias").chunk(2)
    hidden_size = c.shape[0]
    weights = stack_gates([z, r, c])
    x, h = weights.split((weights.shape[1] - hidden_size, hidden_size), dim=1)
    bias = torch.cat([b_z, b_r, _get(state_dict, f"{prefix}hh.0.bias")])
    layer: GRU = layer_from_cells([gru_cell(GateMatrices(x, h, bias), reset="before")], batch_first=True)
    return layer


def _raft_cell(state_dict: StateDict, prefix: str, suffix: str) -> GRUCell:
    weights = stack_gates([_get(state_dict, f"{prefix}conv{gate}{suffix}.weight") for gate in "zrq"])
    bias = torch.cat([_get(state_dict, f"{prefix}conv{gate}{suffix}.bias") for gate in "zrq"])
    hidden_size = weights.shape[0] // 3
    h, x = weights.split((hidden_size, weights.shape[1] - hidden_size), dim=1)
    return gru_cell(GateMatrices(x, h, bias), reset="before")


def _get(state_dict: StateDict, name: str) -> Tensor:
    if name not in state_dict:
        names = ", ".join(list(state_dict)[:8])
        raise ValueError(f"state_dict has no {name!r}: check prefix; its first names are {names}")
    return as_tensor(state_dict[name], name)
