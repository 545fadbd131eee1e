"""torch.nn.GRU, LSTM and RNN: all their options, both ways.

torch.nn stacks a GRU's gates in the order r, z, n and its z keeps the old value::

    h' = (1 - z) n + z h          Canton: h' = (1 - z) h + z c

so z, weights and biases, changes its sign and its place; n is Canton's c. LSTM gates lie as in Canton (i, f,
g, o). torch.nn has two biases where one would do: b_ih + b_hh is Canton's bias, except for the GRU's
candidate, whose b_hh stands behind the reset gate, c = tanh(W x + b_ih + r (U h + b_hh)), and stays by
itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRUCell
from canton.cells.lstm import LSTMCell
from canton.cells.rnn import RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import (
    NOTHING,
    Halves,
    alike,
    cells_of,
    gru_cell,
    lstm_cell,
    rnn_cell,
    take_apart,
)

SYSTEM = "torch.nn"


def from_torch(module: nn.RNNBase) -> Recurrent:
    """A Canton layer that computes what `module` (torch.nn.GRU, LSTM or RNN) computes.

    Layers, directions, proj_size, bias, batch_first, dropout, dtype, device and the training flag come over.
    A GRU becomes one with ``reset="after"``: its gates r, z, n become Canton's z, r, c::

        h' = (1 - z) n + z h, n = tanh(W x + b_in + r (U h + b_hn))

    so W_z, U_z and b_z change their sign, and b_hn is b_c. An LSTM's i, f, g, o and its projection, and an
    RNN's weights, lie as they are. Otherwise the two biases are added into one, b_ih + b_hh: W, U and b_hn
    keep every bit, the others are rounded once.

    Raises:
        ValueError: `module` is something else.
    """
    if not isinstance(module, (nn.GRU, nn.LSTM, nn.RNN)):
        raise ValueError(f"module is a {type(module).__name__}: it is a torch.nn.GRU, LSTM or RNN")
    directions = ("", "_reverse") if module.bidirectional else ("",)
    cells = [_cell(module, f"_l{k}{way}") for k in range(module.num_layers) for way in directions]
    layer = Recurrent(
        cells,
        bidirectional=module.bidirectional,
        batch_first=module.batch_first,
        dropout=module.dropout,
    )
    return layer.train(module.training)


def to_torch(layer: Recurrent) -> nn.GRU | nn.LSTM | nn.RNN:
    """The torch.nn layer that computes what `layer` computes.

    What `from_torch` does, backwards: a GRU's z, r, c become r, z, n with the sign of z turned. b_ih takes
    Canton's bias and b_hh is -0.0 (nothing to add), but for a GRU's n, where it is b_c; so `from_torch` gives
    back every bit.

    Raises:
        ValueError: torch.nn has no such layer (a convolution, ``reset="before"``, layer normalisation, ...).
    """
    cells = cells_of(layer, SYSTEM)
    alike(cells, SYSTEM)
    halves = [take_apart(cell, SYSTEM) for cell in cells]
    first = cells[0]
    if halves[0].x.ndim > 2:
        raise ValueError("the layer is convolutional, which torch.nn does not have")
    if isinstance(first, GRUCell) and first.reset == "before":
        raise ValueError(
            "the GRU resets before the map, torch.nn's after it: no weights make one compute the other"
        )
    shape: dict[str, Any] = {
        "input_size": first.input_size,
        "hidden_size": first.hidden_size,
        "num_layers": len(cells) // layer.directions,
        "bias": halves[0].bias is not None,
        "batch_first": layer.batch_first,
        "dropout": layer.dropout,
        "bidirectional": layer.directions == 2,
        "dtype": halves[0].x.dtype,
    }
    module: nn.GRU | nn.LSTM | nn.RNN
    with torch.device("meta"):  # no numbers are drawn: the caller's random generator stays as it is
        if isinstance(first, GRUCell):
            module = nn.GRU(**shape)
        elif isinstance(first, LSTMCell):
            module = nn.LSTM(proj_size=0 if first.projection is None else first.state_sizes[0], **shape)
        else:
            assert isinstance(first, RNNCell)
            module = nn.RNN(nonlinearity=first.nonlinearity, **shape)
    module = module.to_empty(device=halves[0].x.device)
    for k, (cell, half) in enumerate(zip(cells, halves, strict=True)):
        way = "_reverse" if k % layer.directions else ""
        _fill(module, f"_l{k // layer.directions}{way}", cell, half)
    return module.train(layer.training)


def _cell(module: nn.RNNBase, name: str) -> Cell:
    x, h = getattr(module, f"weight_ih{name}").detach(), getattr(module, f"weight_hh{name}").detach()
    bias = candidate_bias = None
    if module.bias:
        b_x, b_h = getattr(module, f"bias_ih{name}").detach(), getattr(module, f"bias_hh{name}").detach()
        bias = b_x + b_h
        if isinstance(module, nn.GRU):
            hidden = module.hidden_size
            candidate_bias = b_h[2 * hidden :]
            bias = torch.cat([bias[: 2 * hidden], b_x[2 * hidden :]])
    if isinstance(module, nn.GRU):
        bias = None if bias is None else _from_rzn(bias)
        return gru_cell(Halves(_from_rzn(x), _from_rzn(h), bias, candidate_bias), reset="after")
    halves = Halves(x, h, bias)
    if isinstance(module, nn.LSTM):
        return lstm_cell(halves, getattr(module, f"weight_hr{name}").detach() if module.proj_size else None)
    return rnn_cell(halves, "relu" if module.nonlinearity == "relu" else "tanh")


@torch.no_grad()
def _fill(module: nn.RNNBase, name: str, cell: Cell, halves: Halves) -> None:
    x, h, bias, candidate_bias = halves[:4]
    if isinstance(module, nn.GRU):
        x, h, bias = _to_rzn(x), _to_rzn(h), None if bias is None else _to_rzn(bias)
    getattr(module, f"weight_ih{name}").copy_(x)
    getattr(module, f"weight_hh{name}").copy_(h)
    if bias is not None:
        getattr(module, f"bias_ih{name}").copy_(bias)
        second = getattr(module, f"bias_hh{name}").fill_(NOTHING)
        if candidate_bias is not None:
            second[2 * module.hidden_size :] = candidate_bias
    if isinstance(cell, LSTMCell) and cell.projection is not None:
        getattr(module, f"weight_hr{name}").copy_(cell.projection.weight)


def _from_rzn(t: Tensor) -> Tensor:
    r, z, n = t.chunk(3)
    return torch.cat([-z, r, n])


def _to_rzn(t: Tensor) -> Tensor:
    z, r, c = t.chunk(3)
    return torch.cat([r, -z, c])
