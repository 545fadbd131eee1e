"""Layers whose arguments and results are torch.nn's: short ways to a `Recurrent` of the right cells.

``GRU(8, 16)`` for sequences of vectors, ``ConvGRU2d(8, 16, 3)`` for video; every one returns a `Recurrent`.
``GRU(8, 16, map=your_map)`` is the same for a map of your own. The first seven arguments are torch.nn's (a
convolutional layer has its kernel size third); what the others mean is told at `Recurrent` and at the cells.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch

from canton.cell import Cell
from canton.cells import GRUCell, MGUCell, MinGRUCell, RNNCell
from canton.lstm import LSTMCell
from canton.maps import Map, dense
from canton.recurrent import Recurrent

Device = torch.device | str | None


def _stack(
    make: Callable[[int], Cell],
    input_size: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    bidirectional: bool,
    recurrent_dropout: float,
    zoneout: float,
    learn_initial_state: bool,
    kernel: str,
    recompute: bool,
    device: Device,
    dtype: torch.dtype | None,
) -> Recurrent:
    if num_layers < 1:
        raise ValueError(f"num_layers is {num_layers}: it is a whole number >= 1")
    directions = 2 if bidirectional else 1
    with nullcontext() if device is None else torch.device(device):
        cells = [make(input_size) for _ in range(directions)]
        between = directions * cells[0].state_sizes[0]
        cells += [make(between) for _ in range(directions * (num_layers - 1))]
        layers = Recurrent(
            cells,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            kernel=kernel,
            recompute=recompute,
        )
    return layers.to(dtype=dtype)


def GRU(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    *,
    reset: str = "before",
    map: Map = dense,
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Gated recurrent layers.

    ``reset="before"`` is the article's GRU, ``reset="after"`` the function of torch.nn.GRU; see `GRUCell`.

    Example:
        >>> ys, h_n = GRU(8, 16)(torch.randn(5, 2, 8))
        >>> ys.shape, h_n.shape
        (torch.Size([5, 2, 16]), torch.Size([1, 2, 16]))
    """

    def make(c_in: int) -> Cell:
        return GRUCell(c_in, hidden_size, bias, reset=reset, map=map, layer_norm=layer_norm)

    return _stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )


def LSTM(
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
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Long short-term memory layers; their state is the pair (h_n, c_n). See `LSTMCell`.

    With ``proj_size`` > 0 the outputs and h_n have proj_size channels, as in torch.nn.LSTM.
    """

    def make(c_in: int) -> Cell:
        return LSTMCell(
            c_in,
            hidden_size,
            bias,
            proj_size=proj_size,
            peephole=peephole,
            forget_bias=forget_bias,
            map=map,
            layer_norm=layer_norm,
        )

    return _stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )


def RNN(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    nonlinearity: str = "tanh",
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    *,
    map: Map = dense,
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Plain recurrent layers, tanh or relu, arguments in torch.nn.RNN's order. See `RNNCell`."""

    def make(c_in: int) -> Cell:
        return RNNCell(c_in, hidden_size, bias, nonlinearity, map=map, layer_norm=layer_norm)

    return _stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )


def MGU(
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
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Minimal gated layers; ``gate_input=False, reset=False`` is the 2017 Canton's GRU2. See `MGUCell`."""

    def make(c_in: int) -> Cell:
        return MGUCell(
            c_in, hidden_size, bias, gate_input=gate_input, reset=reset, map=map, layer_norm=layer_norm
        )

    return _stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )


def MinGRU(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    *,
    map: Map = dense,
    layer_norm: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    learn_initial_state: bool = False,
    kernel: str = "auto",
    recompute: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Recurrent:
    """Layers whose gates do not see the state, computed for all time steps at once. See `MinGRUCell`."""

    def make(c_in: int) -> Cell:
        return MinGRUCell(c_in, hidden_size, bias, map=map, layer_norm=layer_norm)

    return _stack(
        make,
        input_size,
        num_layers,
        batch_first,
        dropout,
        bidirectional,
        recurrent_dropout,
        zoneout,
        learn_initial_state,
        kernel,
        recompute,
        device,
        dtype,
    )
