"""Conversion from and to the weights of Keras 3's GRU, LSTM, SimpleRNN and ConvLSTM1D/2D/3D; files:
`keras_files`.

The weights are the arrays of ``layer.get_weights()`` and ``set_weights``: kernel, recurrent kernel and, with
use_bias, bias; for a Bidirectional layer the forward arrays, then the backward ones. Kernels are
(*kernel_size, in, gates * units), Canton's (gates * hidden, in, *kernel_size). The order of the gates:

    GRU       z, r, h       z weights the old value, h' = z h + (1 - z) hh, so it is negated
    LSTM      i, f, c, o    Canton's i, f, g, o

A GRU's bias is (3 units,) with reset_after=False and (2, 3 units) with True: one row for the input, one for
the state. The two rows of z and r are added, which rounds once. The candidate's second row is multiplied by
the reset gate and becomes b_c. All other numbers are exact.

Keras sequences are (B, T, C) and (B, T, *space, C). The layers made here have ``batch_first=True`` and take
(B, T, C) and (B, T, C, *space). Dropout is not converted: it changes no output of a trained layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from canton.cells.gru import GRU, GRUCell
from canton.cells.lstm import LSTM, LSTMCell
from canton.cells.rnn import RNN, RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import (
    NEGATIVE_ZERO,
    GateMatrices,
    as_tensor,
    check_same_kind,
    from_channels_last,
    gate_matrices,
    gru_cell,
    layer_from_cells,
    lstm_cell,
    negate_update_gate,
    plain_cells,
    rnn_cell,
    to_channels_last,
)

if TYPE_CHECKING:
    import numpy

TARGET = "Keras"


def from_keras(
    weights: Sequence[Any],
    *,
    reset_after: bool | None = None,
    activation: Literal["tanh", "relu"] = "tanh",
    dilation_rate: int | Sequence[int] = 1,
) -> GRU | LSTM | RNN:
    """Return the layer with a Keras layer's weights. The shapes determine the kind of layer.

    Keras's ConvLSTM has ``padding="valid"`` by default, which no Canton map has. The weights do not show it:
    pass those of a layer with ``padding="same"``.

    Args:
        weights: the arrays of ``get_weights()``. The arguments below hold for both layers of a Bidirectional;
            if the two differ, convert each alone and use `join_layers`.
        reset_after: the GRU's argument of that name (default: read from the bias).
        activation: the SimpleRNN's argument of that name.
        dilation_rate: the ConvLSTM's argument of that name. Keras dilates only the input's kernel.

    Raises:
        ValueError: arrays of other shapes, an option that the layer does not have, or a GRU without bias and
            without `reset_after`.
    """
    arrays = [as_tensor(w, f"weights[{k}]") for k, w in enumerate(weights)]
    directions = _directions(arrays)
    gates, spatial_dims = _gates(*arrays[:2]), arrays[1].ndim - 2
    for name, is_given, is_allowed in (
        ("reset_after", reset_after is not None, gates == 3),
        ("activation", activation != "tanh", gates == 1),
        ("dilation_rate", dilation_rate != 1, spatial_dims > 0),
    ):
        if is_given and not is_allowed:
            raise ValueError(f"{name} must be left out for a layer of {gates} gates")
    if spatial_dims and (gates != 4 or spatial_dims > 3):
        raise ValueError(f"weights must be those of a ConvLSTM1D, 2D or 3D, got {tuple(arrays[1].shape)}")
    rate = (dilation_rate,) * spatial_dims if isinstance(dilation_rate, int) else tuple(dilation_rate)

    def cell(x: Tensor, h: Tensor, bias: Tensor | None = None) -> GRUCell | LSTMCell | RNNCell:
        if gates == 3:
            return _gru_cell(x, h, bias, reset_after)
        x, h = from_channels_last(x), from_channels_last(h)
        if gates == 1:
            return rnn_cell(GateMatrices(x, h, bias), activation)
        return lstm_cell(GateMatrices(x, h, bias, None, rate or 1, (1,) * spatial_dims or 1))

    count = len(arrays) // directions
    cells = [cell(*arrays[k : k + count]) for k in range(0, len(arrays), count)]
    layer: GRU | LSTM | RNN = layer_from_cells(cells, bidirectional=directions == 2, batch_first=True)
    return layer


def join_layers(*layers: Recurrent[Any], bidirectional: bool = False) -> Recurrent[Any]:
    """Return one layer of several that were converted alone.

    Args:
        layers: layers of one cell each, all converted like forward ones.
        bidirectional: False: they are stacked, as Keras's StackedRNNCells. True: they are the two layers of a
            Bidirectional with ``merge_mode="concat"``.

    Returns:
        A layer of their class, or a plain `Recurrent` if their settings differ.

    Raises:
        ValueError: they do not fit together.
    """
    cells = [cell for each in layers for cell in plain_cells(each, TARGET)]
    layer: Recurrent[Any] = layer_from_cells(cells, bidirectional=bidirectional, batch_first=True)
    return layer


def to_keras(layer: Recurrent) -> list[numpy.ndarray]:
    """Return the arrays that ``set_weights`` of the Keras layer of the same shape takes.

    It is the inverse of `from_keras`. With ``reset="after"`` the second row of a GRU's bias is -0.0, and b_c
    for the candidate, so that `from_keras` returns the same bits.

    Raises:
        ValueError: Keras has no such layer, or `layer` is a stack (num_layers > 1).
    """
    cells = plain_cells(layer, TARGET)
    if len(cells) != layer.directions:
        raise ValueError(f"layer must have num_layers=1 for {TARGET}, got {len(cells) // layer.directions}")
    check_same_kind(cells, TARGET)
    return [t.cpu().numpy() for cell in cells for t in _arrays(cell)]


def _directions(arrays: list[Tensor]) -> int:
    """Return 1, or 2 if the arrays are those of a Bidirectional layer."""
    if len(arrays) not in (2, 3, 4, 6):
        raise ValueError(f"weights must be 2 or 3 arrays, twice as many if bidirectional, got {len(arrays)}")
    return 1 if len(arrays) < 4 else 2


def _gates(kernel: Tensor, recurrent: Tensor) -> int:
    """Return the number of gates that the two kernels have."""
    fits = kernel.ndim == recurrent.ndim >= 2 and kernel.shape[-1] == recurrent.shape[-1]
    units = recurrent.shape[-2] if fits else 0
    gates = recurrent.shape[-1] // units if units else 0
    if gates not in (1, 3, 4) or gates * units != recurrent.shape[-1]:
        shapes = f"{tuple(kernel.shape)}, {tuple(recurrent.shape)}"
        raise ValueError(
            f"weights must be (in, gates * units) and (units, gates * units), got the shapes {shapes}"
        )
    return gates


def _gru_cell(kernel: Tensor, recurrent: Tensor, bias: Tensor | None, reset_after: bool | None) -> GRUCell:
    if bias is not None:
        rows = 2 if bias.ndim == 2 else 1
        reset_after = rows == 2 if reset_after is None else reset_after
        if rows != 1 + reset_after:
            raise ValueError(
                f"reset_after={reset_after} must have a bias of {1 + reset_after} rows, got {rows}"
            )
    if reset_after is None:
        raise ValueError("reset_after must be given for a GRU without bias, got None")
    candidate_bias = None
    if bias is not None and reset_after:
        input_bias, hidden_bias = bias
        candidate_bias = hidden_bias.chunk(3)[2]
        bias = torch.cat([*(input_bias + hidden_bias).chunk(3)[:2], input_bias.chunk(3)[2]])
    matrices = GateMatrices(
        negate_update_gate(from_channels_last(kernel)),
        negate_update_gate(from_channels_last(recurrent)),
        None if bias is None else negate_update_gate(bias),
        candidate_bias,
    )
    return gru_cell(matrices, reset="after" if reset_after else "before")


def _arrays(cell: Cell) -> list[Tensor]:
    matrices = gate_matrices(cell, TARGET)
    x, h, bias = matrices.input, matrices.hidden, matrices.bias
    if matrices.hidden_dilation not in (1, (1,) * (h.ndim - 2)):
        raise ValueError(f"{TARGET} has no dilation of the recurrent kernel, got {matrices.hidden_dilation}")
    if isinstance(cell, GRUCell):
        if x.ndim > 2:
            raise ValueError(f"{TARGET} has no convolutional GRU")
        x, h = negate_update_gate(x), negate_update_gate(h)
        bias = None if bias is None else negate_update_gate(bias)
        if bias is not None and cell.reset == "after":
            hidden_bias = torch.full_like(bias, NEGATIVE_ZERO)
            if matrices.candidate_bias is not None:
                hidden_bias[2 * cell.hidden_size :] = matrices.candidate_bias
            bias = torch.stack([bias, hidden_bias])
    elif x.shape[2:] != h.shape[2:]:
        raise ValueError(f"{TARGET} has one kernel_size per layer, got {x.shape[2:]} and {h.shape[2:]}")
    elif getattr(cell, "projection", None) is not None:
        raise ValueError(f"{TARGET} has no proj_size > 0")
    elif x.ndim > 2 and isinstance(cell, RNNCell):
        raise ValueError(f"{TARGET} has no convolutional RNN")
    arrays = [to_channels_last(x), to_channels_last(h)]
    return arrays if bias is None else [*arrays, bias]
