"""Conversion from and to torch.nn.GRU, LSTM and RNN, with all their options.

torch.nn stacks a GRU's gates in the order r, z, n, and its z weights the old value::

    h' = (1 - z) n + z h          Canton: h' = (1 - z) h + z c

So the weights and biases of z are negated and moved, and n is Canton's c. LSTM gates have Canton's order (i,
f, g, o). torch.nn has two biases per gate. Canton has their sum b_ih + b_hh, except for the GRU's candidate:
there b_hh is multiplied by the reset gate, c = tanh(W x + b_ih + r (U h + b_hh)), and becomes b_c.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRU, GRUCell
from canton.cells.lstm import LSTM, LSTMCell
from canton.cells.rnn import RNN, RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import (
    NEGATIVE_ZERO,
    GateMatrices,
    check_same_kind,
    gate_matrices,
    gru_cell,
    layer_from_cells,
    lstm_cell,
    plain_cells,
    rnn_cell,
)

_TARGET = "torch.nn"


def from_torch(module: nn.RNNBase) -> GRU | LSTM | RNN:
    """Return the Canton layer that computes what `module` computes.

    Layers, directions, proj_size, bias, batch_first, dropout, dtype, device and the training flag are the
    same. A torch.nn.GRU becomes a GRU with ``reset="after"``. Weights and b_c are exact; the sum of two
    biases is rounded once.

    Args:
        module: a torch.nn.GRU, LSTM or RNN.

    Raises:
        ValueError: `module` is of another type.
    """
    if not isinstance(module, (nn.GRU, nn.LSTM, nn.RNN)):
        raise ValueError(f"module must be a torch.nn.GRU, LSTM or RNN, got a {type(module).__name__}")
    directions = ("", "_reverse") if module.bidirectional else ("",)
    cells = [_cell(module, f"_l{k}{suffix}") for k in range(module.num_layers) for suffix in directions]
    layer: GRU | LSTM | RNN = layer_from_cells(
        cells,
        bidirectional=module.bidirectional,
        batch_first=module.batch_first,
        dropout=module.dropout,
    )
    return layer.train(module.training)


def to_torch(layer: Recurrent) -> nn.GRU | nn.LSTM | nn.RNN:
    """Return the torch.nn layer that computes what `layer` computes: the inverse of `from_torch`.

    b_ih is Canton's bias, b_hh is -0.0, and b_c for a GRU's n. So `from_torch` returns the same bits.

    Raises:
        ValueError: torch.nn has no such layer (a convolution, ``reset="before"``, layer normalisation, ...).
    """
    cells = plain_cells(layer, _TARGET)
    check_same_kind(cells, _TARGET)
    matrices = [gate_matrices(cell, _TARGET) for cell in cells]
    first = cells[0]
    if matrices[0].input.ndim > 2:
        raise ValueError("torch.nn has no convolutional layer")
    if isinstance(first, GRUCell) and first.reset == "before":
        raise ValueError("torch.nn has no GRU with reset='before'")
    options: dict[str, Any] = {
        "input_size": first.input_size,
        "hidden_size": first.hidden_size,
        "num_layers": len(cells) // layer.directions,
        "bias": matrices[0].bias is not None,
        "batch_first": layer.batch_first,
        "dropout": layer.dropout,
        "bidirectional": layer.directions == 2,
        "dtype": matrices[0].input.dtype,
    }
    module: nn.GRU | nn.LSTM | nn.RNN
    with torch.device("meta"):  # draws no random numbers
        if isinstance(first, GRUCell):
            module = nn.GRU(**options)
        elif isinstance(first, LSTMCell):
            module = nn.LSTM(proj_size=0 if first.projection is None else first.state_sizes[0], **options)
        else:
            assert isinstance(first, RNNCell)
            module = nn.RNN(nonlinearity=first.nonlinearity, **options)
    module = module.to_empty(device=matrices[0].input.device)
    for k, (cell, each) in enumerate(zip(cells, matrices, strict=True)):
        suffix = "_reverse" if k % layer.directions else ""
        _set_weights(module, f"_l{k // layer.directions}{suffix}", cell, each)
    return module.train(layer.training)


def _cell(module: nn.RNNBase, name: str) -> GRUCell | LSTMCell | RNNCell:
    x, h = getattr(module, f"weight_ih{name}").detach(), getattr(module, f"weight_hh{name}").detach()
    bias = candidate_bias = None
    if module.bias:
        b_x, b_h = getattr(module, f"bias_ih{name}").detach(), getattr(module, f"bias_hh{name}").detach()
        bias = b_x + b_h
        if isinstance(module, nn.GRU):
            gates = 2 * module.hidden_size
            candidate_bias = b_h[gates:]
            bias = torch.cat([bias[:gates], b_x[gates:]])
    if isinstance(module, nn.GRU):
        bias = None if bias is None else _rzn_to_zrc(bias)
        return gru_cell(GateMatrices(_rzn_to_zrc(x), _rzn_to_zrc(h), bias, candidate_bias), reset="after")
    matrices = GateMatrices(x, h, bias)
    if isinstance(module, nn.LSTM):
        projection = getattr(module, f"weight_hr{name}").detach() if module.proj_size else None
        return lstm_cell(matrices, projection)
    return rnn_cell(matrices, "relu" if module.nonlinearity == "relu" else "tanh")


@torch.no_grad()
def _set_weights(module: nn.RNNBase, name: str, cell: Cell, matrices: GateMatrices) -> None:
    x, h, bias = matrices.input, matrices.hidden, matrices.bias
    if isinstance(module, nn.GRU):
        x, h, bias = _zrc_to_rzn(x), _zrc_to_rzn(h), None if bias is None else _zrc_to_rzn(bias)
    getattr(module, f"weight_ih{name}").copy_(x)
    getattr(module, f"weight_hh{name}").copy_(h)
    if bias is not None:
        getattr(module, f"bias_ih{name}").copy_(bias)
        hidden_bias = getattr(module, f"bias_hh{name}").fill_(NEGATIVE_ZERO)
        if matrices.candidate_bias is not None:
            hidden_bias[2 * module.hidden_size :] = matrices.candidate_bias
    if isinstance(cell, LSTMCell) and cell.projection is not None:
        getattr(module, f"weight_hr{name}").copy_(cell.projection.weight)


def _rzn_to_zrc(t: Tensor) -> Tensor:
    r, z, n = t.chunk(3)
    return torch.cat([-z, r, n])


def _zrc_to_rzn(t: Tensor) -> Tensor:
    z, r, c = t.chunk(3)
    return torch.cat([r, -z, c])
