"""Keras 3's GRU, LSTM, SimpleRNN and ConvLSTM1D/2D/3D as lists of arrays, both ways; files: `keras_files`.

The arrays are those of ``layer.get_weights()`` and ``set_weights``: kernel, recurrent kernel and, with
use_bias, bias; for a Bidirectional layer the forward ones, then the backward ones. Kernels lie (*kernel_size,
in, gates * units), Canton's (gates * hidden, in, *kernel_size): an axis turn. Gates lie

    GRU       z, r, h       z keeps the old, h' = z h + (1 - z) hh: its sign turns
    LSTM      i, f, c, o    as in Canton (i, f, g, o)

A GRU's bias is (3 units,) with reset_after=False and (2, 3 units) with True: one row for the input, one for
the state. Both rows of z and of r are added into Canton's bias; of the candidate's, the second stands behind
the reset gate, and becomes b_c. Keras sequences are (B, T, C) and (B, T, *space, C); the layers made here
have ``batch_first=True`` and take (B, T, C) and (B, T, C, *space).

Dropout is not carried over: it changes no output of a trained layer; set it anew to train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from canton.cells.gru import GRUCell
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
    tensor,
    turn,
    turn_back,
)

if TYPE_CHECKING:
    import numpy

SYSTEM = "Keras"


def gru(weights: Sequence[Any], *, reset_after: bool | None = None) -> Recurrent:
    """The layer of a Keras GRU's arrays.

    Kernels (in, 3 units) turn to (3 hidden, in); gates lie z, r, h as in Canton; Keras's z keeps the old::

        h' = z h + (1 - z) hh           so z's third of W, U and b changes its sign
        hh = tanh(x W + (r h) U + b)                    reset_after=False: reset="before"
        hh = tanh(x W + b[0] + r (h U + b[1]))          reset_after=True: "after"; b_c is h's third of b[1]

    With True, z's and r's thirds of b[0] and b[1] are added into Canton's bias, which rounds once; all else
    keeps every bit.

    Args:
        weights: as ``get_weights()`` gives them.
        reset_after: Keras's argument of that name (its default is True); None reads it off the bias.

    Raises:
        ValueError: arrays of other shapes, or a bias that belongs to the other kind of reset.
    """

    def make(kernel: Tensor, recurrent: Tensor, bias: Tensor | None) -> Cell:
        after = reset_after
        if bias is None and after is None:
            raise ValueError("weights have no bias to tell the kinds of reset apart: give reset_after")
        if bias is not None:
            after = bias.ndim == 2 if after is None else after
            if bias.ndim == 2 and not after:
                raise ValueError(
                    f"the bias {tuple(bias.shape)} has a row for the state, which stands behind the reset"
                    " gate: a cell with reset_after=False has no place for it"
                )
            if bias.ndim == 1 and after:
                raise ValueError(
                    f"the bias {tuple(bias.shape)} has one row: reset_after=True has one for the"
                    " state as well"
                )
        candidate_bias = None
        if bias is not None and after:
            on_input, on_state = bias
            candidate_bias = on_state.chunk(3)[2]
            bias = torch.cat([*(on_input + on_state).chunk(3)[:2], on_input.chunk(3)[2]])
        halves = Halves(
            turn_z(turn(kernel)),
            turn_z(turn(recurrent)),
            None if bias is None else turn_z(bias),
            candidate_bias,
        )
        return gru_cell(halves, reset="after" if after else "before")

    return _layer(weights, make)


def lstm(weights: Sequence[Any]) -> Recurrent:
    """The layer of a Keras LSTM's arrays.

    Kernels (in, 4 units) turn to (4 hidden, in); gates lie i, f, c, o, Canton's i, f, g, o; the algebra, one
    bias and every bit are the same.

    Raises:
        ValueError: arrays of other shapes.
    """
    return _layer(weights, lambda x, h, bias: lstm_cell(Halves(turn(x), turn(h), bias)))


def simple_rnn(weights: Sequence[Any], *, activation: Literal["tanh", "relu"] = "tanh") -> Recurrent:
    """The layer of a Keras SimpleRNN's arrays; `activation` is "tanh" or "relu".

    h' = act(x W + h U + b): kernels (in, units) turn to (hidden, in), every bit is kept.

    Raises:
        ValueError: arrays of other shapes, or another activation.
    """
    return _layer(weights, lambda x, h, bias: rnn_cell(Halves(turn(x), turn(h), bias), activation))


def conv_lstm(weights: Sequence[Any], *, dilation_rate: int | Sequence[int] = 1) -> Recurrent:
    """The layer of the arrays of a Keras ConvLSTM1D, 2D or 3D that was made with ``padding="same"``.

    Kernels (*kernel_size, in, 4 filters) turn to (4 hidden, in, *kernel_size); gates lie i, f, c, o, Canton's
    i, f, g, o; every bit is kept. Keras dilates the input's kernel alone, never the state's. Its default,
    ``padding="valid"``, makes the state smaller than the image, which no Canton map does; arrays cannot tell
    which it was.

    Args:
        weights: as ``get_weights()`` gives them.
        dilation_rate: Keras's argument of that name.

    Raises:
        ValueError: arrays of other shapes.
    """

    def make(kernel: Tensor, recurrent: Tensor, bias: Tensor | None) -> Cell:
        axes = kernel.ndim - 2
        if not 1 <= axes <= 3:
            raise ValueError(f"the kernel is {tuple(kernel.shape)}: a ConvLSTM's has 3, 4 or 5 axes")
        rate = (dilation_rate,) * axes if isinstance(dilation_rate, int) else tuple(dilation_rate)
        halves = Halves(turn(kernel), turn(recurrent), bias, None, rate, (1,) * axes)
        return lstm_cell(halves)

    return _layer(weights, make)


def to_arrays(layer: Recurrent) -> list[numpy.ndarray]:
    """The arrays that ``set_weights`` of the Keras layer of the same shape takes.

    What `gru`, `lstm`, `simple_rnn` and `conv_lstm` do, backwards: weights (gates * hidden, in, *kernel_size)
    turn to (*kernel_size, in, gates * hidden), a GRU's z changes its sign. For a GRU with ``reset="after"``
    the bias's second row is -0.0 (nothing to add) but for the candidate, so that `gru` gives back every bit.

    Raises:
        ValueError: Keras has no such layer; a stack is one Keras layer for each of its own.
    """
    cells = cells_of(layer, SYSTEM)
    if len(cells) != layer.directions:
        raise ValueError(
            f"the layer has {len(cells) // layer.directions} layers: a Keras layer is one; convert one by one"
        )
    alike(cells, SYSTEM)
    return [t.cpu().numpy() for cell in cells for t in _tensors(cell)]


def turn_z(t: Tensor) -> Tensor:
    """Between a z that keeps the old and one that takes the new: z's third changes sign."""
    z, r, c = t.chunk(3)
    return torch.cat([-z, r, c])


