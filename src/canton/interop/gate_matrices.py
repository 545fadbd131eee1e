"""Weights of a cell as plain tensors, the common format of all conversions.

Canton orders gates z, r, c (GRU) and i, f, g, o (LSTM), and its z weights the new value. In most
other systems z weights the old value. sigmoid(-a) = 1 - sigmoid(a), so negating the weights and
biases of z converts one into the other without rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from canton import maps
from canton.cells.conv import (
    ConvGRU1d,
    ConvGRU2d,
    ConvGRU3d,
    ConvLSTM1d,
    ConvLSTM2d,
    ConvLSTM3d,
    ConvRNN1d,
    ConvRNN2d,
    ConvRNN3d,
)
from canton.cells.gru import GRU, GRUCell
from canton.cells.lstm import LSTM, LSTMCell
from canton.cells.rnn import RNN, RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.errors import require
from canton.maps import Map

NEGATIVE_ZERO = -0.0
"""A bias that leaves another bias unchanged: b + -0.0 is b, also for b = -0.0."""

_GRUS: tuple[Any, ...] = (GRU, ConvGRU1d, ConvGRU2d, ConvGRU3d)  # by the number of spatial axes
_LSTMS: tuple[Any, ...] = (LSTM, ConvLSTM1d, ConvLSTM2d, ConvLSTM3d)
_RNNS: tuple[Any, ...] = (RNN, ConvRNN1d, ConvRNN2d, ConvRNN3d)


class GateMatrices(NamedTuple):
    """The weights of one cell, gates stacked on the first axis. A convolution's kernel axes come last.

    Attributes:
        input: (gates * hidden, input channels), applied to the input.
        hidden: (gates * hidden, state channels), applied to the state.
        bias: (gates * hidden,), or None.
        candidate_bias: (hidden,), b_c of a GRU with ``reset="after"``, or None.
        input_dilation, hidden_dilation: distance between kernel taps.
    """

    input: Tensor
    hidden: Tensor
    bias: Tensor | None
    candidate_bias: Tensor | None = None
    input_dilation: int | tuple[int, ...] = 1
    hidden_dilation: int | tuple[int, ...] = 1


def as_tensor(array: Any, name: str) -> Tensor:
    """Return a tensor with a copy of an array.

    Args:
        array: a tensor, or anything that NumPy can convert.
        name: its name in the error message.

    Raises:
        ValueError: the type is not floating point.
    """
    if isinstance(array, Tensor):
        copy = array.detach().clone()
    else:
        numpy = require("numpy", extra="weights")
        copy = torch.from_numpy(numpy.array(array))
    if not copy.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {copy.dtype}")
    return copy


def from_channels_last(kernel: Tensor) -> Tensor:
    """Convert (*kernel, in, out) to Canton's (out, in, *kernel)."""
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def to_channels_last(weight: Tensor) -> Tensor:
    """Convert Canton's (out, in, *kernel) to (*kernel, in, out)."""
    return weight.movedim((0, 1), (-1, -2)).contiguous()


def negate_update_gate(t: Tensor) -> Tensor:
    """Negate z in stacked gates z, r, c: convert between weighting the old and the new value."""
    z, r, c = t.chunk(3)
    return torch.cat([-z, r, c])


def stack_gates(weights: Sequence[Tensor]) -> Tensor:
    """Stack the weights of several gates on the output axis.

    Raises:
        ValueError: they differ in input channels or kernel size.
    """
    if len({weight.shape[1:] for weight in weights}) > 1:
        shapes = ", ".join(str(tuple(weight.shape)) for weight in weights)
        raise ValueError(f"weights must have equal shapes except for the output axis, got {shapes}")
    return torch.cat(list(weights))


def gru_cell(matrices: GateMatrices, *, reset: Literal["before", "after"]) -> GRUCell:
    """Return the GRU cell with these weights; `reset` as in `GRUCell`."""
    check_shapes(matrices, gates=3)
    input_size, hidden_size = matrices.input.shape[1], matrices.hidden.shape[1]
    with torch.device("meta"):  # draws no random numbers
        cell = GRUCell(
            input_size, hidden_size, matrices.bias is not None, reset=reset, map=_hidden_map(matrices)
        )
        _set_input_map(cell, matrices)
    gates, candidate = matrices.hidden.split((2 * hidden_size, hidden_size))
    _set_weights(cell.input_map, matrices.input, matrices.bias)
    _set_weights(cell.hidden_map, gates)
    _set_weights(cell.candidate_map, candidate, matrices.candidate_bias)
    return cell


