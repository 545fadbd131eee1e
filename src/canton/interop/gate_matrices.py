"""A cell taken apart into plain tensors and put together from them: what every conversion goes through.

Here, as everywhere in Canton, gates lie in the order z, r, c (GRU) and i, f, g, o (LSTM), and z takes the
new. Most other systems' z keeps the old. sigmoid(-a) = 1 - sigmoid(a), so the one is the other with the sign
of its weights and biases turned, and turning a sign loses no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from canton import maps
from canton.cells.gru import GRUCell
from canton.cells.lstm import LSTMCell
from canton.cells.rnn import RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.errors import require
from canton.maps import Map

NOTHING = -0.0
"""What a bias is filled with that must not change its partner: b + -0.0 is b for every b, -0.0 included."""


class Halves(NamedTuple):
    """The weights of one cell: (gates * hidden, channels), and a kernel's axes behind them for a convolution.

    Attributes:
        x: the half that sees the input.
        h: the half that sees the state.
        bias: (gates * hidden,), or None.
        candidate_bias: (hidden,), the b_c of a GRU with ``reset="after"``, or None.
        dilation: pixels between the taps of x; those of h have `hidden_dilation`.
    """

    x: Tensor
    h: Tensor
    bias: Tensor | None
    candidate_bias: Tensor | None = None
    dilation: int | tuple[int, ...] = 1
    hidden_dilation: int | tuple[int, ...] = 1


def tensor(array: Any, name: str) -> Tensor:
    """A copy of any system's array of floating numbers.

    Raises:
        ValueError: it holds something else.
    """
    if isinstance(array, Tensor):
        made = array.detach().clone()
    else:
        numpy = require("numpy", extra="weights")
        made = torch.from_numpy(numpy.array(array))
    if not made.is_floating_point():
        raise ValueError(f"{name} holds {made.dtype}: weights are floating numbers")
    return made


def turn(kernel: Tensor) -> Tensor:
    """From channels-last (*kernel, c_in, out) to Canton's (out, c_in, *kernel)."""
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def turn_back(weight: Tensor) -> Tensor:
    """From Canton's (out, c_in, *kernel) to channels-last (*kernel, c_in, out)."""
    return weight.movedim((0, 1), (-1, -2)).contiguous()


def stack(parts: Sequence[Tensor]) -> Tensor:
    """The weights of several gates as those of one map, outputs first.

    Raises:
        ValueError: they see different channels, or through kernels of different sizes.
    """
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"the weights of the gates have the shapes {shapes}: they differ in outputs alone")
    return torch.cat(list(parts))


def gru_cell(halves: Halves, *, reset: Literal["before", "after"]) -> GRUCell:
    """The cell of these weights; `reset` as in `GRUCell`."""
    _check(halves, gates=3)
    c_in, hidden = halves.x.shape[1], halves.h.shape[1]
    with torch.device("meta"):  # no numbers are drawn: the caller's random generator stays as it is
        cell = GRUCell(c_in, hidden, halves.bias is not None, reset=reset, map=_hidden_map(halves))
        _give_input_map(cell, halves)
    gates, candidate = halves.h.split((2 * hidden, hidden))
    _fill(cell.input_map, halves.x, halves.bias)
    _fill(cell.hidden_map, gates)
    _fill(cell.candidate_map, candidate, halves.candidate_bias)
    return cell


