"""Published convolutional GRUs by the names of their weights: RAFT and Robust Video Matting.

RAFT's ConvGRU and SepConvGRU and Robust Video Matting's ConvGRU are Canton's GRU with ``reset="before"``:
their z takes the new and the reset stands before the map. They convolve the state and the input as one image,
so each kernel is cut on its input channels into the half that sees the state and the half that sees the
input. No code of theirs is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRUCell
from canton.core.cell import Cell, State
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import Halves, gru_cell, stack, tensor
from canton.maps import conv2d

StateDict = Mapping[str, Any]


class SepConvGRUCell(Cell):
    """RAFT's SepConvGRU: a GRU step along the rows, then one along the columns, of the same input.

    ::

        h = GRU_1x5(x, h);  h = GRU_5x1(x, h)

    Source: Teed & Deng 2020, arXiv:2003.12039, "Update" in appendix A and the published code.

    Args:
        input_size: channels of x.
        hidden_size: channels of the state.
        bias: whether the maps are affine.
        kernel_size: pixels along the row, then along the column.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, kernel_size: int = 5) -> None:
        def of_the_two(c_in: int, c_out: int, bias: bool) -> nn.Module:
            return nn.Identity()  # the input halves are in `across` and `down`

        super().__init__(
            input_size, hidden_size, gates=6, state_sizes=(hidden_size,), map=of_the_two, bias=bias
        )
        self.across = GRUCell(input_size, hidden_size, bias, map=conv2d((1, kernel_size)))
        self.down = GRUCell(input_size, hidden_size, bias, map=conv2d((kernel_size, 1)))

    def project(self, x: Tensor, *, fast: bool = False) -> Tensor:
        return torch.cat([self.across.project(x, fast=fast), self.down.project(x, fast=fast)], dim=1)

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        across, down = gx.chunk(2, dim=1)
        return self.down.advance(down, self.across.advance(across, state, dropout_mask), dropout_mask)


def raft(state_dict: StateDict, prefix: str = "") -> Recurrent:
    """The layer of RAFT's ConvGRU (convz, convr, convq) or SepConvGRU (convz1 ... convq2).

    ::

        z, r = sigmoid(conv([h, x]));  q = tanh(convq([r h, x]));  h' = (1 - z) h + z q

    is ``reset="before"``, q its c; each kernel is cut on its input channels, the state's first. SepConvGRU is
    such a step with 1x5 kernels, then one with 5x1 (`SepConvGRUCell`). Every bit is kept.

    Args:
        state_dict: the module's, or a whole model's.
        prefix: what stands before the names, such as "update_block.gru.".

    Raises:
        ValueError: a name is missing, or shapes do not fit.
    """
    if f"{prefix}convz1.weight" not in state_dict:
        return Recurrent(_raft_cell(state_dict, prefix, ""))
    across, down = (_raft_cell(state_dict, prefix, way) for way in "12")
    with torch.device("meta"):
        cell = SepConvGRUCell(across.input_size, across.hidden_size)
    cell.across, cell.down = across, down
    return Recurrent(cell)


def robust_video_matting(state_dict: StateDict, prefix: str = "") -> Recurrent:
    """The layer of Robust Video Matting's ConvGRU (ih.0, hh.0); takes (B, T, C, H, W) as theirs does.

    ::

        r, z = sigmoid(ih([x, h]));  c = tanh(hh([x, r h]));  h' = (1 - z) h + z c

    is ``reset="before"``; the kernels are cut on their input channels, the input's first, and r and z change
    places. Every bit is kept.

    Args:
        state_dict: the module's, or a whole model's.
        prefix: what stands before the names, such as "decoder.decode1.gru.".

    Raises:
        ValueError: a name is missing, or shapes do not fit.
    """
    r, z = _get(state_dict, f"{prefix}ih.0.weight").chunk(2)
    c = _get(state_dict, f"{prefix}hh.0.weight")
    b_r, b_z = _get(state_dict, f"{prefix}ih.0.bias").chunk(2)
    hidden = c.shape[0]
    weights = stack([z, r, c])
    x, h = weights.split((weights.shape[1] - hidden, hidden), dim=1)
    bias = torch.cat([b_z, b_r, _get(state_dict, f"{prefix}hh.0.bias")])
    return Recurrent(gru_cell(Halves(x, h, bias), reset="before"), batch_first=True)


def _raft_cell(state_dict: StateDict, prefix: str, way: str) -> GRUCell:
    joined = stack([_get(state_dict, f"{prefix}conv{name}{way}.weight") for name in "zrq"])
    bias = torch.cat([_get(state_dict, f"{prefix}conv{name}{way}.bias") for name in "zrq"])
    hidden = joined.shape[0] // 3
    h, x = joined.split((hidden, joined.shape[1] - hidden), dim=1)
    return gru_cell(Halves(x, h, bias), reset="before")


def _get(state_dict: StateDict, name: str) -> Tensor:
    if name not in state_dict:
        raise ValueError(
            f"state_dict has no {name!r}: check prefix; it has {', '.join(list(state_dict)[:8])}"
        )
    return tensor(state_dict[name], name)