def lstm_cell(
    matrices: GateMatrices, projection: Tensor | None = None, *, peephole: Tensor | None = None
) -> LSTMCell:
    """Return the LSTM cell with these weights.

    Args:
        matrices: the weights of the two maps.
        projection: (proj_size, hidden).
        peephole: (3, hidden), for i, f and o.

    Raises:
        ValueError: the shapes do not fit together.
    """
    proj_size = 0 if projection is None else projection.shape[0]
    check_shapes(matrices, gates=4, state_size=proj_size)
    hidden_size = matrices.input.shape[0] // 4
    if projection is not None and projection.shape != (proj_size, hidden_size):
        raise ValueError(
            f"projection must be (proj_size, {hidden_size}), got the shape {tuple(projection.shape)}"
        )
    with torch.device("meta"):
        cell = LSTMCell(
            matrices.input.shape[1],
            hidden_size,
            matrices.bias is not None,
            proj_size=proj_size,
            map=_hidden_map(matrices),
        )
        _set_input_map(cell, matrices)
    _set_weights(cell.input_map, matrices.input, matrices.bias)
    _set_weights(cell.hidden_map, matrices.hidden)
    if projection is not None and cell.projection is not None:
        _set_weights(cell.projection, projection)
    if peephole is not None:
        if peephole.shape != (3, hidden_size):
            raise ValueError(f"peephole must be (3, {hidden_size}), got the shape {tuple(peephole.shape)}")
        cell.peephole = nn.Parameter(peephole.detach().clone())
    return cell


def rnn_cell(matrices: GateMatrices, nonlinearity: Literal["tanh", "relu"]) -> RNNCell:
    """Return the RNN cell with these weights; `nonlinearity` as in `RNNCell`."""
    check_shapes(matrices, gates=1)
    input_size, hidden_size = matrices.input.shape[1], matrices.hidden.shape[1]
    with torch.device("meta"):
        cell = RNNCell(
            input_size, hidden_size, matrices.bias is not None, nonlinearity, map=_hidden_map(matrices)
        )
        _set_input_map(cell, matrices)
    _set_weights(cell.input_map, matrices.input, matrices.bias)
    _set_weights(cell.hidden_map, matrices.hidden)
    return cell