def _tensors(cell: Cell) -> list[Tensor]:
    halves = take_apart(cell, SYSTEM)
    if any(d != 1 for d in _numbers(halves.hidden_dilation)):
        raise ValueError("the cell dilates the kernel of its state, which Keras does not do")
    x, h, bias = halves.x, halves.h, halves.bias
    if isinstance(cell, GRUCell):
        if x.ndim > 2:
            raise ValueError("the layer is a convolutional GRU, which Keras does not have")
        x, h, bias = turn_z(x), turn_z(h), None if bias is None else turn_z(bias)
        if bias is not None and cell.reset == "after":
            on_state = torch.full_like(bias, NOTHING)
            if halves.candidate_bias is not None:
                on_state[2 * cell.hidden_size :] = halves.candidate_bias
            bias = torch.stack([bias, on_state])
    elif x.shape[2:] != h.shape[2:]:
        raise ValueError("the cell's two kernels differ in size, which Keras does not have")
    elif getattr(cell, "projection", None) is not None:
        raise ValueError("the cell has proj_size > 0, which Keras does not have")
    elif x.ndim > 2 and x.shape[0] == h.shape[1]:
        raise ValueError("the layer is a plain convolutional RNN, which Keras does not have")
    arrays = [turn_back(x), turn_back(h)]
    return arrays if bias is None else [*arrays, bias]


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _layer(weights: Sequence[Any], make: Any) -> Recurrent:
    arrays = [tensor(w, f"weights[{k}]") for k, w in enumerate(weights)]
    sizes = {2: (1, False), 3: (1, True), 4: (2, False), 6: (2, True)}
    if len(arrays) not in sizes:
        raise ValueError(
            f"weights has {len(arrays)} arrays: a Keras layer has kernel, recurrent kernel and perhaps bias,"
            " a Bidirectional one twice as many"
        )
    directions, bias = sizes[len(arrays)]
    each = len(arrays) // directions
    cells = [
        make(*arrays[k : k + 2], arrays[k + 2] if bias else None) for k in range(0, directions * each, each)
    ]
    return Recurrent(cells, bidirectional=directions == 2, batch_first=True)