def lstm_cell(halves: Halves, projection: Tensor | None = None) -> LSTMCell:
    """The cell of these weights; `projection` is (proj_size, hidden)."""
    proj_size = 0 if projection is None else projection.shape[0]
    _check(halves, gates=4, seen=proj_size)
    if projection is not None and projection.shape != (proj_size, halves.x.shape[0] // 4):
        raise ValueError(
            f"the projection is {tuple(projection.shape)}: it sees {halves.x.shape[0] // 4} units"
        )
    with torch.device("meta"):
        cell = LSTMCell(
            halves.x.shape[1],
            halves.x.shape[0] // 4,
            halves.bias is not None,
            proj_size=proj_size,
            map=_hidden_map(halves),
        )
        _give_input_map(cell, halves)
    _fill(cell.input_map, halves.x, halves.bias)
    _fill(cell.hidden_map, halves.h)
    if projection is not None and cell.projection is not None:
        _fill(cell.projection, projection)
    return cell


def rnn_cell(halves: Halves, nonlinearity: Literal["tanh", "relu"]) -> RNNCell:
    """The cell of these weights; `nonlinearity` as in `RNNCell`."""
    _check(halves, gates=1)
    c_in, hidden = halves.x.shape[1], halves.h.shape[1]
    with torch.device("meta"):
        cell = RNNCell(c_in, hidden, halves.bias is not None, nonlinearity, map=_hidden_map(halves))
        _give_input_map(cell, halves)
    _fill(cell.input_map, halves.x, halves.bias)
    _fill(cell.hidden_map, halves.h)
    return cell


def take_apart(cell: Cell, system: str, *, peephole: bool = False) -> Halves:
    """The weights of a GRU, LSTM or RNN cell whose maps are dense or plain convolutions.

    Args:
        cell: its projection, and its peepholes if `peephole` allows them, are left to the caller.
        system: the receiver's name, for the message.
        peephole: whether the receiver has peepholes.

    Raises:
        ValueError: the receiver has no counterpart for the cell; the message says for what.
    """
    if type(cell) not in (GRUCell, LSTMCell, RNNCell):  # a class made from one may compute something else
        raise ValueError(f"the cell is a {type(cell).__name__}, which {system} does not have")
    assert isinstance(cell, (GRUCell, LSTMCell, RNNCell))
    if cell.input_norm is not None:
        raise ValueError(f"the cell has layer_norm=True, which {system} does not have")
    if isinstance(cell, LSTMCell) and cell.peephole is not None and not peephole:
        raise ValueError(f"the cell has peephole=True, which {system} does not have")
    x, bias, dilation = _plain(cell.input_map, system)
    h, on_state, hidden_dilation = _plain(cell.hidden_map, system)
    candidate_bias = None
    if isinstance(cell, GRUCell):
        candidate, candidate_bias, _ = _plain(cell.candidate_map, system)
        h = torch.cat([h, candidate])
        if cell.reset == "before" and candidate_bias is not None:
            on_state = candidate_bias
    if on_state is not None:
        raise ValueError("the cell's map of the state has a bias of its own: add it to input_map's")
    return Halves(x, h, bias, candidate_bias, dilation, hidden_dilation)


def cells_of(layer: Recurrent, system: str) -> list[Cell]:
    """The layer's cells, if it does nothing more than running them.

    Raises:
        ValueError: it has zoneout, recurrent dropout or a learned first state, which `system` has not.
    """
    for name in ("zoneout", "recurrent_dropout"):
        if getattr(layer, name):
            raise ValueError(f"the layer has {name}={getattr(layer, name)}, which {system} does not have")
    if len(layer.initial):
        raise ValueError(f"the layer has learn_initial_state=True, which {system} does not have")
    return [cell for cell in layer.cells if isinstance(cell, Cell)]


def alike(cells: Sequence[Cell], system: str) -> None:
    """Make sure that `cells` differ in their weights alone, as the parts of one of the receiver's layers do.

    Raises:
        ValueError: they differ in more.
    """
    first, *rest = [_kind(cell, system) for cell in cells]
    for k, kind in enumerate(rest, 1):
        if kind != first:
            found = f"cell 0 is a {' '.join(map(str, first))}, cell {k} a {' '.join(map(str, kind))}"
            raise ValueError(f"{found}: in {system} the cells of a layer are of one kind")


def _kind(cell: Cell, system: str) -> tuple[object, ...]:
    told = [f"{name}={getattr(cell, name)!r}" for name in ("reset", "nonlinearity") if hasattr(cell, name)]
    halves = take_apart(cell, system, peephole=True)
    if getattr(cell, "peephole", None) is not None:
        told.append("peephole=True")
    kernels = (*halves.x.shape[2:], *halves.h.shape[2:], halves.dilation, halves.hidden_dilation)
    return (
        type(cell).__name__,
        *told,
        f"bias={halves.bias is not None}",
        *(kernels if halves.x.ndim > 2 else ()),
    )


def _check(halves: Halves, *, gates: int, seen: int = 0) -> None:
    """seen: channels of the state that the maps see, where it is not the hidden size."""
    x, h, bias = halves.x, halves.h, halves.bias
    fits = x.ndim == h.ndim >= 2 and x.shape[0] == h.shape[0] and x.shape[0] % gates == 0
    if (
        not fits
        or h.shape[1] != (seen or x.shape[0] // gates)
        or (bias is not None and bias.shape != x.shape[:1])
    ):
        shapes = f"{tuple(x.shape)}, {tuple(h.shape)}" + ("" if bias is None else f", {tuple(bias.shape)}")
        raise ValueError(f"the weights have the shapes {shapes} (outputs first): no cell of {gates} gates")


def _map_of(weight: Tensor, dilation: int | tuple[int, ...]) -> Map:
    if weight.ndim == 2:
        return maps.dense
    conv = (maps.conv1d, maps.conv2d, maps.conv3d)[weight.ndim - 3]
    return conv(tuple(weight.shape[2:]), dilation=dilation)


def _hidden_map(halves: Halves) -> Map:
    return _map_of(halves.h, halves.hidden_dilation)


def _give_input_map(cell: Cell, halves: Halves) -> None:
    """Give the input half a kernel or a dilation of its own."""
    if halves.x.shape[2:] != halves.h.shape[2:] or halves.dilation != halves.hidden_dilation:
        made = _map_of(halves.x, halves.dilation)
        cell.input_map = made(halves.x.shape[1], halves.x.shape[0], halves.bias is not None)


def _fill(module: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    module.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone())


def _plain(module: nn.Module, system: str) -> tuple[Tensor, Tensor | None, int | tuple[int, ...]]:
    if type(module) is nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach(), 1
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        if module.groups != 1 or module.padding_mode != "zeros":
            found = f"groups={module.groups}, padding_mode={module.padding_mode!r}"
            raise ValueError(f"the cell's convolution has {found}, which {system} does not have")
        return module.weight.detach(), None if module.bias is None else module.bias.detach(), module.dilation
    raise ValueError(f"the cell's map is a {type(module).__name__}, which {system} does not have")