def layer_from_cells(
    cells: Sequence[Cell],
    *,
    bidirectional: bool = False,
    batch_first: bool = False,
    dropout: float = 0.0,
) -> Any:
    """Return the public layer of these cells, such as a `canton.GRU` or a `canton.ConvLSTM2d`.

    Cells that differ in more than their weights become a plain `Recurrent`.

    Args:
        cells: one per layer and direction, as `Recurrent` takes them.
        bidirectional, batch_first, dropout: see `Recurrent`.
    """
    first = cells[0]
    if len({_settings(cell) for cell in cells}) > 1:
        return Recurrent(cells, bidirectional=bidirectional, batch_first=batch_first, dropout=dropout)
    own: dict[str, Any]
    if isinstance(first, GRUCell):
        kinds, own = _GRUS, {"reset": first.reset}
    elif isinstance(first, LSTMCell):
        kinds, own = _LSTMS, {"proj_size": 0 if first.projection is None else first.state_sizes[0]}
    else:
        assert isinstance(first, RNNCell)
        kinds, own = _RNNS, {"nonlinearity": first.nonlinearity}
    hidden_map = first.hidden_map
    if isinstance(hidden_map, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        own |= {"kernel_size": hidden_map.kernel_size, "dilation": hidden_map.dilation}
    with torch.device("meta"):
        layer = kinds[first.spatial_dims or 0](
            first.input_size,
            first.hidden_size,
            num_layers=len(cells) // (1 + bidirectional),
            bias=first.bias,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            **own,
        )
    layer.cells = nn.ModuleList(cells)
    return layer


def gate_matrices(cell: Cell, target: str, *, peephole: bool = False) -> GateMatrices:
    """Return the weights of a GRU, LSTM or RNN cell over a dense map or a plain convolution.

    Args:
        cell: the caller converts its projection and its peepholes.
        target: the other system's name, for the message.
        peephole: whether the other system has peepholes.

    Raises:
        ValueError: the cell has an option that the other system does not have.
    """
    if type(cell) not in (GRUCell, LSTMCell, RNNCell):  # a subclass may compute something else
        raise ValueError(f"{target} has no {type(cell).__name__}")
    assert isinstance(cell, (GRUCell, LSTMCell, RNNCell))
    if cell.input_norm is not None:
        raise ValueError(f"{target} has no layer_norm=True")
    if isinstance(cell, LSTMCell) and cell.peephole is not None and not peephole:
        raise ValueError(f"{target} has no peephole=True")
    input_weight, bias, input_dilation = _plain_weights(cell.input_map, target)
    hidden_weight, hidden_bias, hidden_dilation = _plain_weights(cell.hidden_map, target)
    candidate_bias = None
    if isinstance(cell, GRUCell):
        candidate, candidate_bias, _ = _plain_weights(cell.candidate_map, target)
        hidden_weight = torch.cat([hidden_weight, candidate])
        if cell.reset == "before" and candidate_bias is not None:
            hidden_bias = candidate_bias
    if hidden_bias is not None:
        raise ValueError(f"{target} has no bias in hidden_map: add it to the bias of input_map")
    return GateMatrices(input_weight, hidden_weight, bias, candidate_bias, input_dilation, hidden_dilation)


def plain_cells(layer: Recurrent, target: str) -> list[Cell]:
    """Return the cells of a layer without options of its own.

    Raises:
        ValueError: it has zoneout, recurrent dropout or a learned initial state.
    """
    for name in ("zoneout", "recurrent_dropout"):
        if getattr(layer, name):
            raise ValueError(f"{target} has no {name}, got {name}={getattr(layer, name)}")
    if len(layer.initial):
        raise ValueError(f"{target} has no learn_initial_state=True")
    return [cell for cell in layer.cells if isinstance(cell, Cell)]


def check_same_kind(cells: Sequence[Cell], target: str) -> None:
    """Check that `cells` differ only in their weights.

    Raises:
        ValueError: they differ in class, options or kernel size.
    """
    first, *others = [_kind(cell, target) for cell in cells]
    for k, kind in enumerate(others, 1):
        if kind != first:
            found = f"cells[0] = {' '.join(map(str, first))}, cells[{k}] = {' '.join(map(str, kind))}"
            raise ValueError(f"the cells of a layer must be of one kind in {target}, got {found}")


def check_shapes(matrices: GateMatrices, *, gates: int, state_size: int = 0) -> None:
    """Check that the weights are those of a cell.

    Args:
        matrices: the weights.
        gates: number of gates stacked in them.
        state_size: channels of the state (default: a gate's channels).

    Raises:
        ValueError: the shapes do not fit together.
    """
    x, h, bias = matrices.input, matrices.hidden, matrices.bias
    fits = x.ndim == h.ndim >= 2 and x.shape[0] == h.shape[0] and x.shape[0] % gates == 0
    fits = fits and h.shape[1] == (state_size or x.shape[0] // gates)
    if not fits or (bias is not None and bias.shape != x.shape[:1]):
        shapes = f"{tuple(x.shape)}, {tuple(h.shape)}" + ("" if bias is None else f", {tuple(bias.shape)}")
        raise ValueError(f"weights must be those of a cell of {gates} gates, got the shapes {shapes}")


def _settings(cell: Cell) -> tuple[object, ...]:
    """Return what the constructor of a public layer sets for all its cells."""
    return (cell.state_sizes, *_kind(cell, "a layer"))


def _kind(cell: Cell, target: str) -> tuple[object, ...]:
    options = [f"{name}={getattr(cell, name)!r}" for name in ("reset", "nonlinearity") if hasattr(cell, name)]
    matrices = gate_matrices(cell, target, peephole=True)
    if getattr(cell, "peephole", None) is not None:
        options.append("peephole=True")
    sizes = (*matrices.input.shape[2:], *matrices.hidden.shape[2:])
    kernels = (*sizes, matrices.input_dilation, matrices.hidden_dilation) if sizes else ()
    return (type(cell).__name__, *options, f"bias={matrices.bias is not None}", *kernels)


def _map_of(weight: Tensor, dilation: int | tuple[int, ...]) -> Map:
    if weight.ndim == 2:
        return maps.dense
    conv = (maps.conv1d, maps.conv2d, maps.conv3d)[weight.ndim - 3]
    return conv(tuple(weight.shape[2:]), dilation=dilation)


def _hidden_map(matrices: GateMatrices) -> Map:
    return _map_of(matrices.hidden, matrices.hidden_dilation)


def _set_input_map(cell: Cell, matrices: GateMatrices) -> None:
    """Replace the input map if its kernel size or dilation is not that of the hidden map."""
    x, h = matrices.input, matrices.hidden
    if x.shape[2:] != h.shape[2:] or matrices.input_dilation != matrices.hidden_dilation:
        cell.input_map = _map_of(x, matrices.input_dilation)(
            x.shape[1], x.shape[0], matrices.bias is not None
        )


def _set_weights(module: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    module.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone())


def _plain_weights(module: nn.Module, target: str) -> tuple[Tensor, Tensor | None, int | tuple[int, ...]]:
    """Return weight, bias and dilation of a dense map or an ungrouped, zero-padded convolution."""
    if type(module) is nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach(), 1
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        if module.groups != 1 or module.padding_mode != "zeros":
            found = f"groups={module.groups}, padding_mode={module.padding_mode!r}"
            raise ValueError(f"{target} has no recurrent convolution with {found}")
        return module.weight.detach(), None if module.bias is None else module.bias.detach(), module.dilation
    raise ValueError(f"{target} has no map of type {type(module).__name__}")
